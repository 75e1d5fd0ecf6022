from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helpers.contract.keys import ending_key, manifest_key, report_key, stopped_key
from helpers.contract.records import RunEnding
from helpers.errors import ChecksStoppedError
from include.kpis.problems import ReadError
from include.kpis.reports import Archive, open_archive
from include.kpis.runs import State, WaitingFile, list_waiting, read_runs
from local_aws_support import connect
from tests.include.kpis.test_reports import REPORT

NOW = datetime.now(UTC)
ENDING: RunEnding = {
    "run_key": "run-1",
    "dag_run_id": "manual__1",
    "state": "failed",
    "task_id": "trigger_glue_job",
    "ended_at": (NOW - timedelta(minutes=1)).isoformat(),
    "reason": "Glue ended FAILED",
    "next_step": "Fix it.",
    "section": "the-glue-job-failed",
}
WARNED = {"name": "old_days", "value": 2, "limit": 0, "verdict": "warned", "message": "2 days are old"}
Put = Callable[[str, Any], None]


@pytest.fixture
def s3(local_aws: str) -> Any:
    return connect("s3", local_aws)


@pytest.fixture
def archive(s3: Any, environment: None, monkeypatch: pytest.MonkeyPatch) -> Archive:
    name = uuid.uuid4().hex[:8]
    s3.create_bucket(Bucket=f"archive-{name}")
    s3.create_bucket(Bucket=f"source-{name}")
    monkeypatch.setenv("SOURCE_BUCKET_NAME", f"source-{name}")
    return open_archive(f"archive-{name}")


@pytest.fixture
def put(s3: Any, archive: Archive) -> Put:
    def put(key: str, record: Any) -> None:
        s3.put_object(Bucket=archive.bucket, Key=key, Body=json.dumps(record))

    return put


def manifest(began: datetime = NOW, streams: Any = ()) -> dict[str, Any]:
    return {"dag_run_id": "manual__1", "frozen_at": began.isoformat(), "streams": list(streams)}


def state_of_the_run(archive: Archive) -> tuple[State, str]:
    ((run,), in_all) = read_runs(archive, newest=5)
    assert in_all == 1
    assert run.dag_run_id == "manual__1"
    return run.state, run.reason


def test_run_with_a_report_of_passed_checks_is_complete(archive: Archive, put: Put) -> None:
    put(report_key("run-1"), REPORT | {"checks": [WARNED | {"verdict": "passed", "message": ""}]})

    assert state_of_the_run(archive) == (State.COMPLETE, "")


def test_run_with_a_check_that_warned_says_why(archive: Archive, put: Put) -> None:
    put(report_key("run-1"), REPORT | {"checks": [WARNED]})

    assert state_of_the_run(archive) == (State.WARNED, "2 days are old")


def test_run_that_failed_before_its_report_has_reason_and_next_step(archive: Archive, put: Put) -> None:
    put(manifest_key("run-1"), manifest())
    put(ending_key("run-1"), ENDING)

    ((run,), _) = read_runs(archive, newest=5)

    assert (run.state, run.task_id, run.reason) == (State.FAILED, "trigger_glue_job", "Glue ended FAILED")
    assert (run.next_step, run.section) == ("Fix it.", "the-glue-job-failed")
    assert run.began is not None


def test_run_that_failed_before_it_listed_its_files_is_there_too(archive: Archive, put: Put) -> None:
    put(ending_key("run-1"), ENDING | {"task_id": "sense_streaming_data"})

    ((run,), _) = read_runs(archive, newest=5)

    assert (run.state, run.began) == (State.FAILED, None)
    assert run.at == datetime.fromisoformat(ENDING["ended_at"])


def test_run_without_files_is_skipped(archive: Archive, put: Put) -> None:
    put(ending_key("run-1"), ENDING | {"state": "skipped", "reason": "No CSV file came"})

    assert state_of_the_run(archive) == (State.SKIPPED, "No CSV file came")


def test_run_that_a_check_stopped_is_failed_though_no_failure_was_recorded(
    archive: Archive, put: Put
) -> None:
    put(manifest_key("run-1"), manifest())
    put(stopped_key("run-1"), [WARNED, WARNED | {"verdict": "stopped", "message": "The catalog shrank"}])

    assert state_of_the_run(archive) == (State.FAILED, "The catalog shrank")
    ((run,), _) = read_runs(archive, newest=5)
    assert run.section == ChecksStoppedError.advice.section


def test_run_that_has_only_listed_its_files_runs(archive: Archive, put: Put) -> None:
    put(manifest_key("run-1"), manifest(began=NOW - timedelta(hours=2)))

    assert state_of_the_run(archive)[0] == State.RUNNING


def test_run_that_was_silent_for_hours_is_not_said_to_run(archive: Archive, put: Put) -> None:
    put(manifest_key("run-1"), manifest(began=NOW - timedelta(hours=4)))

    state, reason = state_of_the_run(archive)

    assert state == State.UNFINISHED
    assert reason.endswith("It still runs, or it was stopped from outside.")


def test_run_that_was_cleared_and_then_listed_its_files_runs_again(archive: Archive, put: Put) -> None:
    put(ending_key("run-1"), ENDING)
    # Times of objects have whole seconds.
    time.sleep(1.1)
    put(manifest_key("run-1"), manifest())

    assert state_of_the_run(archive)[0] == State.RUNNING


def test_report_says_more_than_an_earlier_failure(archive: Archive, put: Put) -> None:
    put(ending_key("run-1"), ENDING | {"ended_at": "2024-06-26T00:01:00+00:00"})
    put(report_key("run-1"), REPORT)

    assert state_of_the_run(archive) == (State.COMPLETE, "")


def test_task_that_failed_after_the_report_is_a_warning(archive: Archive, put: Put) -> None:
    put(report_key("run-1"), REPORT)
    put(ending_key("run-1"), ENDING | {"task_id": "delete_files_from_intermediate_bucket"})

    state, reason = state_of_the_run(archive)

    assert state == State.WARNED
    assert reason.startswith(
        "delete_files_from_intermediate_bucket failed after the report was written: Glue"
    )


@pytest.mark.parametrize("recorded", [True, False])
def test_run_without_a_valid_row_is_failed(archive: Archive, put: Put, recorded: bool) -> None:
    put(report_key("run-1"), REPORT | {"status": "no_valid_rows"})
    if recorded:
        put(ending_key("run-1"), ENDING | {"reason": "a.csv: empty"})

    state, reason = state_of_the_run(archive)

    assert state == State.FAILED
    assert reason == (
        "a.csv: empty" if recorded else "No stream file had a valid row; the files are in quarantine."
    )


def test_run_whose_files_were_all_left_is_skipped(archive: Archive, put: Put) -> None:
    put(report_key("run-1"), REPORT | {"status": "all_left"})

    assert state_of_the_run(archive) == (
        State.SKIPPED,
        "Every stream file was left in the source bucket.",
    )


def test_only_the_newest_runs_are_read_newest_first(archive: Archive, put: Put) -> None:
    for hour in range(12):
        # Run keys that do not sort by time, as those of scheduled and manual runs do not.
        key = f"run-{'ba'[hour % 2]}-{hour}"
        put(report_key(key), REPORT | {"run_key": key, "completed_at": f"2024-06-26T{hour:02d}:00:00+00:00"})
    requests: list[str] = []
    archive.s3.meta.events.register("before-send.s3", lambda request, **_: requests.append(request.url))

    runs, in_all = read_runs(archive, newest=4)

    # moto keeps whole seconds: of reports of the same second any may be the newest.
    assert len({run.run_key for run in runs}) == 4
    ended = [run.ended for run in runs if run.ended]
    assert ended == sorted(ended, reverse=True)
    assert in_all == 12
    assert len(requests) == 1 + 4


def test_archive_without_runs_has_none(archive: Archive) -> None:
    assert read_runs(archive, newest=5) == ([], 0)


class TestWaitingFiles:
    def test_files_that_no_run_works_on_wait(self, archive: Archive, put: Put, s3: Any) -> None:
        bucket = archive.bucket.replace("archive", "source")
        for key in ("streams/b.csv", "streams/a.csv.gz", "streams/notes.txt", "songs/songs.csv"):
            s3.put_object(Bucket=bucket, Key=key, Body=b"123")
        etag = s3.head_object(Bucket=bucket, Key="streams/b.csv")["ETag"]
        put(manifest_key("run-1"), manifest(streams=[{"key": "streams/b.csv", "etag": etag}]))

        runs, _ = read_runs(archive, newest=5)

        [waiting] = list_waiting(archive, runs) or []
        assert (waiting.key, waiting.size) == ("streams/a.csv.gz", 3)

    def test_files_of_a_failed_run_wait_again(self, archive: Archive, put: Put, s3: Any) -> None:
        bucket = archive.bucket.replace("archive", "source")
        s3.put_object(Bucket=bucket, Key="streams/b.csv", Body=b"123")
        etag = s3.head_object(Bucket=bucket, Key="streams/b.csv")["ETag"]
        put(manifest_key("run-1"), manifest(streams=[{"key": "streams/b.csv", "etag": etag}]))
        put(ending_key("run-1"), ENDING)

        runs, _ = read_runs(archive, newest=5)

        assert [file.key for file in list_waiting(archive, runs) or []] == ["streams/b.csv"]

    def test_source_that_is_not_named_or_missing_is_said(
        self, archive: Archive, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOURCE_BUCKET_NAME", "no-such-bucket")
        with pytest.raises(ReadError, match=r"The bucket no-such-bucket does not exist\."):
            list_waiting(archive, [])

        monkeypatch.delenv("SOURCE_BUCKET_NAME")
        nothing: list[WaitingFile] | None = list_waiting(archive, [])
        assert nothing is None


def test_run_that_is_asked_for_is_read_even_if_it_is_older(archive: Archive, put: Put) -> None:
    for number in range(3):
        put(f"runs/run-{number}/ending.json", ENDING | {"run_key": f"run-{number}"})

    (newest,), _ = read_runs(archive, newest=1)
    others = [number for number in range(3) if f"run-{number}" != newest.run_key]
    runs, in_all = read_runs(archive, newest=1, also=f"run-{others[0]}")

    assert {run.run_key for run in runs} == {newest.run_key, f"run-{others[0]}"}
    assert in_all == 3
    assert read_runs(archive, newest=3, also="run-1")[1] == 3
