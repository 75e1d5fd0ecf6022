"""Runs the pipeline's helper functions one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from tests.e2e.deployment import Deployment


class PipelineRunner:
    """Runs the tasks of one DAG run in this process, without Airflow's scheduling and without a Glue job.

    A task's result is kept like an XCom, so any task can run again: `run_task` is a retry of one task, `run`
    clears a task and its downstream tasks. Skips and failures are raised as exceptions.

    Attributes:
        results: the result of each task that has ended, by task id.
    """

    def __init__(
        self,
        deployment: Deployment,
        run_glue_script: Callable[[str, dict[str, str]], None],
        dag_run_id: str,
        reprocess_dates: str | None = None,
    ) -> None:
        """Take the run; `run_glue_script` takes the address of local AWS and the job's arguments."""
        self.deployment = deployment
        self.dag_run_id = dag_run_id
        self.results: dict[str, Any] = {}
        self._run_glue_script = run_glue_script
        self._reprocess_dates = reprocess_dates

    @property
    def run_key(self) -> str:
        """The run's name in S3 keys."""
        from helpers.contract.keys import run_key_of

        return run_key_of(self.dag_run_id)

    @property
    def task_ids(self) -> list[str]:
        """The tasks of this run, in order."""
        return list(self._tasks())

    def run(self, start: str | None = None) -> dict[str, Any]:
        """Run all tasks, or the task `start` and those after it; return the run report."""
        for task_id in self.task_ids[self.task_ids.index(start) if start else 0 :]:
            self.run_task(task_id)
        return self.report()

    def run_task(self, task_id: str) -> Any:
        """Run one task with the results of the previous tasks."""
        with self._environment():
            self.results[task_id] = self._tasks()[task_id]()
        return self.results[task_id]

    def report(self) -> dict[str, Any]:
        """Return the run's report.

        Raises:
            AssertionError: there is none.
        """
        from helpers.contract.settings import PipelineConfig
        from helpers.run.store import RunStore

        with self._environment():
            s3 = self.deployment.resources.s3
            report = RunStore(self.run_key, PipelineConfig.from_env(), s3).report()
        if report is None:
            raise AssertionError(f"Run {self.dag_run_id} has no report")
        return report

    @contextmanager
    def _environment(self) -> Iterator[None]:
        with patch.dict(os.environ, self.deployment.environment, clear=True):
            yield

    def _tasks(self) -> dict[str, Callable[[], Any]]:
        from helpers.archive_streams_data import archive_streams_data
        from helpers.contract.settings import PipelineConfig
        from helpers.delete_files_from_intermediate_bucket import delete_files_from_intermediate_bucket
        from helpers.extract_and_combine_streams import extract_and_combine_streams
        from helpers.list_stream_files import list_stream_files
        from helpers.move_files_to_intermediate_bucket import move_files_to_intermediate_bucket
        from helpers.prepare_reprocessing import prepare_reprocessing
        from helpers.sense_streaming_data import check_resources
        from helpers.store_kpis_in_dynamodb import store_kpis_in_dynamodb
        from helpers.validate_csv_files import validate_csv_files

        config, run_id, done = PipelineConfig.from_env, self.dag_run_id, self.results
        new_files: dict[str, Callable[[], Any]] = {
            "sense_streaming_data": lambda: check_resources(config()),
            "list_stream_files": lambda: list_stream_files(run_id, config()),
            "extract_and_combine_streams": lambda: [
                extract_and_combine_streams(part, config()) for part in done["list_stream_files"]
            ],
            "validate_csv_files": lambda: [
                validate_csv_files(part, config()) for part in done["extract_and_combine_streams"]
            ],
            "move_files_to_intermediate_bucket": lambda: move_files_to_intermediate_bucket(
                run_id, done["validate_csv_files"], config()
            ),
        }
        dates = self._reprocess_dates
        return {
            **(
                {"prepare_reprocessing": lambda: prepare_reprocessing(run_id, dates, config())}
                if dates
                else new_files
            ),
            "trigger_glue_job": self._run_glue,
            "store_kpis_in_dynamodb": lambda: store_kpis_in_dynamodb(run_id, config()),
            "archive_streams_data": lambda: archive_streams_data(done["store_kpis_in_dynamodb"], config()),
            "delete_files_from_intermediate_bucket": lambda: delete_files_from_intermediate_bucket(
                self.run_key, config()
            ),
        }

    def _run_glue(self) -> str:
        from helpers.contract.keys import SNAPSHOTS_PREFIX, input_prefix, output_prefix
        from helpers.contract.settings import PipelineConfig
        from helpers.run.glue_output import write_summary_of_nothing
        from helpers.run.store import RunStore

        config = PipelineConfig.from_env()
        run = RunStore(self.run_key, config, self.deployment.resources.s3)
        if run.report():
            return "complete"
        moved = run.input_manifest()
        if not moved["listens"]["rows"] and not moved["reprocess_dates"]:
            write_summary_of_nothing(run)
            return "no rows"
        arguments = {
            "--S3_SOURCE_PATH": f"s3://{config.intermediate_bucket}/{input_prefix(self.run_key)}",
            "--S3_HISTORY_PATH": f"s3://{config.archive_bucket}/listens/",
            "--S3_SNAPSHOTS_PATH": f"s3://{config.intermediate_bucket}/{SNAPSHOTS_PREFIX}",
            "--S3_OUTPUT_PATH": f"s3://{config.intermediate_bucket}/{output_prefix(self.run_key)}",
            "--BATCH_ID": self.run_key,
        }
        if dates := moved["reprocess_dates"]:
            arguments["--REPROCESS_DATES"] = ",".join(dates)
        self._run_glue_script(self.deployment.endpoint_url, arguments)
        return "succeeded"
