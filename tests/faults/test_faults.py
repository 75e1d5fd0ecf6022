"""AWS refuses, throttles, is unreachable, or executes a request whose response is lost."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.e2e.observed import read_objects
from tests.faults import batch
from tests.faults.bench import RUN, Bench
from tests.faults.wire import Fault
from tests.scenarios import Scenarios

LOST_ANSWERS = ["answer lost, 503", "answer lost, connection error"]
PASSING = ["unavailable", "throttled", "connection error"]
# Texts of the error; S3's response to a HEAD request has no body and therefore no code.
SAYS = {
    "unavailable": "ServiceUnavailable|InternalServerError|503",
    "throttled": "SlowDown|ProvisionedThroughputExceeded|503",
    "connection error": "Could not connect to the endpoint URL",
    "denied": "AccessDenied|access denied|403|may not be used with these credentials",
    "expired": "ExpiredToken|400",
}
SDK_ATTEMPTS = 5
# The SDK's longest wait is 20 s; four of them may lie between five attempts.
MAX_SECONDS_WAITED = 4 * 20
IRREVERSIBLE = ("archive_streams_data", "delete_files_from_intermediate_bucket")


@pytest.mark.parametrize("kind", LOST_ANSWERS)
@pytest.mark.scenarios(25)
def test_answer_lost_after_any_change_makes_no_difference(
    bench: Bench, scenarios: Scenarios, kind: str
) -> None:
    def endure(fault: Fault) -> None:
        deployment, make = bench.run.with_fault(fault)
        attempt = make()
        assert len(attempt.calls) > len(bench.calls), "nothing was tried again"
        bench.check(deployment, attempt)

    faults = [Fault(kind, number) for number, call in enumerate(bench.calls, 1) if call.mutating]
    bench.survive(faults, endure, scenarios, lambda fault: [25])


@pytest.mark.parametrize("kind", PASSING)
@pytest.mark.scenarios(38)
def test_fault_that_passes_at_every_call_makes_no_difference(
    bench: Bench, scenarios: Scenarios, kind: str
) -> None:
    def endure(fault: Fault) -> None:
        deployment = bench.deploy()
        attempt = bench.attempts.make(deployment, RUN, fault=fault)
        assert len(attempt.calls) == 2 * len(bench.calls)
        assert len(attempt.waits) == len(bench.calls)
        bench.check(deployment, attempt)

    bench.survive([Fault(kind, call=0)], endure, scenarios, lambda fault: [38])


@pytest.mark.parametrize("kind", [*PASSING, "denied", "expired"])
@pytest.mark.scenarios(38, 44)
def test_fault_that_lasts_from_any_call_on_fails_loudly_and_can_be_resumed(
    bench: Bench, scenarios: Scenarios, kind: str
) -> None:
    def endure(fault: Fault) -> None:
        task = bench.calls[fault.call - 1].task
        deployment, make = bench.run.with_fault(fault)
        attempt = make()
        assert attempt.unfinished == task
        assert re.search(SAYS[kind], attempt.error or ""), attempt.error
        tried = Counter(call.request_id for call in attempt.calls[fault.call - 1 :])
        assert set(tried.values()) == {SDK_ATTEMPTS if kind in PASSING else 1}
        assert sum(attempt.waits) <= MAX_SECONDS_WAITED * len(tried)
        if task not in IRREVERSIBLE:
            resources = deployment.resources
            found = read_objects(resources, resources.source_bucket, "streams/")
            assert found == batch.FILES, "files were moved before the KPIs were stored"
        if bench.is_new(deployment, RUN, attempt, bench.calls[: fault.call - 1]):
            attempt = bench.attempts.run_to_end(deployment, RUN, attempt)
            bench.check(deployment, attempt)

    # A run succeeds even if its cost cannot be read or its metrics cannot be written.
    informing = ("GetJobRuns", "PutMetricData")
    numbers = [number for number, call in enumerate(bench.calls, 1) if call.operation not in informing]
    assert len(numbers) == len(bench.calls) - len(informing)
    if kind in ("expired", "unavailable"):
        # Other error codes of the same path: at the first call of each task and at each change.
        begin = {call.task: number for number, call in reversed(list(enumerate(bench.calls, 1)))}
        numbers = [n for n in numbers if n in begin.values() or bench.calls[n - 1].mutating]
    faults = [Fault(kind, number, lasts=True) for number in numbers]
    bench.survive(faults, endure, scenarios, lambda fault: [38 if kind in PASSING else 44])


@pytest.mark.scenarios(39)
def test_no_write_can_leave_items_unprocessed(bench: Bench, scenarios: Scenarios) -> None:
    operations = {call.operation for call in bench.calls}

    assert {"TransactWriteItems", "PutItem"} <= operations
    assert "BatchWriteItem" not in operations
    scenarios.record([39], survived=True)


@pytest.mark.scenarios(8)
def test_upload_that_is_not_complete_is_invisible(bench: Bench, scenarios: Scenarios) -> None:
    deployment = bench.deploy()
    place = {"Bucket": deployment.resources.source_bucket, "Key": "streams/unfinished.csv"}
    upload_id = deployment.resources.s3.create_multipart_upload(**place)["UploadId"]
    deployment.resources.s3.upload_part(**place, UploadId=upload_id, PartNumber=1, Body=b"user_id\n")

    attempt = bench.attempts.make(deployment, RUN)

    bench.check(deployment, attempt)
    scenarios.record([8], survived=True)
