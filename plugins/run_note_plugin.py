"""The note on a DAG run: this listener puts it there when the run ends.

The scheduler calls it. In Airflow 3 the scheduler has the database, but only tasks have the DAG's code and
access to S3. So the task that ends the run leaves the text in XCom, and the listener copies it. For the same
reason it imports nothing of the project.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

logger = logging.getLogger(__name__)

DAG_ID = "music_streaming_pipeline"
XCOM_KEY = "run_note"
# A note that begins otherwise is a person's. The first sentence follows in the same line, because the page of
# a run in Airflow 3 shows only one line of the note.
HEADING = "**Run report**"
NOTHING_TO_DO = "Nothing to do: there is no new stream file. The next run takes what comes."
NOT_ARCHIVED = ". Nothing is archived before the KPIs are stored."


def failed_tasks(failed: list[str]) -> str:
    """Return the sentences that name the failed tasks, without the full stop."""
    return f"Failed tasks: {', '.join(failed)}. The end of the task's log says why and what to do"


def put_note(dag_run: Any) -> None:
    """Put the note of the task that ended the run on the run, unless a person wrote one.

    The session of the run's object is used and not committed, so note and state are stored together.
    """
    from sqlalchemy import select  # type: ignore[import-untyped]
    from sqlalchemy.orm import object_session  # type: ignore[import-untyped]

    model, session = _xcom_model(), object_session(dag_run)
    if dag_run.note and not dag_run.note.startswith(HEADING):
        logger.info("Run %s has a note of its own, which stays", dag_run.run_id)
        return
    instances = dag_run.get_task_instances(session=session)
    failed = list(dict.fromkeys(ti.task_id for ti in instances if ti.state == "failed"))
    query = select(model.value).where(
        model.dag_id == dag_run.dag_id, model.run_id == dag_run.run_id, model.key == XCOM_KEY
    )
    if failed:
        query = query.where(model.task_id.in_(failed))
    row = session.execute(query.order_by(model.timestamp.desc())).first()
    note = model.deserialize_value(row) if row else None
    # A custom XCom backend may store a reference there.
    if isinstance(note, str) and note.startswith(HEADING):
        dag_run.note = note
    elif failed:
        # A task that was killed left no text.
        dag_run.note = f"{HEADING}: {failed_tasks(failed)}{NOT_ARCHIVED}"
    elif row is None:
        # A task that is skipped from outside leaves none either.
        dag_run.note = f"{HEADING}: {NOTHING_TO_DO}"


def _xcom_model() -> Any:
    from airflow.models import xcom

    return getattr(xcom, "XComModel", None) or xcom.XCom


class RunNoteListener:
    """Puts the note on runs of the pipeline.

    Errors are only logged, because the scheduler of Airflow 2 would end with them.
    """

    @hookimpl
    def on_dag_run_success(self, dag_run: Any, msg: str) -> None:
        """Put the note on the run that succeeded."""
        self._put_note(dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any, msg: str) -> None:
        """Put the note on the run that failed."""
        self._put_note(dag_run)

    @staticmethod
    def _put_note(dag_run: Any) -> None:
        if dag_run.dag_id != DAG_ID:
            return
        try:
            put_note(dag_run)
        except Exception:
            logger.warning("Run %s got no note", dag_run.run_id, exc_info=True)


class RunNotePlugin(AirflowPlugin):
    """Registers the listener."""

    name = "run_note"
    listeners = [RunNoteListener()]  # noqa: RUF012
