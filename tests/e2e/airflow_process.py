"""Runs the real DAG to its end with an Airflow in a separate process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from include.commands.environment import DAG_ID, DAGS_DIR
from include.commands.sdk_files import share_sdk_files
from tests.e2e.processes import OutputByLabel, become, single_process
from tests.quick_clients import share_sessions_of_hooks


@dataclass(frozen=True)
class DagRunOutcome:
    """How a DAG run ended.

    Attributes:
        run_id: the DAG run's id.
        logical_date: the date by which the run can be cleared.
        state: state of the DAG run.
        task_states: state of each task instance, by its id, with the index of a mapped one.
        attempts: number of attempts of each task instance.
        errors: message of the last failed attempt, by task.
        logs: the log of all attempts, by task.
    """

    run_id: str
    logical_date: datetime
    state: str
    task_states: dict[str, str]
    attempts: dict[str, int]
    errors: dict[str, str]
    logs: dict[str, str]


class AirflowProcess:
    """A process with its own Airflow that runs several DAG runs without restarting."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        """Start it; its output goes to `log`."""
        self._pool = single_process(start_airflow, dict(environment), log)

    def run_dag(
        self,
        environment: Mapping[str, str],
        conf: Mapping[str, Any] | None = None,
        logical_date: datetime | None = None,
        run_id: str | None = None,
    ) -> DagRunOutcome:
        """Run the real DAG to its end with `dag.test()`.

        Args:
            environment: the variables that the DAG sees.
            conf: the run's configuration, such as `reprocess_dates`.
            logical_date: that of an earlier run, to clear all of its tasks and run it again.
            run_id: the run's id, in place of the one that Airflow makes.
        """
        return self._pool.submit(run_dag, dict(environment), conf, logical_date, run_id).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


def start_airflow(environment: dict[str, str], log: Path) -> None:
    """Set this process up with its own Airflow, whose output goes to `log`."""
    become(environment, log)
    share_sdk_files()
    share_sessions_of_hooks(pytest.MonkeyPatch())
    from airflow.utils import db

    db.initdb()
    # Airflow runs tasks with this log level; the migration above leaves another one behind.
    logging.getLogger().setLevel(logging.INFO)


def run_dag(
    environment: dict[str, str],
    conf: Mapping[str, Any] | None,
    logical_date: datetime | None,
    run_id: str | None = None,
) -> DagRunOutcome:
    """Run the real DAG to its end in this process; see `AirflowProcess.run_dag`."""
    os.environ.clear()
    os.environ.update(environment)
    from airflow.models.dagbag import DagBag

    from include.commands.airflow_version import AIRFLOW
    from include.commands.progress import TaskProgress, label_of

    bag = DagBag(DAGS_DIR)
    dag = bag.dags.get(DAG_ID)
    if dag is None:
        raise RuntimeError(f"The DAG cannot be imported: {bag.import_errors}")
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
    # dag.test() writes no log files.
    task_logs = OutputByLabel()
    progress = TaskProgress(on_start=task_logs.begin, on_end=lambda label, state, seconds: None)
    listeners: Any = AIRFLOW.listener_manager()
    listeners.add_listener(progress)
    # Airflow 3 names the date differently, and takes the run's id from the second one.
    date_names = {"execution_date", "logical_date", "run_after"} & signature(dag.test).parameters.keys()
    dates = dict.fromkeys(date_names, logical_date or datetime.now(UTC))
    # dag.test() sleeps a second whenever a failure or skip propagates to the next task.
    short_sleep = SimpleNamespace(sleep=lambda seconds: time.sleep(0.05))
    made = "airflow.models.dagrun.DagRun.generate_run_id"
    given_id = patch(made, lambda *_, **__: run_id) if run_id else nullcontext()
    try:
        with patch("airflow.models.dag.time", short_sleep, create=True), given_id:
            dag_run = dag.test(run_conf=dict(conf or {}), **dates)
    finally:
        listeners.pm.unregister(progress)
    instances = dag_run.get_task_instances()
    return DagRunOutcome(
        run_id=dag_run.run_id,
        logical_date=dag_run.logical_date,
        state=str(dag_run.state),
        task_states={label_of(instance): str(instance.state) for instance in instances},
        attempts={label_of(instance): instance.try_number for instance in instances},
        errors=progress.errors,
        logs=task_logs.read(),
    )
