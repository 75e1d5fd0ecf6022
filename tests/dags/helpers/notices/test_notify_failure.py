import logging
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ConnectionClosedError
from pipeline_support import RUN_ID, RUN_KEY, Pipeline, Topic, Wire, answer, fail

from helpers.contract.keys import ending_key
from helpers.errors import GlueJobFailedError, NoValidRowsError
from helpers.notices.notify_failure import failure_message, notify_failure

DENIED = "<ErrorResponse><Error><Code>AuthorizationError</Code><Message>no</Message></Error></ErrorResponse>"


AIRFLOW = "http://localhost:8083/dags/music_streaming_pipeline"
RUN_URL = f"{AIRFLOW}/grid?dag_run_id={quote(RUN_ID)}"
LOG_URL = f"{RUN_URL}&task_id=trigger_glue_job&base_date=2024-06-26T00%3A00%3A00%2B0000&tab=logs"


def failed(
    task_id: str = "trigger_glue_job", exception: Any = "Glue ended FAILED", log_url: str = LOG_URL
) -> Any:
    """The context that Airflow gives to the callback of a failed task."""
    task_instance = SimpleNamespace(
        dag_id="music_streaming_pipeline",
        task_id=task_id,
        try_number=3,
        log_url=log_url,
    )
    return {"task_instance": task_instance, "run_id": RUN_ID, "exception": exception}


def test_subscriber_reads_what_failed_and_why_and_where_to_look(
    topic: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    reason = "Glue job run jr_1 of kpis ended FAILED: no manifest"
    context = failed(exception=GlueJobFailedError(reason))

    notify_failure(context)

    assert caplog.messages[-1] == (
        f"{reason}\n"
        "Next step: Fix what the reason names, then clear the failed task and its downstream tasks.\n"
        "More: docs/runbook.md#the-glue-job-failed"
    )
    [message] = topic.messages()
    assert message["TopicArn"] == topic.arn
    assert message["Subject"] == "music_streaming_pipeline: trigger_glue_job failed"
    assert message["Message"].splitlines() == [
        f"Reason: {reason}",
        "Next:   Fix what the reason names, then clear the failed task and its downstream tasks.",
        "More:   docs/runbook.md#the-glue-job-failed",
        "Task:   trigger_glue_job (try 3)",
        f"Log:    {context['task_instance'].log_url}",
        f"Run:    {RUN_ID}",
        f"In UI:  {RUN_URL}",
        "DAG:    music_streaming_pipeline",
        "",
        "Nothing is archived before a run's KPIs are stored, and any task may be cleared at any time.",
    ]


@pytest.mark.parametrize("attempt", ["", "/mapped/2", "?try_number=1"])
def test_run_is_found_in_the_addresses_of_airflow_3(attempt: str) -> None:
    run_url = f"{AIRFLOW}/runs/{quote(RUN_ID)}"

    message = failure_message(failed(log_url=f"{run_url}/tasks/trigger_glue_job{attempt}"))[1]

    assert f"\nIn UI:  {run_url}\n" in message


def test_run_without_a_valid_row_is_not_said_to_be_untouched() -> None:
    error = NoValidRowsError(
        "None of 2 stream files has a valid row (streams/a.csv: empty). They were moved to …"
    )

    message = failure_message(failed(exception=error))[1]

    assert "clear nothing" in message
    assert message.endswith(
        "The files are in quarantine with their reasons, the KPIs are unchanged, and this run is complete."
    )
    assert "any task may be cleared" not in message


def test_message_leads_to_the_runbook_where_it_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_URL", "https://example.com/wiki/runbook")

    message = failure_message(failed(exception=KeyError("x")))[1]

    assert "More:   https://example.com/wiki/runbook#any-other-failure" in message


@pytest.mark.parametrize("value", [None, "", "  "], ids=["not set", "empty", "blank"])
def test_nothing_is_sent_without_a_topic(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("ALERT_SNS_TOPIC_ARN")
    else:
        monkeypatch.setenv("ALERT_SNS_TOPIC_ARN", value)

    notify_failure(failed())

    assert topic.messages() == []


def test_failure_is_kept_beside_the_records_of_its_run(pipeline: Pipeline) -> None:
    error = GlueJobFailedError("Glue job run jr_1 of kpis ended FAILED: " + "x" * 10_000)

    notify_failure(failed(exception=error))

    ending = pipeline.archived_json(ending_key(RUN_KEY))
    assert ending.pop("ended_at") > "2026"
    assert ending == {
        "run_key": RUN_KEY,
        "dag_run_id": RUN_ID,
        "state": "failed",
        "task_id": "trigger_glue_job",
        "reason": str(error)[:4000],
        "next_step": error.advice.next_step,
        "section": error.advice.section,
    }


@pytest.mark.parametrize("missing", ["setting", "bucket"])
def test_failure_that_cannot_be_kept_is_logged_and_hides_nothing(
    pipeline: Pipeline,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    if missing == "bucket":
        pipeline.s3.delete_bucket(Bucket=pipeline.config.archive_bucket)
    else:
        monkeypatch.setenv("ARCHIVE_BUCKET_NAME", "")

    notify_failure(failed())

    assert f"How run {RUN_ID} ended was not recorded" in caplog.text


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(answer(403, DENIED), id="access denied"),
        pytest.param(fail(ValueError("anything else")), id="other error"),
    ],
)
def test_message_that_cannot_be_sent_is_logged_and_hides_no_failure(
    topic: Topic, wire: Wire, caplog: pytest.LogCaptureFixture, trouble: Any
) -> None:
    wire.once("POST", trouble)

    with caplog.at_level(logging.WARNING):
        notify_failure(failed())

    assert wire.count("POST") == 1
    assert topic.messages() == []
    assert f"No alert was sent to {topic.arn}" in caplog.text


def test_topic_that_does_not_exist_is_logged_and_hides_no_failure(
    topic: Topic, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERT_SNS_TOPIC_ARN", f"{topic.arn}-gone")

    with caplog.at_level(logging.WARNING):
        notify_failure(failed())

    assert f"No alert was sent to {topic.arn}-gone" in caplog.text
    assert "NotFound" in caplog.text


def test_connection_that_breaks_is_tried_again(topic: Topic, wire: Wire) -> None:
    wire.once("POST", fail(ConnectionClosedError(endpoint_url="sns")))

    notify_failure(failed())

    assert len(topic.messages()) == 1


def test_long_names_and_reasons_are_cut_to_what_sns_takes(topic: Topic) -> None:
    context = failed(task_id="t" * 200, exception="x" * 300_000)

    notify_failure(context)

    [message] = topic.messages()
    assert len(message["Subject"]) == 99, "SNS takes less than 100 characters"
    assert message["Subject"].startswith("music_streaming_pipeline: ttt")
    assert len(message["Message"].encode()) < 256 * 1024
    assert "x" * 1000 in message["Message"]
    assert context["task_instance"].log_url in message["Message"], "what follows a long reason is still there"


def test_failure_without_an_exception_has_a_message_too(topic: Topic) -> None:
    context = failed()
    del context["exception"]

    assert "Reason: no exception was recorded; see the log\n" in failure_message(context)[1]
    notify_failure(context)

    assert len(topic.messages()) == 1
