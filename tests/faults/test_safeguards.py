"""The oracle complains when a safeguard is off, so the other tests can fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest

from tests.e2e.observed import read_objects
from tests.faults.bench import RUN, Bench
from tests.faults.safeguards import SAFEGUARDS
from tests.faults.stories import another_run_comes_between, file_comes, retry_runs_beside_zombie
from tests.faults.test_interleavings import FILE_OF_THE_BATCH
from tests.faults.wire import PAUSED, Fault

Story = Callable[[Bench, str | None], None]


def fault_and_rerun(bench: Bench, without: str | None, fault: Fault | None) -> None:
    deployment = bench.deploy()
    attempt = bench.attempts.make(deployment, RUN, fault=fault, without=without)
    bench.check(deployment, bench.attempts.run_to_end(deployment, RUN, attempt))


def pause(
    bench: Bench, without: str | None, story: Callable[..., None], operation: str, task: str = ""
) -> None:
    [number, *_] = (
        number
        for number, call in enumerate(bench.calls, 1)
        if operation in call.operation and task in call.task
    )
    story(bench, Fault(PAUSED, number), without)


def item_vanishes_from_output(bench: Bench, without: str | None) -> None:
    deployment, results = bench.run.before("store_kpis_in_dynamodb")
    s3, bucket = deployment.resources.s3, deployment.resources.intermediate_bucket
    key, content = next(
        (key, content)
        for key, content in read_objects(deployment.resources, bucket, "runs/").items()
        if key.endswith(".json") and "/output/kpis/" in key and b'"disco"' in content
    )
    kept = [line for line in content.splitlines() if json.loads(line)["track_genre"] != "disco"]
    s3.put_object(Bucket=bucket, Key=key, Body=b"\n".join(kept))
    attempt = bench.attempts.make(deployment, RUN, results, "store_kpis_in_dynamodb", without=without)
    bench.check(deployment, bench.attempts.run_to_end(deployment, RUN, attempt))


overwritten = partial(file_comes, key=FILE_OF_THE_BATCH)
# The sign that it is off, and the scenarios that it guards against.
STORIES: dict[str, tuple[Story, str, tuple[int, ...]]] = {
    "items are written only over older ones": (
        partial(pause, story=another_run_comes_between, operation="TransactWriteItems"),
        "version 2, history has 3 objects",
        (31, 32, 42),
    ),
    "only the archived version is deleted": (
        partial(pause, story=overwritten, operation="DELETE streams/late.csv"),
        "its bytes are in 0 places",
        (3,),
    ),
    "the list of files is written once": (
        partial(pause, story=retry_runs_beside_zombie, operation="PUT runs/", task="list_stream_files"),
        "the zombie changed what its retry had left",
        (1, 31),
    ),
    "the listed version is read": (
        partial(pause, story=overwritten, operation="GET streams/late.csv"),
        "listens of no file",
        (2,),
    ),
    "the history must be what Glue saw": (
        # The other run starts after the check of the days' totals, which would notice its listens too.
        partial(
            pause, story=another_run_comes_between, operation="PUT (copy)", task="store_kpis_in_dynamodb"
        ),
        "history has 3 objects",
        (32,),
    ),
    "Glue's output must be whole": (item_vanishes_from_output, "table lacks the item", (30,)),
    "items of vanished genres are deleted": (
        partial(fault_and_rerun, fault=None),
        "nothing accounts for",
        (43,),
    ),
    "a copy is compared before its source is deleted": (
        partial(fault_and_rerun, fault=Fault("copy corrupted", operation="PUT (copy) streams/*late*")),
        "has other bytes than were delivered",
        (36,),
    ),
    "the report is written last": (
        partial(fault_and_rerun, fault=Fault("killed after", operation="PUT runs/*/report.json")),
        "destination",
        (23, 33),
    ),
}


def test_every_safeguard_is_switched_off_once() -> None:
    assert STORIES.keys() == SAFEGUARDS.keys()


@pytest.mark.scenarios
@pytest.mark.parametrize("safeguard", STORIES)
def test_oracle_notices_when_it_is_off_that(bench: Bench, safeguard: str) -> None:
    story, problem, _ = STORIES[safeguard]
    story(bench, None)

    with pytest.raises(AssertionError, match=problem):
        story(bench, safeguard)
