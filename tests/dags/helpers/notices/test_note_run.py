import json
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException, AirflowSkipException
from pipeline_support import RUN_ID, Pipeline

from helpers.contract.keys import report_key, run_key_of
from helpers.contract.records import FAILED
from helpers.notices import run_links
from helpers.notices.note_run import HEADING, MAX_NOTE, XCOM_KEY, note_run, run_note
from helpers.notices.record_ending import record_ending

REPORT: dict[str, Any] = {
    "totals": {
        "files": 5,
        "archived": 4,
        "quarantined": 1,
        "left": 0,
        "rows": 33_320,
        "valid": 33_200,
        "rejected": 120,
        "rejected_by_reason": {"empty user_id": 70, "invalid listen_time": 50},
        "new": 32_962,
        "repeated": 238,
    },
    "days": {"2024-06-26": {"total": 10}, "2024-06-25": {"total": 20_000}},
    "kpi_items_written": 230,
    "kpi_items_deleted": 1,
    "reprocess_dates": [],
    "files": [],
    "ignored_keys": [],
    "completed_at": "2999-01-01T00:00:00+00:00",
}


@dataclass
class Run:
    """A DAG run, as its tasks see it."""

    started_at: datetime | None = None

    def end(self, failed: str | None = None) -> str:
        """End the run with this task failed, or well; return the note that its last task leaves."""
        pushed: dict[str, str] = {}
        task_instance = SimpleNamespace(
            task_id=failed or "archive_streams_data",
            xcom_push=lambda key, value: pushed.update({key: value}),
        )
        context: Any = {
            "task_instance": task_instance,
            "run_id": RUN_ID,
            "dag_run": SimpleNamespace(start_date=self.started_at),
        }
        note_run(context | {"exception": AirflowFailException("no")} if failed else context)
        return pushed[XCOM_KEY]


@pytest.fixture
def run(pipeline: Pipeline) -> Run:
    return Run()


def put_report(pipeline: Pipeline, **changes: Any) -> None:
    body = json.dumps(REPORT | changes)
    pipeline.s3.put_object(
        Bucket=pipeline.config.archive_bucket, Key=report_key(run_key_of(RUN_ID)), Body=body
    )


def test_note_says_what_the_run_did_and_where_to_look(pipeline: Pipeline, run: Run) -> None:
    put_report(pipeline)

    *lines, whole_report = run.end().split("\n\n")

    assert lines == [
        f"{HEADING}: Files: 5 = 4 archived + 1 quarantined",
        "Rows: 33,320 = 33,200 valid + 120 rejected (empty user_id 70, invalid listen_time 50)",
        "Valid rows: 32,962 new + 238 repeated",
        "Days: 2 (2024-06-25 to 2024-06-26), 20,010 listens; KPI items: 230 written, 1 deleted",
    ]
    # Without a dashboard or AWS's console, a link could only lead to JSON.
    stored = f"s3://{pipeline.config.archive_bucket}/{report_key(run_key_of(RUN_ID))}"
    assert whole_report == f"The whole report: `{stored}`"


def test_note_says_how_many_listens_were_late_and_what_glue_cost(pipeline: Pipeline, run: Run) -> None:
    glue = {"job_runs": 2, "dpu_seconds": 1234.0, "estimated_usd": 0.150822}
    put_report(pipeline, totals=REPORT["totals"] | {"late": 1_200}, glue=glue)

    note = run.end()

    assert "Valid rows: 32,962 new (1,200 of them late) + 238 repeated" in note
    assert "Glue: 1,234 DPU-seconds, about 0.151 US dollars" in note


@pytest.mark.parametrize("failed", [None, "trigger_glue_job"], ids=["skipped", "failed"])
@pytest.mark.parametrize("with_report", [True, False])
def test_note_links_to_the_dashboard_whether_or_not_there_is_a_report(
    pipeline: Pipeline, run: Run, monkeypatch: pytest.MonkeyPatch, failed: str | None, with_report: bool
) -> None:
    monkeypatch.setenv("DASHBOARD_URL", "http://localhost:8501/")
    if with_report:
        put_report(pipeline)

    link = run.end(failed).split("\n\n")[-1]

    page = f"http://localhost:8501/pipeline?run={run_key_of(RUN_ID)}"
    assert link == f"[This run in the dashboard]({page})"


def test_note_links_to_the_report_and_the_quarantine_in_the_console_of_aws(
    pipeline: Pipeline, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_report(pipeline)
    monkeypatch.setattr(run_links, "console_url", lambda client: "https://console.aws.amazon.com")

    *_, quarantine, whole_report = run.end().split("\n\n")

    assert quarantine.startswith("[Quarantined files and rows](https://console.aws.amazon.com/s3/buckets/")
    assert whole_report.startswith("[The whole report](https://console.aws.amazon.com/s3/object/")


WARNED = {"name": "old_days", "value": 1, "limit": 0, "verdict": "warned", "message": "1 days are old"}


def test_note_has_the_checks_that_did_not_simply_pass(pipeline: Pipeline, run: Run) -> None:
    put_report(pipeline, checks=[WARNED, WARNED | {"verdict": "passed", "message": ""}])

    assert run.end().split("\n\n")[:2] == [
        f"{HEADING}: Check warned: `1 days are old`",
        "Files: 5 = 4 archived + 1 quarantined",
    ]


def test_note_of_a_run_that_a_check_stopped_says_which(pipeline: Pipeline, run: Run) -> None:
    checks = json.dumps([WARNED | {"verdict": "stopped", "message": "The songs catalog shrank"}])
    key = f"runs/{run_key_of(RUN_ID)}/stopped.json"
    pipeline.s3.put_object(Bucket=pipeline.config.archive_bucket, Key=key, Body=checks)

    note = run.end("move_files_to_intermediate_bucket")

    assert "Check stopped: `The songs catalog shrank`" in note


@pytest.mark.scenarios(63)
def test_note_of_a_complete_run_that_is_repeated_names_the_files_that_wait(
    pipeline: Pipeline, run: Run
) -> None:
    put_report(pipeline, completed_at="2024-06-26T00:00:00+00:00", ignored_keys=["streams/notes.txt"])
    pipeline.upload("streams/new.csv", "")
    run.started_at = datetime(2024, 6, 27, tzinfo=UTC)

    note = run.end()

    assert "The run was complete before it was cleared or repeated, so nothing was done again." in note
    assert "1 new file waits in streams/ (`streams/new.csv`), which this run did not take" in note
    assert "neither in .csv nor in .csv.gz: `streams/notes.txt`." in note


def test_note_of_days_that_were_computed_again_speaks_of_no_files(pipeline: Pipeline, run: Run) -> None:
    none = dict.fromkeys(REPORT["totals"], 0) | {"rejected_by_reason": {}}
    put_report(pipeline, reprocess_dates=["2024-06-25"], totals=none, days={"2024-06-25": {"total": 7}})

    note = run.end()

    assert "Days recomputed from the history, without new files." in note
    assert "Days: 1 (2024-06-25), 7 listens" in note
    assert "Files" not in note
    assert "quarantine" not in note


def test_note_of_a_red_run_names_its_task_and_the_remedy(run: Run) -> None:
    note = run.end("extract_and_combine_streams")

    assert (
        "Failed tasks: extract_and_combine_streams. The end of the task's log says why and what to do" in note
    )


def test_note_of_a_failed_run_begins_with_the_reason_and_what_to_do(pipeline: Pipeline, run: Run) -> None:
    record_ending(RUN_ID, "trigger_glue_job", FAILED, "Two\nlines `of` it", "Do this.")

    why, next_step, failed = run.end("trigger_glue_job").split("\n\n")

    assert (why, next_step) == (f"{HEADING}: Failed: `Two lines 'of' it`", "Next: Do this.")
    assert failed.startswith("Failed tasks: trigger_glue_job.")


def test_note_has_no_reason_of_a_task_that_succeeded_when_it_was_cleared(
    pipeline: Pipeline, run: Run
) -> None:
    record_ending(RUN_ID, "list_stream_files", FAILED, "old", "Do this.")

    assert "old" not in run.end("trigger_glue_job")
    assert "old" not in run.end()


def test_note_of_a_red_run_with_a_report_has_both(pipeline: Pipeline, run: Run) -> None:
    put_report(pipeline, status="no_valid_rows", days={})

    note = run.end("move_files_to_intermediate_bucket")

    assert "Failed tasks: move_files_to_intermediate_bucket." in note
    assert "no row was valid, so the files are in quarantine" in note
    assert "before the KPIs are stored" not in note
    assert "Rows: 33,320" in note


def test_note_of_a_skipped_run_says_that_there_was_nothing_to_do(run: Run) -> None:
    assert run.end() == (
        f"{HEADING}: Nothing to do: there is no new stream file. The next run takes what comes."
    )


def test_note_of_a_skipped_task_is_not_that_of_a_failed_one(run: Run) -> None:
    context: Any = {
        "task_instance": SimpleNamespace(
            task_id="sense_streaming_data", xcom_push=lambda key, value: notes.append(value)
        ),
        "run_id": RUN_ID,
        "dag_run": SimpleNamespace(start_date=None),
        "exception": AirflowSkipException("no file"),
    }
    notes: list[str] = []

    note_run(context)

    assert notes == [run.end()]


def test_note_that_cannot_be_left_changes_nothing(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(key: str, value: str) -> None:
        raise RuntimeError("no XCom here")

    context: Any = {
        "task_instance": SimpleNamespace(task_id="archive_streams_data", xcom_push=refuse),
        "run_id": RUN_ID,
        "dag_run": SimpleNamespace(start_date=None),
    }

    note_run(context)

    assert f"Run {RUN_ID} will have no note of this task" in caplog.text


def test_report_that_cannot_be_read_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_BUCKET_NAME", "no-such-bucket")

    note = run.end()

    assert note.startswith(f"{HEADING}: The run report could not be read: ")
    assert "NoSuchBucket" in note


def test_note_fits_into_airflows_database_and_cuts_no_link() -> None:
    failed = [f"task_{number}" for number in range(90)]
    links = [f"[one](http://{'x' * 80})", f"[two](http://{'y' * 700})"]

    note = run_note(REPORT, failed[:30], links)

    assert len(note) <= MAX_NOTE
    assert note.endswith(links[0])
    assert len(run_note(REPORT, failed * 3, links)) == MAX_NOTE
