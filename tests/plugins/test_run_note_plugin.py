"""The listener on a DAG run in Airflow's database, and the texts that its tasks left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from inspect import signature
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import settings
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.settings import initialize
from airflow.utils.session import create_session
from sqlalchemy import delete, insert, select, update

from run_note_plugin import DAG_ID, HEADING, NOTHING_TO_DO, XCOM_KEY, RunNoteListener, _xcom_model

RUN_ID = "manual__2024-06-26T00:00:00+00:00"
LISTENER = RunNoteListener()


@pytest.fixture(scope="module")
def _metadata_database() -> None:
    initialize()
    import_all_models()
    if "execution_date" in signature(DagRun).parameters:
        # Airflow 2 has the table of users, to which notes refer, in a provider.
        import_module("airflow.providers.fab.auth_manager.models")
    Base.metadata.create_all(settings.engine)


@dataclass
class Run:
    """A DAG run in Airflow's database."""

    left: int = 0

    def leave(self, task_id: str, note: Any) -> None:
        """Leave this note in XCom, later than the ones before."""
        model = _xcom_model()
        self.left += 1
        self.set_state(task_id, "running")
        with create_session() as session:
            stored = self._stored(session)
            values = {
                "dag_run_id": stored.id,
                "dag_id": stored.dag_id,
                "run_id": RUN_ID,
                "task_id": task_id,
                "map_index": -1,
                "key": XCOM_KEY,
                "timestamp": datetime.now(UTC) + timedelta(seconds=self.left),
                "value": model.serialize_value(note),
            }
            session.execute(insert(model).values(values))

    def set_state(self, task_id: str, state: str) -> None:
        """Give the task an instance in this state."""
        with create_session() as session:
            stored = self._stored(session)
            key = {"dag_id": stored.dag_id, "run_id": RUN_ID, "task_id": task_id}
            if not session.execute(update(TaskInstance).filter_by(**key).values(state=state)).rowcount:
                of_task = {"state": state, "pool": "default_pool", "pool_slots": 1, "map_index": -1}
                session.execute(insert(TaskInstance).values(**key, **of_task))

    def end(self, **states: str) -> str | None:
        """End the run with its tasks in these states, as the scheduler does; return its note."""
        for task_id, state in states.items():
            self.set_state(task_id, state)
        with create_session() as session:
            if "failed" in states.values():
                LISTENER.on_dag_run_failed(self._stored(session), "task_failure")
            else:
                LISTENER.on_dag_run_success(self._stored(session), "success")
        return self.note()

    def note(self, new: str | None = None) -> str | None:
        """Return the run's note, after a person has written this one."""
        with create_session() as session:
            stored = self._stored(session)
            if new:
                stored.note = new
            note: str | None = stored.note
            return note

    @staticmethod
    def _stored(session: Any) -> Any:
        return session.scalar(select(DagRun).where(DagRun.run_id == RUN_ID))


@pytest.fixture(params=[DAG_ID])
def run(request: pytest.FixtureRequest, _metadata_database: None) -> Iterator[Run]:
    # Airflow 3 names the date differently.
    (date,) = {"execution_date", "logical_date"} & signature(DagRun).parameters.keys()
    with create_session() as session:
        session.add(
            DagRun(dag_id=request.param, run_id=RUN_ID, run_type="manual", **{date: datetime.now(UTC)})
        )
    yield Run()
    with create_session() as session:
        session.execute(delete(_xcom_model()))
        session.execute(delete(TaskInstance))
        session.delete(Run._stored(session))


def test_run_gets_the_note_that_its_task_left(run: Run) -> None:
    run.leave("archive_streams_data", f"{HEADING}: Files: 1")

    assert run.end(archive_streams_data="success") == f"{HEADING}: Files: 1"


def test_failed_run_gets_the_note_of_the_task_that_failed(run: Run) -> None:
    run.leave("trigger_glue_job", f"{HEADING}: Failed: memory")
    run.leave("archive_streams_data", f"{HEADING}: Files: 1")

    note = run.end(trigger_glue_job="failed", archive_streams_data="upstream_failed")

    assert note == f"{HEADING}: Failed: memory"


def test_last_note_counts(run: Run) -> None:
    run.leave("sense_streaming_data", f"{HEADING}: Nothing to do")
    run.leave("archive_streams_data", f"{HEADING}: Files: 1")

    assert run.end(archive_streams_data="success") == f"{HEADING}: Files: 1"


def test_task_that_was_killed_before_it_left_a_note_is_named_once(run: Run) -> None:
    run.leave("archive_streams_data", f"{HEADING}: Files: 1")

    assert run.end(validate_csv_files="failed", archive_streams_data="success") == (
        f"{HEADING}: Failed tasks: validate_csv_files. The end of the task's log says why and what to do. "
        "Nothing is archived before the KPIs are stored."
    )


def test_reference_of_a_custom_xcom_backend_is_not_a_note(run: Run) -> None:
    run.leave("archive_streams_data", "s3://bucket/xcom/1.json")

    assert run.end(archive_streams_data="success") is None


def test_run_whose_wait_was_ended_from_outside_had_nothing_to_do(run: Run) -> None:
    note = run.end(sense_streaming_data="skipped", archive_streams_data="skipped")

    assert note == f"{HEADING}: {NOTHING_TO_DO}"


def test_note_of_a_person_stays(run: Run) -> None:
    run.note("We looked at this one.")
    run.leave("archive_streams_data", f"{HEADING}: Files: 1")

    assert run.end(archive_streams_data="success") == "We looked at this one."


def test_note_follows_the_run_that_is_cleared(run: Run) -> None:
    assert "Failed tasks: trigger_glue_job" in str(run.end(trigger_glue_job="failed"))
    run.leave("archive_streams_data", f"{HEADING}: Files: 1")

    assert run.end(trigger_glue_job="success", archive_streams_data="success") == f"{HEADING}: Files: 1"


@pytest.mark.parametrize("run", ["another_dag"], indirect=True)
def test_run_of_another_dag_gets_no_note(run: Run) -> None:
    assert run.end(task="failed") is None


def test_error_reaches_the_log_and_not_the_scheduler(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    LISTENER.on_dag_run_failed(SimpleNamespace(dag_id=DAG_ID, run_id=RUN_ID), "task_failure")

    assert f"Run {RUN_ID} got no note" in caplog.text
