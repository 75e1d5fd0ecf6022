"""The trigger that waits for a Glue job run.

It is a plugin because Airflow 3's triggerer has plugins on Python's path, but no DAGs. For the same reason it
imports nothing of the project.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.amazon.aws.hooks.glue import GlueJobHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

# https://docs.aws.amazon.com/glue/latest/dg/job-run-statuses.html
ENDED = frozenset({"SUCCEEDED", "FAILED", "ERROR", "TIMEOUT", "STOPPED", "EXPIRED"})


class GlueJobRunTrigger(BaseTrigger):
    """Waits until a Glue job run has ended, in whatever state, without holding a worker slot.

    It yields an event for errors too, because `dag.test()` would restart a failed trigger forever.
    """

    def __init__(self, job_name: str, run_id: str, aws_conn_id: str) -> None:
        """Take the names that identify the run."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_name = job_name
        self.run_id = run_id
        self.aws_conn_id = aws_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and arguments that another process needs to recreate this trigger."""
        arguments = {"job_name": self.job_name, "run_id": self.run_id, "aws_conn_id": self.aws_conn_id}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the run has ended, every half second at first, later every 30 seconds."""
        event = {"job_name": self.job_name, "run_id": self.run_id}
        seconds = 0.5
        try:
            hook = GlueJobHook(aws_conn_id=self.aws_conn_id)
            # Not `asyncio.to_thread`: requesting a connection there ends the triggerer of Airflow 3.0.
            get_run = sync_to_async(get_job_run, thread_sensitive=False)
            while True:
                run = await get_run(hook, self.job_name, self.run_id)
                if run["JobRunState"] in ENDED:
                    yield TriggerEvent(
                        event | {"state": run["JobRunState"], "error": run.get("ErrorMessage")}
                    )
                    return
                await asyncio.sleep(seconds)
                seconds = min(seconds * 1.2, 30.0)
        except Exception as error:
            yield TriggerEvent(event | {"state": "UNKNOWN", "error": f"{type(error).__name__}: {error}"})


def get_job_run(hook: GlueJobHook, job_name: str, run_id: str) -> dict[str, Any]:
    """Return Glue's description of the run."""
    glue: Any = hook.conn
    run: dict[str, Any] = glue.get_job_run(JobName=job_name, RunId=run_id)["JobRun"]
    return run
