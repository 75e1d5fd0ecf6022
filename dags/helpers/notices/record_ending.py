"""Records how a run failed or was skipped, for readers that have no access to Airflow."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from helpers.contract.keys import run_key_of
from helpers.contract.records import RunEnding
from helpers.contract.settings import PipelineConfig

logger = logging.getLogger(__name__)

MAX_REASON = 4000


def record_ending(
    dag_run_id: str, task_id: str, state: str, reason: str, next_step: str = "", section: str = ""
) -> None:
    """Write the run's ending; see `RunEnding`.

    A failure to write is only logged: it must change neither the outcome of the task nor its reason.
    """
    try:
        from helpers.run.store import RunStore

        run = RunStore(run_key_of(dag_run_id), PipelineConfig.from_env())
        run.write_ending(
            RunEnding(
                run_key=run.run_key,
                dag_run_id=dag_run_id,
                state=state,
                task_id=task_id,
                ended_at=datetime.now(UTC).isoformat(),
                reason=reason[:MAX_REASON],
                next_step=next_step,
                section=section,
            )
        )
    except Exception:
        logger.warning("How run %s ended was not recorded", dag_run_id, exc_info=True)
