"""The real DAG, run to its end by an Airflow in a process of its own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from include.local_airflow.environment import DAG_ID, DAGS_DIR
from tests.e2e.processes import OutputByLabel, become, single_process


@dataclass(frozen=True)
class DagRunOutcome:
    """How a DAG run ended.

    Attributes:
        run_id: the DAG run's id.
        logical_date: with it the run can be cleared.
        state: state of the DAG run.
        task_states: state of each task instance, by its id, with the index of a mapped one.
        attempts: how often each was tried.
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
    """A process with an Airflow of its own, in which DAG runs follow each other without starting anew."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        """Start it; `log` takes its output."""
        self._pool = single_process(start_airflow, dict(environment), log)

    def run_dag(
        self,
        environment: Mapping[str, str],
        conf: Mapping[str, Any] | None = None,
        logical_date: datetime | None = None,
    ) -> DagRunOutcome:
        """Run the real DAG to its end with `dag.test()`.

        Args:
            environment: the variables that the DAG sees.
            conf: the run's configuration, such as `reprocess_dates`.
            logical_date: that of an earlier run, to clear all of its tasks and run it again.
        """
        return self._pool.submit(run_dag, dict(environment), conf, logical_date).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


def start_airflow(environment: dict[str, str], log: Path) -> None:
    """Let this process be one with an Airflow of its own, whose output goes to `log`."""
    become(environment, log)
    from airflow.utils import db

    db.initdb()
    # As where Airflow runs a task; the migration above leaves another level behind.
    logging.getLogger().setLevel(logging.INFO)


def run_dag(
    environment: dict[str, str], conf: Mapping[str, Any] | None, logical_date: datetime | None
) -> DagRunOutcome:
    """Run the real DAG to its end in this process; see `AirflowProcess.run_dag`."""
    os.environ.clear()
    os.environ.update(environment)
    from airflow.models.dagbag import DagBag

    from include.local_airflow.progress import TaskProgress, label_of, listener_manager

    bag = DagBag(DAGS_DIR)
    dag = bag.dags.get(DAG_ID)
    if dag is None:
        raise RuntimeError(f"The DAG cannot be imported: {bag.import_errors}")
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
    # dag.test() writes no log files.
    task_logs = OutputByLabel()
    progress = TaskProgress(on_start=task_logs.begin, on_end=lambda label, state, seconds: None)
    listeners: Any = listener_manager()
    listeners.add_listener(progress)
    # Airflow 3 has other names for the date, and takes the run's id from the second one.
    date_names = {"execution_date", "logical_date", "run_after"} & signature(dag.test).parameters.keys()
    dates = dict.fromkeys(date_names, logical_date or datetime.now(UTC))
    # dag.test() sleeps a second each time that a failure or a skip goes on to the next task.
    short_sleep = SimpleNamespace(sleep=lambda seconds: time.sleep(0.05))
    try:
        with patch("airflow.models.dag.time", short_sleep, create=True):
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
