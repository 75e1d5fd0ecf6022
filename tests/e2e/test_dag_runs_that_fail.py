"""The real DAG when it has nothing to do or cannot continue: it is skipped or fails and loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e import data
from tests.e2e.airflow_process import AirflowProcess, DagRunOutcome
from tests.e2e.conftest import MakeRunner
from tests.e2e.data import FIRST_DAY
from tests.e2e.deployment import Deployment, connect
from tests.e2e.observed import observe, read_objects, scan_items
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent


@pytest.fixture
def alerts(stack: Deployment) -> Callable[[], list[dict[str, str]]]:
    """Returns the failure messages that the topic has received since the test began."""
    sns, sqs = (connect(service, stack.endpoint_url) for service in ("sns", "sqs"))
    queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=stack.names["ALERT_SNS_TOPIC_ARN"], Protocol="sqs", Endpoint=arn)
    sqs.purge_queue(QueueUrl=queue)

    def receive() -> list[dict[str, str]]:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in messages]

    return receive


@pytest.fixture(scope="module")
def established(make_deployment: Callable[[], Deployment], make_runner: MakeRunner) -> Deployment:
    """A pipeline that has KPIs of an earlier run."""
    deployment = make_deployment()
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(data.listens(1, 50))})
    make_runner(deployment).run()
    return deployment


@pytest.mark.scenarios(14)
def test_run_without_csv_files_is_skipped_and_changes_nothing(
    established: Deployment, airflow: AirflowProcess
) -> None:
    outcomes: list[DagRunOutcome] = []
    assert_another_run_changes_nothing(
        established.resources, lambda: outcomes.append(airflow.run_dag(established.environment))
    )

    ran = {task for task, state in outcomes[0].task_states.items() if state != "skipped"}
    assert (ran, outcomes[0].errors) == ({"choose_input"}, {})


@pytest.mark.scenarios(14)
def test_run_whose_only_file_is_not_csv_is_skipped_and_changes_nothing(
    deployment: Deployment, airflow: AirflowProcess
) -> None:
    deployment.upload_all({**data.catalogs(), "streams/a.csv.bak": b"the sensor takes it for a stream file"})
    outcomes: list[DagRunOutcome] = []
    assert_another_run_changes_nothing(
        deployment.resources, lambda: outcomes.append(airflow.run_dag(deployment.environment))
    )

    ran = {task for task, state in outcomes[0].task_states.items() if state != "skipped"}
    assert (ran, outcomes[0].errors) == ({"choose_input"}, {})


@pytest.mark.scenarios(19)
def test_run_whose_files_have_no_valid_row_quarantines_them_and_ends_red(
    established: Deployment, airflow: AirflowProcess, alerts: Callable[[], list[dict[str, str]]]
) -> None:
    before = scan_items(established.resources)
    established.upload("streams/no header.csv", b"1,2,2024-06-25 10:00:00\n")
    established.upload("streams/bad rows.csv", data.stream_file([("", "quoted", "yesterday")]))

    outcome = airflow.run_dag(established.environment)

    assert outcome.state == "failed"
    message = outcome.errors["move_files_to_intermediate_bucket"]
    assert "None of 2 stream files has a valid row" in message
    assert "streams/no header.csv: missing column" in message
    assert outcome.task_states["trigger_glue_job"] == "upstream_failed"
    assert scan_items(established.resources) == before
    assert_consistent(established.resources, established.delivered)
    report = next(
        report
        for report in observe(established.resources).reports.values()
        if report["dag_run_id"] == outcome.run_id
    )
    assert (report["status"], report["totals"]["quarantined"]) == ("no_valid_rows", 2)
    [alert] = alerts()
    assert alert["Subject"] == "music_streaming_pipeline: move_files_to_intermediate_bucket failed"
    assert "None of 2 stream files has a valid row" in alert["Message"]


def test_wrong_catalog_fails_the_run_immediately_and_moves_nothing(
    deployment: Deployment, airflow: AirflowProcess
) -> None:
    deployment.upload_all(data.catalogs(data.songs_without("track_genre")))
    deployment.upload("streams/good.csv", data.stream_file(data.listens(1, 20)))
    deployment.upload("streams/bad.csv", b"no header\n")

    outcome = airflow.run_dag(deployment.environment)

    assert outcome.state == "failed"
    assert outcome.errors.keys() == {"move_files_to_intermediate_bucket"}
    message = outcome.errors["move_files_to_intermediate_bucket"]
    assert "songs/songs.csv cannot be used: missing column track_genre" in message
    assert "Upload corrected files and trigger a new run" in message
    _assert_nothing_moved(deployment)


@pytest.mark.scenarios(29)
def test_failed_glue_job_ends_the_run_red_with_its_message_and_output_and_moves_nothing(
    deployment: Deployment, make_runner: MakeRunner, airflow: AirflowProcess
) -> None:
    resources = deployment.resources
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(data.listens(1, 30))})
    damaged = f"listens/listen_date={FIRST_DAY}/damaged.parquet"
    resources.s3.put_object(Bucket=resources.archive_bucket, Key=damaged, Body=b"no Parquet at all")

    outcome = airflow.run_dag(deployment.environment)

    assert outcome.state == "failed"
    assert outcome.errors.keys() == {"trigger_glue_job"}
    assert "ended FAILED" in outcome.errors["trigger_glue_job"]
    assert "damaged.parquet" in outcome.errors["trigger_glue_job"]
    assert "30 rows read" in outcome.logs["trigger_glue_job"]
    _assert_nothing_moved(deployment)

    # Once the cause is fixed, the same DAG run continues.
    resources.s3.delete_object(Bucket=resources.archive_bucket, Key=damaged)
    make_runner(deployment, dag_run_id=outcome.run_id).run()
    assert_consistent(resources, deployment.delivered)


@pytest.mark.scenarios(29)
@pytest.mark.parametrize("state", ["STOPPED", "ERROR", "TIMEOUT", "EXPIRED", "FAILED"])
def test_glue_job_that_does_not_succeed_fails_the_run_immediately_and_moves_nothing(
    deployment: Deployment, airflow: AirflowProcess, state: str
) -> None:
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(data.listens(1, 30))})
    job_runs = _let_glue_end(deployment, state)

    outcome = airflow.run_dag(deployment.environment)

    assert outcome.state == "failed"
    assert f"ended {state}" in outcome.errors["trigger_glue_job"]
    assert outcome.attempts["trigger_glue_job"] == 1
    assert outcome.task_states["archive_streams_data"] == "upstream_failed"
    assert [run["JobRunState"] for run in job_runs()] == [state]
    _assert_nothing_moved(deployment)


@pytest.mark.scenarios(30)
def test_glue_job_that_succeeds_without_output_ends_the_run_red_and_moves_nothing(
    deployment: Deployment, airflow: AirflowProcess
) -> None:
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(data.listens(1, 30))})
    job_runs = _let_glue_end(deployment, "SUCCEEDED")

    outcome = airflow.run_dag(deployment.environment)

    assert outcome.state == "failed"
    assert outcome.errors.keys() == {"store_kpis_in_dynamodb"}
    assert "summary.json" in outcome.errors["store_kpis_in_dynamodb"]
    assert "Clear trigger_glue_job" in outcome.errors["store_kpis_in_dynamodb"]
    assert [run["JobRunState"] for run in job_runs()] == ["SUCCEEDED"]
    _assert_nothing_moved(deployment)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SOURCE_BUCKET_NAME", None, "The environment variable SOURCE_BUCKET_NAME is not set"),
        (
            "ARCHIVE_BUCKET_NAME",
            "no-such-bucket",
            "The bucket 'no-such-bucket', named by ARCHIVE_BUCKET_NAME",
        ),
    ],
)
@pytest.mark.scenarios(45)
def test_wrong_setting_fails_the_first_task_at_its_first_attempt_and_is_named(
    deployment: Deployment, airflow: AirflowProcess, variable: str, value: str | None, message: str
) -> None:
    environment = {name: text for name, text in deployment.environment.items() if name != variable}
    environment |= {variable: value} if value else {}

    outcome = airflow.run_dag(environment)

    assert outcome.state == "failed"
    assert outcome.errors.keys() == {"sense_streaming_data"}
    assert outcome.errors["sense_streaming_data"].startswith(message)
    assert outcome.attempts["sense_streaming_data"] == 1


def _assert_nothing_moved(deployment: Deployment) -> None:
    resources = deployment.resources
    delivered = {upload.key: upload.content for upload in deployment.delivered.uploads}
    assert read_objects(resources, resources.source_bucket, "streams/") == delivered
    assert scan_items(resources) == {}
    for prefix in ("streams/", "quarantine/"):
        assert read_objects(resources, resources.archive_bucket, prefix) == {}
    assert observe(resources).reports == {}


def _let_glue_end(deployment: Deployment, state: str) -> Callable[[], list[dict[str, Any]]]:
    """Make each run of the deployment's job end in that state; return a function that lists its runs."""
    name = deployment.names["GLUE_JOB_NAME"]
    glue = connect("glue", deployment.endpoint_url)
    job = f"arn:aws:glue:us-east-1:123456789012:job/{name}"
    glue.tag_resource(ResourceArn=job, TagsToAdd={"local-aws:end-state": state})
    return lambda: glue.get_job_runs(JobName=name)["JobRuns"]
