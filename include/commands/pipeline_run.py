"""Runs the DAG once in this process, from its first task to its last, without a scheduler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from include.commands.environment import DAG_ID, DAGS_DIR
from include.commands.errors import UserError

if TYPE_CHECKING:
    from airflow.models.dag import DAG

RETRY_DELAY = timedelta(seconds=2)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run_id: the DAG run's id.
        state: "skipped" if there was nothing to do.
        errors: message of each task that failed in its last attempt.
    """

    run_id: str
    state: Literal["success", "failed", "skipped"]
    errors: dict[str, str]


def run_pipeline(
    on_start: Callable[[str], None],
    on_end: Callable[[str, str, float | None], None],
    conf: Mapping[str, Any] | None = None,
    retry_delay: timedelta | None = RETRY_DELAY,
) -> Outcome:
    """Run the DAG once in a new Airflow; the environment already defines its home and settings.

    Args:
        on_start: called with the task's label when it begins.
        on_end: called with label, state and seconds when it has ended (no seconds if it never began).
        conf: the run's parameters, as in the trigger form of the UI.
        retry_delay: time between attempts of a task; None keeps each task's own. The default is short,
            because waiting for minutes improves nothing on this machine.

    Raises:
        UserError: the DAG cannot be imported.
    """
    from airflow.utils.state import DagRunState, TaskInstanceState

    from include.commands.airflow_version import AIRFLOW
    from include.commands.progress import TaskProgress, label_of
    from include.commands.sdk_files import share_sdk_files

    share_sdk_files()
    _create_metadata_database()
    dag = _load_dag()
    if retry_delay is not None:
        for task in dag.tasks:
            task.retry_delay = retry_delay
    progress = TaskProgress(on_start, on_end)
    listeners: Any = AIRFLOW.listener_manager()
    listeners.add_listener(progress)
    try:
        dag_run = dag.test(run_conf=dict(conf or {}))
    finally:
        # The process may run the DAG again.
        listeners.pm.unregister(progress)

    order = [task.task_id for task in dag.topological_sort()]
    instances = sorted(dag_run.get_task_instances(), key=lambda ti: (order.index(ti.task_id), ti.map_index))
    for instance in instances:
        if label_of(instance) not in progress.ended:
            on_end(label_of(instance), str(instance.state or "not run").replace("_", " "), None)
    failed = [label_of(ti) for ti in instances if ti.state == TaskInstanceState.FAILED]
    last_tasks = [ti.state for ti in instances if ti.task_id in {task.task_id for task in dag.leaves}]
    if dag_run.state != DagRunState.SUCCESS:
        state: Literal["success", "failed", "skipped"] = "failed"
    else:
        state = "skipped" if set(last_tasks) == {TaskInstanceState.SKIPPED} else "success"
    return Outcome(
        dag_run.run_id, state, {label: progress.errors.get(label, "no message") for label in failed}
    )


def _create_metadata_database() -> None:
    from airflow.utils import db

    # Alembic's configuration adds a handler to the root logger, which would log every line twice. It also
    # raises the logger's level, which would drop the messages of hooks and helpers, above all the Glue job's
    # output.
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    db.initdb()
    root.handlers[:] = handlers
    root.setLevel(level)


def _load_dag() -> DAG:
    from airflow.models.dagbag import DagBag

    bag = DagBag(DAGS_DIR)
    if bag.import_errors:
        errors = "\n".join(f"{file}:\n{error}" for file, error in bag.import_errors.items())
        raise UserError(f"Airflow cannot import the DAG.\n{errors}")
    dag = bag.dags.get(DAG_ID)
    if dag is None:
        raise UserError(f"There is no DAG {DAG_ID} in {DAGS_DIR}.")
    return dag
