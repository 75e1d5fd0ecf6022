"""Files that S3 announces to a queue start runs, under the real services of Airflow 3."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e import data
from tests.e2e.airflow_services import IS_AIRFLOW_2, AirflowServices
from tests.e2e.conftest import StartServices
from tests.e2e.deployment import Deployment, connect
from tests.e2e.oracle import assert_consistent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 starts no runs by event; make test-airflow3"),
]

SENSED = (
    "SELECT task_instance.state FROM dag_run JOIN task_instance ON dag_run.run_id = task_instance.run_id "
    "WHERE task_id = 'sense_streaming_data' AND run_type = ? AND dag_run.state IN ('success', 'failed') "
    "ORDER BY dag_run.id"
)
BY_EVENT = "asset_triggered"


@pytest.fixture
def queue(deployment: Deployment) -> dict[str, Any]:
    """The queue to which S3 announces the deployment's files, as the stack sets it."""
    sqs = connect("sqs", deployment.endpoint_url)
    created = sqs.create_queue(QueueName=deployment.resources.source_bucket)
    attributes = sqs.get_queue_attributes(QueueUrl=created["QueueUrl"], AttributeNames=["QueueArn"])
    announce(deployment, attributes["Attributes"]["QueueArn"])
    deployment.names["STREAMS_QUEUE_URL"] = created["QueueUrl"]
    return {"QueueUrl": created["QueueUrl"]}


def announce(deployment: Deployment, *queue_arns: str) -> None:
    """Make S3 announce new stream files to these queues."""
    rules = [{"Name": "prefix", "Value": "streams/"}]
    deployment.resources.s3.put_bucket_notification_configuration(
        Bucket=deployment.resources.source_bucket,
        NotificationConfiguration={
            "QueueConfigurations": [
                {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"], "Filter": {"Key": {"FilterRules": rules}}}
                for arn in queue_arns
            ]
        },
    )


def wait_for_runs(services: AirflowServices, run_type: str, count: int) -> list[str]:
    """Wait until this number of runs of the type has ended; return the state of each one's first task."""
    services.wait_until(lambda: len(services.rows(SENSED, run_type)) >= count, f"{count} runs {run_type}")
    return [state for (state,) in services.rows(SENSED, run_type)]


def test_files_start_runs_and_a_repeated_message_changes_nothing(
    deployment: Deployment, queue: dict[str, Any], start_services: StartServices
) -> None:
    deployment.upload_all(data.catalogs())
    services = start_services(deployment, "@yearly")
    wait_for_runs(services, "scheduled", 1)
    # S3 sends a test message to a new queue.
    assert wait_for_runs(services, BY_EVENT, 1) == ["skipped"]

    deployment.upload("streams/a.csv", data.stream_file(data.listens(1, 50)))
    services.wait_for_task("list_stream_files", "success")
    # They come during a run, and together they start one more.
    for seed in (2, 3, 4):
        deployment.upload(f"streams/{seed}.csv", data.stream_file(data.listens(seed, 50)))
    assert wait_for_runs(services, BY_EVENT, 3) == ["skipped", "success", "success"]
    assert_consistent(deployment.resources, deployment.delivered)

    connect("sqs", deployment.endpoint_url).send_message(**queue, MessageBody="again")
    assert wait_for_runs(services, BY_EVENT, 4) == ["skipped", "success", "success", "skipped"]
    assert_consistent(deployment.resources, deployment.delivered)


def test_file_whose_message_is_lost_waits_for_the_next_time_of_the_schedule(
    deployment: Deployment, queue: dict[str, Any], start_services: StartServices
) -> None:
    deployment.upload_all(data.catalogs())
    announce(deployment)
    # S3's test message would start a run too.
    connect("sqs", deployment.endpoint_url).purge_queue(**queue)
    services = start_services(deployment, "* * * * *")
    assert wait_for_runs(services, "scheduled", 1)[0] == "skipped"

    deployment.upload("streams/a.csv", data.stream_file(data.listens(1, 50)))

    services.wait_until(lambda: ("success",) in services.rows(SENSED, "scheduled"), "the end of its run")
    assert_consistent(deployment.resources, deployment.delivered)
