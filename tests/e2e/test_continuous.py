"""The schedule @continuous under Airflow's real services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.commands.environment import DAGS_DIR, PLUGINS_DIR
from tests.e2e import data
from tests.e2e.airflow_services import AirflowServices
from tests.e2e.deployment import Deployment
from tests.e2e.oracle import assert_consistent

# The services need minutes, so make test-faults runs these tests.
pytestmark = pytest.mark.scenarios

RUNS = "SELECT state FROM dag_run ORDER BY id"
SENSORS = (
    "SELECT task_instance.state FROM task_instance JOIN dag_run ON dag_run.run_id = task_instance.run_id "
    "WHERE task_id = 'sense_streaming_data' ORDER BY dag_run.id"
)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Deployment], AirflowServices]]:
    """Starts Airflow's services for a deployment."""
    started: list[AirflowServices] = []

    def make(deployment: Deployment) -> AirflowServices:
        environment = deployment.environment | {"PIPELINE_SCHEDULE": "@continuous"}
        del environment["SENSOR_TIMEOUT_MINUTES"]
        started.append(AirflowServices(environment, tmp_path, DAGS_DIR, PLUGINS_DIR))
        return started[0]

    yield make
    for services in started:
        services.close()


def test_run_follows_a_run_and_waits_for_the_next_file(
    deployment: Deployment, start: Callable[[Deployment], AirflowServices]
) -> None:
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(data.listens(1, 50))})
    services = start(deployment)
    # Separate waits, each with its own time limit.
    services.wait_until(lambda: services.rows(RUNS)[:1] == [("success",)], "the end of the first run")
    waits = [("success",), ("up_for_reschedule",)]
    services.wait_until(lambda: services.rows(SENSORS) == waits, "the second run to wait")

    deployment.upload("streams/b.csv", data.stream_file(data.listens(2, 50)))
    services.wait_until(lambda: services.rows(SENSORS)[:2] == [("success",)] * 2, "the end of its wait")
    services.wait_until(lambda: services.rows(RUNS)[:2] == [("success",)] * 2, "the end of the second run")
    waits.insert(0, ("success",))
    services.wait_until(lambda: services.rows(SENSORS) == waits, "the third run to wait")

    assert services.rows(RUNS) == [("success",), ("success",), ("running",)]
    assert_consistent(deployment.resources, deployment.delivered)


def test_runs_that_fail_stop_by_themselves(
    deployment: Deployment, start: Callable[[Deployment], AirflowServices]
) -> None:
    deployment.names["KPI_TABLE_NAME"] = "no_such_table"
    services = start(deployment)

    services.wait_until(lambda: services.rows("SELECT 1 FROM dag WHERE is_paused"), "the pause of the DAG")

    ended = services.rows(f"SELECT state FROM ({RUNS}) AS runs WHERE state != 'queued'")
    assert ended == [("failed",)] * 5
