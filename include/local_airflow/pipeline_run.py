"""One run of the DAG in this process, from its first task to its last, without a scheduler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from include.local_airflow.environment import DAG_ID, DAGS_DIR
from include.local_airflow.errors import UserError

if TYPE_CHECKING:
    from airflow.models.dag import DAG

RETRY_DELAY = timedelta(seconds=2)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run_id: the DAG run's id.
        state: "skipped" when there was nothing to do.
        errors: message by task, of those that failed for good.
    """

    run_id: str
    state: Literal["success", "failed", "skipped"]
    errors: dict[str, str]


def run_pipeline(
    on_start: Callable[[str], None],
    on_end: Callable[[str, str, float | None], None],
    conf: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run the DAG once in a new Airflow, whose home and settings are in the environment already.

    Args:
        on_start: called with the task's label when it begins.
        on_end: called with label, state and seconds when it has ended (no seconds: it never began).
        conf: the run's parameters, as in the trigger form of the UI.

    Raises:
        UserError: the DAG cannot be imported.
    """
    from airflow.utils.state import DagRunState, TaskInstanceState

    from include.local_airflow.progress import TaskProgress, label_of, listener_manager

    _create_metadata_database()
    dag = _load_dag()
    progress = TaskProgress(on_start, on_end)
    listener_manager().add_listener(progress)  # type: ignore[no-untyped-call]
    dag_run = dag.test(run_conf=dict(conf or {}))

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

    # Alembic's configuration adds a handler to the root logger, and every line would be logged twice. It also
    # raises its level, and what hooks and helpers log, the Glue job's output above all, would be left out.
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
    for task in dag.tasks:
        # Nothing on this machine gets better by waiting for minutes.
        task.retry_delay = RETRY_DELAY
    return dag
