"""The task trigger_glue_job as Airflow runs it: operator, trigger, operator, on local AWS's Glue API."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from tests.e2e.pipeline_runner import PipelineRunner


class RunnerWithOperator(PipelineRunner):
    """Runs the task with the operator instead of the Glue script."""

    def _run_glue(self) -> str:
        from airflow.exceptions import TaskDeferred

        from helpers import trigger_glue_job
        from music_streaming_services_dag import music_streaming_pipeline

        # The operator would wait these seconds before it looks for a run whose response was lost.
        trigger_glue_job.START_WAITS = (0.01, 0.01, 0.01, 0.01)  # type: ignore[assignment]
        operator = music_streaming_pipeline().get_task("trigger_glue_job")
        operator.render_template_fields({"run_id": self.dag_run_id})
        task_instance = SimpleNamespace(xcom_push=lambda key, value, **_: None)
        context: Any = {"run_id": self.dag_run_id, "ti": task_instance, "task_instance": task_instance}
        try:
            return operator.execute(context)
        except TaskDeferred as deferred:
            event: Any = asyncio.run(anext(deferred.trigger.run()))
            return operator.execute_complete(context, event.payload)
