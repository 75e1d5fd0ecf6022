"""Runs under Airflow's real services that fail, or whose services are killed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.commands.environment import DAGS_DIR, PLUGINS_DIR
from tests.e2e import data
from tests.e2e.airflow_services import IS_AIRFLOW_2, AirflowServices
from tests.e2e.deployment import Deployment
from tests.e2e.oracle import assert_consistent

pytestmark = pytest.mark.slow

# Seconds without a heartbeat after which Airflow takes a task for dead; its own limit is five minutes.
DEAD_AFTER = (
    ("AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD", "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL")
    if IS_AIRFLOW_2
    else (
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL",
    )
)


@contextlib.contextmanager
def services(deployment: Deployment, folder: Path, **variables: str) -> Iterator[AirflowServices]:
    """Deliver a file and start the services; the run begins."""
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(data.listens(1, 50))})
    started = AirflowServices(deployment.environment | variables, folder, DAGS_DIR, PLUGINS_DIR)
    try:
        yield started
    finally:
        started.close()


def test_failed_glue_job_fails_the_run_with_its_message(
    make_deployment: Callable[[], Deployment], tmp_path: Path
) -> None:
    deployment = make_deployment()
    place = {"Bucket": deployment.resources.intermediate_bucket, "Key": "artifacts/broken.py"}
    deployment.resources.s3.put_object(**place, Body=b"raise RuntimeError('the disk is full')")
    script = f"s3://{place['Bucket']}/{place['Key']}"

    with services(deployment, tmp_path, GLUE_SCRIPT_LOCATION=script) as running:
        state = running.wait_for_run()

        assert state == "failed"
        assert running.task_states()["trigger_glue_job"] == "failed"
        assert running.task_states()["store_kpis_in_dynamodb"] == "upstream_failed"
        assert "the disk is full" in running.note()
        assert "Failed tasks: trigger_glue_job." in running.note()


def test_triggerer_that_is_killed_while_it_waits_delays_the_run_only(
    make_deployment: Callable[[], Deployment], tmp_path: Path
) -> None:
    deployment = make_deployment()

    with services(deployment, tmp_path) as running:
        running.wait_for_task("trigger_glue_job", "deferred")
        running.kill("triggerer")

        assert running.wait_for_run() == "success", running.task_states()
        assert "Rows: 50 = 50 valid" in running.note()
    assert_consistent(deployment.resources, deployment.delivered)


def test_scheduler_that_is_killed_in_a_mapped_task_delays_the_run_only(
    make_deployment: Callable[[], Deployment], tmp_path: Path
) -> None:
    deployment = make_deployment()

    with services(deployment, tmp_path, **dict.fromkeys(DEAD_AFTER, "20")) as running:
        running.wait_for_task("extract_and_combine_streams", "running")
        running.kill("scheduler")

        assert running.wait_for_run() == "success", running.task_states()
        tries = "SELECT max(try_number) FROM task_instance WHERE task_id = 'extract_and_combine_streams'"
        assert running.rows(tries)[0][0] > 1
        assert "Rows: 50 = 50 valid" in running.note()
    assert_consistent(deployment.resources, deployment.delivered)
