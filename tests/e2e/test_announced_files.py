"""Files that S3 announces to a queue start runs, under the real services of Airflow 3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from include.commands.environment import DAGS_DIR, PLUGINS_DIR
from tests.e2e import data
from tests.e2e.airflow_services import IS_AIRFLOW_2, AirflowServices
from tests.e2e.deployment import Deployment, connect
from tests.e2e.oracle import assert_consistent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 starts no runs by event; make test-airflow3"),
]

# The run's id is in it, so that an earlier run is not taken for a later one.
ENDED = (
    "SELECT dag_run.run_id, run_type, dag_run.state, task_instance.state FROM dag_run JOIN task_instance "
    "ON dag_run.run_id = task_instance.run_id WHERE task_id = 'sense_streaming_data' "
    "AND dag_run.state IN ('success', 'failed') ORDER BY dag_run.id"
)


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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Deployment], AirflowServices]]:
    """Starts Airflow's services for a deployment."""
    started: list[AirflowServices] = []

    def make(deployment: Deployment) -> AirflowServices:
        environment = deployment.environment | {"PIPELINE_SCHEDULE": "@daily"}
        del environment["SENSOR_TIMEOUT_MINUTES"]
        started.append(AirflowServices(environment, tmp_path, DAGS_DIR, PLUGINS_DIR))
        return started[0]

    yield make
    for services in started:
        services.close()


def wait_for_runs(services: AirflowServices, count: int) -> list[tuple[str, str, str]]:
    """Wait until this number of runs has ended; return type, state and the first task's state of each."""
    services.wait_until(lambda: len(services.rows(ENDED)) >= count, f"the end of {count} runs")
    return [(run_type, state, sensor) for _, run_type, state, sensor in services.rows(ENDED)]


def test_file_starts_a_run_and_repeated_and_lost_messages_change_nothing(
    deployment: Deployment, queue: dict[str, Any], start: Callable[[Deployment], AirflowServices]
) -> None:
    deployment.upload_all(data.catalogs())
    services = start(deployment)
    # The scheduled run of the day and that of S3's test message, in either order.
    nothing_to_do = wait_for_runs(services, 2)
    assert {sensor for _, _, sensor in nothing_to_do} == {"skipped"}

    deployment.upload("streams/a.csv", data.stream_file(data.listens(1, 50)))
    assert wait_for_runs(services, 3)[2:] == [("asset_triggered", "success", "success")]
    assert_consistent(deployment.resources, deployment.delivered)

    connect("sqs", deployment.endpoint_url).send_message(**queue, MessageBody="again")
    assert wait_for_runs(services, 4)[3:] == [("asset_triggered", "success", "skipped")]
    assert_consistent(deployment.resources, deployment.delivered)

    announce(deployment)
    deployment.upload("streams/b.csv", data.stream_file(data.listens(2, 50)))
    assert services.wait_for_run(services.trigger()) == "success"
    assert wait_for_runs(services, 5)[4:] == [("manual", "success", "success")]
    assert_consistent(deployment.resources, deployment.delivered)
