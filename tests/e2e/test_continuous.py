"""The schedule @continuous under Airflow's real services."""

from __future__ import annotations

import pytest

from tests.e2e import data
from tests.e2e.conftest import StartServices
from tests.e2e.deployment import Deployment
from tests.e2e.oracle import assert_consistent

# The services need minutes, so make test-faults runs these tests.
pytestmark = pytest.mark.scenarios

RUNS = "SELECT state FROM dag_run ORDER BY id"
SENSORS = (
    "SELECT task_instance.state FROM task_instance JOIN dag_run ON dag_run.run_id = task_instance.run_id "
    "WHERE task_id = 'sense_streaming_data' ORDER BY dag_run.id"
)


def test_run_follows_a_run_and_waits_for_the_next_file(
    deployment: Deployment, start_services: StartServices
) -> None:
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(data.listens(1, 50))})
    services = start_services(deployment, "@continuous")
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


def test_runs_that_fail_stop_by_themselves(deployment: Deployment, start_services: StartServices) -> None:
    deployment.names["KPI_TABLE_NAME"] = "no_such_table"
    services = start_services(deployment, "@continuous")

    services.wait_until(lambda: services.rows("SELECT 1 FROM dag WHERE is_paused"), "the pause of the DAG")

    ended = services.rows(f"SELECT state FROM ({RUNS}) AS runs WHERE state != 'queued'")
    assert ended == [("failed",)] * 5
