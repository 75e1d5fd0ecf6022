"""SIGKILL in each task of real DAG runs, with Airflow's operators and Glue's Spark; a rerun succeeds."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import pytest

from include.commands.progress import TaskProgress
from tests.e2e.airflow_process import AirflowProcess, run_dag, start_airflow
from tests.e2e.deployment import Deployment, connect
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent
from tests.faults.bench import Bench
from tests.faults.wire import Fault, Wire
from tests.scenarios import Scenarios

LOGICAL_DATE = datetime(2024, 7, 2, tzinfo=UTC)
# The process is killed after this call of each task.
LAST_CALLS = {
    "sense_streaming_data": "*",
    "list_stream_files": "PUT runs/*/manifest.json",
    "extract_and_combine_streams": "PUT *",
    "validate_csv_files": "PUT *",
    "move_files_to_intermediate_bucket": "PUT *",
    "trigger_glue_job": "StartJobRun",
    "store_kpis_in_dynamodb": "TransactWriteItems",
    "archive_streams_data": "DELETE streams/*",
    "delete_files_from_intermediate_bucket": "*",
}


@pytest.fixture(scope="module")
def airflow(stack: Deployment, folder: Path) -> Iterator[AirflowProcess]:
    process = AirflowProcess(stack.environment, folder / "airflow.log")
    yield process
    process.close()


@pytest.mark.scenarios(23)
@pytest.mark.parametrize("task_id", LAST_CALLS)
def test_real_run_killed_in_each_task_ends_as_if_nothing_had_happened(
    bench: Bench, airflow: AirflowProcess, folder: Path, scenarios: Scenarios, task_id: str
) -> None:
    deployment = bench.deploy()
    fault = Fault("killed after", operation=LAST_CALLS[task_id], task=f"{task_id}*")
    process = get_context("spawn").Process(
        target=run_dag_with, args=(deployment.environment, folder / "killed.log", fault)
    )
    process.start()
    process.join(timeout=300)
    assert process.exitcode == -signal.SIGKILL

    outcome = airflow.run_dag(deployment.environment, logical_date=LOGICAL_DATE)

    assert (outcome.state, outcome.errors) == ("success", {})
    assert_consistent(deployment.resources, deployment.delivered)
    assert_another_run_changes_nothing(
        deployment.resources, lambda: bench.expect_nothing_to_do(deployment, "manual__next")
    )
    glue = connect("glue", deployment.endpoint_url)
    [job_run] = glue.get_job_runs(JobName=deployment.names["GLUE_JOB_NAME"])["JobRuns"]
    assert job_run["JobRunState"] == "SUCCEEDED"
    scenarios.record([23], survived=True)


def run_dag_with(environment: dict[str, str], log: Path, fault: Fault) -> None:
    """Run the DAG in this process with a fault of an AWS call."""
    start_airflow(environment, log)
    from airflow.listeners.listener import get_listener_manager

    wire = Wire(fault, pause=lambda: None)
    wire.install()
    get_listener_manager().add_listener(
        TaskProgress(
            on_start=lambda label: setattr(wire, "task", label), on_end=lambda label, state, seconds: None
        )
    )
    run_dag(environment, None, LOGICAL_DATE)
