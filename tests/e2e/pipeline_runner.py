"""The pipeline's helper functions, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from tests.e2e.deployment import Deployment


class PipelineRunner:
    """Runs the tasks of one DAG run in this process, without Airflow's scheduling and without a Glue job.

    What a task returns is kept as Airflow keeps XComs, so that any task can be run again: `run_task` is a
    retry of one, `run` clears a task and what follows it. Skips and failures are raised as they come.

    Attributes:
        results: what each task returned that has ended, by task id.
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
        """The name under which the run keeps its objects."""
        from helpers.run_key import run_key_of

        return run_key_of(self.dag_run_id)

    @property
    def task_ids(self) -> list[str]:
        """The tasks of this run in their order."""
        return list(self._tasks())

    def run(self, start: str | None = None) -> dict[str, Any]:
        """Run all tasks, or the task `start` and those after it; return the run report."""
        for task_id in self.task_ids[self.task_ids.index(start) if start else 0 :]:
            self.run_task(task_id)
        return self.report()

    def run_task(self, task_id: str) -> Any:
        """Run one task with what the tasks before it returned."""
        with self._environment():
            self.results[task_id] = self._tasks()[task_id]()
        return self.results[task_id]

    def report(self) -> dict[str, Any]:
        """Return the run's report.

        Raises:
            AssertionError: there is none.
        """
        from helpers.config import PipelineConfig
        from helpers.manifest import read_report

        with self._environment():
            report = read_report(self.deployment.resources.s3, PipelineConfig.from_env(), self.run_key)
        if report is None:
            raise AssertionError(f"Run {self.dag_run_id} has no report")
        return report

    @contextmanager
    def _environment(self) -> Iterator[None]:
        with patch.dict(os.environ, self.deployment.environment, clear=True):
            yield

    def _tasks(self) -> dict[str, Callable[[], Any]]:
        from helpers.archive_streams_data import archive_streams_data
        from helpers.config import PipelineConfig
        from helpers.delete_intermediate_bucket_files import delete_intermediate_bucket_files
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
            "delete_files_from_intermediate_bucket": lambda: delete_intermediate_bucket_files(
                self.run_key, config()
            ),
        }

    def _run_glue(self) -> str:
        from helpers.config import PipelineConfig
        from helpers.manifest import read_input_manifest, read_report
        from helpers.run_key import input_prefix, output_prefix

        config, s3 = PipelineConfig.from_env(), self.deployment.resources.s3
        if read_report(s3, config, self.run_key):
            return "complete"
        arguments = {
            "--S3_SOURCE_PATH": f"s3://{config.intermediate_bucket}/{input_prefix(self.run_key)}",
            "--S3_HISTORY_PATH": f"s3://{config.archive_bucket}/listens/",
            "--S3_OUTPUT_PATH": f"s3://{config.intermediate_bucket}/{output_prefix(self.run_key)}",
            "--BATCH_ID": self.run_key,
        }
        if dates := read_input_manifest(s3, config, self.run_key)["reprocess_dates"]:
            arguments["--REPROCESS_DATES"] = ",".join(dates)
        self._run_glue_script(self.deployment.endpoint_url, arguments)
        return "succeeded"
