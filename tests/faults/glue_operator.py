"""The task trigger_glue_job as Airflow runs it: operator, trigger, operator, on the Glue API of local AWS."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from tests.e2e.pipeline_runner import PipelineRunner


class RunnerWithOperator(PipelineRunner):
    """Runs the task with the operator instead of the Glue script."""

    def _run_glue(self) -> str:
        from airflow.exceptions import TaskDeferred

        from helpers import trigger_glue_job
        from helpers.config import AWS_CONN_ID

        # Seconds that the operator would wait before it looks for a run whose answer was lost.
        trigger_glue_job.START_WAITS = (0.01, 0.01, 0.01, 0.01)  # type: ignore[assignment]
        operator = trigger_glue_job.GlueKpiJobOperator(
            task_id="trigger_glue_job",
            aws_conn_id=AWS_CONN_ID,
            batch_id=self.run_key,
            execution_timeout=timedelta(hours=1),
        )
        task_instance = SimpleNamespace(xcom_push=lambda key, value, **_: None)
        context: Any = {"run_id": self.dag_run_id, "ti": task_instance, "task_instance": task_instance}
        try:
            return operator.execute(context)
        except TaskDeferred as deferred:
            event: Any = asyncio.run(anext(deferred.trigger.run()))
            return operator.execute_complete(context, event.payload)
