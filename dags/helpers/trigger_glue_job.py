"""Task trigger_glue_job: one Glue run for a batch, whatever happens to the call or to the task."""

from __future__ import annotations

import asyncio
import hashlib
import time
import urllib.parse
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.hooks.glue import GlueJobHook
from airflow.providers.amazon.aws.links.glue import GlueJobRunDetailsLink
from airflow.providers.amazon.aws.operators.glue import GlueJobOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from helpers.config import AWS_CONN_ID, PipelineConfig
from helpers.run_key import input_prefix, output_prefix
from helpers.run_links import console_url

if TYPE_CHECKING:
    from airflow.utils.context import Context

SCRIPT = Path(__file__).parents[2] / "glue_script" / "glue_script.py"
SCRIPT_ARGUMENT = "--SCRIPT_SHA256"
JOB_TIMEOUT_MINUTES = 120
START_WAITS = (1, 2, 4, 8)
ACTIVE = frozenset({"STARTING", "RUNNING", "WAITING", "STOPPING"})
# https://docs.aws.amazon.com/glue/latest/dg/job-run-statuses.html
ENDED = frozenset({"SUCCEEDED", "FAILED", "ERROR", "TIMEOUT", "STOPPED", "EXPIRED"})


class GlueJobRunTrigger(BaseTrigger):
    """Waits, without holding a worker slot, until a Glue job run has ended, in whatever state.

    It yields an event for errors too: `dag.test()` would start a trigger that raises again for ever.
    """

    def __init__(self, job_name: str, run_id: str, aws_conn_id: str = AWS_CONN_ID) -> None:
        """Take the names by which the triggerer finds the run."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_name = job_name
        self.run_id = run_id
        self.aws_conn_id = aws_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another process needs to make this trigger again."""
        arguments = {"job_name": self.job_name, "run_id": self.run_id, "aws_conn_id": self.aws_conn_id}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll, at first every 2 seconds and then ever more slowly up to 30, until the run has ended."""
        event = {"job_name": self.job_name, "run_id": self.run_id}
        seconds = 2.0
        try:
            hook = GlueJobHook(aws_conn_id=self.aws_conn_id)
            while True:
                run = await asyncio.to_thread(_get_job_run, hook, self.job_name, self.run_id)
                if run["JobRunState"] in ENDED:
                    yield TriggerEvent(
                        event | {"state": run["JobRunState"], "error": run.get("ErrorMessage")}
                    )
                    return
                await asyncio.sleep(seconds)
                seconds = min(seconds * 1.2, 30.0)
        except Exception as error:
            yield TriggerEvent(event | {"state": "UNKNOWN", "error": f"{type(error).__name__}: {error}"})


class GlueKpiJobOperator(GlueJobOperator):
    """Runs the KPI job for one batch.

    On top of the provider's operator: takes its settings from `PipelineConfig` when it runs; adopts a run of
    the same batch instead of starting a second one; ends red on every state but SUCCEEDED, with Glue's own
    message; its log ends with the job's output.
    """

    template_fields = (*GlueJobOperator.template_fields, "batch_id")

    def __init__(self, *, batch_id: str, **kwargs: Any) -> None:
        """Take the batch id (templated), which is the run's key, beside the provider's arguments."""
        super().__init__(script_location=str(SCRIPT), replace_script_file=True, **kwargs)
        self.batch_id = batch_id

    def execute(self, context: Context) -> str:
        """Start or adopt the batch's run, then wait for it; return its id."""
        from helpers.aws import s3_client
        from helpers.manifest import read_input_manifest, read_report

        config, s3 = PipelineConfig.from_env(), s3_client()
        if read_report(s3, config, self.batch_id):
            self.log.info("Run %s is complete; nothing to do", self.batch_id)
            return "complete"
        self._configure(config, read_input_manifest(s3, config, self.batch_id)["reprocess_dates"])
        run_id = self._adoptable_run(config) or self._start_run(config)
        self._persist_link(context, run_id)
        self.defer(
            trigger=GlueJobRunTrigger(self.job_name, run_id, self.aws_conn_id or AWS_CONN_ID),
            method_name="execute_complete",
            timeout=timedelta(minutes=JOB_TIMEOUT_MINUTES + 30),
        )
        return run_id

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Show the job's output and judge the state in which its run ended.

        Raises:
            AirflowFailException: the run did not succeed.
            AirflowException: its state could not be learnt; a retry looks again.
        """
        if event is None:
            raise AirflowException("The trigger sent no event; a retry adopts the Glue job run.")
        name, run_id, state = event["job_name"], event["run_id"], event["state"]
        if state not in ENDED:
            raise AirflowException(
                f"The state of Glue job run {run_id} of {name} is unknown: {event['error']}. "
                "A retry adopts it."
            )
        self._show_output(name, run_id)
        if state != "SUCCEEDED":
            raise AirflowFailException(
                f"Glue job run {run_id} of {name} ended {state}: {event['error'] or 'Glue gives no reason'}. "
                "Nothing was written or archived. Mend the cause and clear this task."
            )
        return str(run_id)

    def _configure(self, config: PipelineConfig, reprocess_dates: list[str]) -> None:
        self.job_name = config.glue_job_name
        self.s3_bucket = config.intermediate_bucket
        self.iam_role_name = config.glue_role_name
        self.create_job_kwargs = {
            "GlueVersion": "5.0",
            "WorkerType": config.glue_worker_type,
            "NumberOfWorkers": config.glue_number_of_workers,
            "Timeout": JOB_TIMEOUT_MINUTES,
        }
        self.script_args = {
            "--S3_SOURCE_PATH": f"s3://{config.intermediate_bucket}/{input_prefix(self.batch_id)}",
            "--S3_HISTORY_PATH": f"s3://{config.archive_bucket}/listens/",
            "--S3_OUTPUT_PATH": f"s3://{config.intermediate_bucket}/{output_prefix(self.batch_id)}",
            "--BATCH_ID": self.batch_id,
            # NumberOfWorkers is then the most; how many work follows from the partitions of each stage.
            "--enable-auto-scaling": "true",
            # Tells apart runs of the same batch before and after the script was edited.
            SCRIPT_ARGUMENT: hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:16],
        }
        if reprocess_dates:
            self.script_args["--REPROCESS_DATES"] = ",".join(reprocess_dates)

    def _adoptable_run(self, config: PipelineConfig) -> str | None:
        for run in self._runs_of_batch():
            state, run_id = run["JobRunState"], str(run["Id"])
            same_script = run["Arguments"].get(SCRIPT_ARGUMENT) == self.script_args[SCRIPT_ARGUMENT]
            if state in ACTIVE or (state == "SUCCEEDED" and same_script and self._output_is_current(config)):
                self.log.info("Adopting Glue job run %s (%s) of this batch", run_id, state)
                return run_id
        return None

    def _runs_of_batch(self) -> list[dict[str, Any]]:
        glue: Any = GlueJobHook(aws_conn_id=self.aws_conn_id).conn
        try:
            pages = glue.get_paginator("get_job_runs").paginate(JobName=self.job_name)
            runs = [run for page in pages for run in page["JobRuns"]]
        except glue.exceptions.EntityNotFoundException:
            return []
        own = [run for run in runs if run.get("Arguments", {}).get("--BATCH_ID") == self.batch_id]
        return sorted(own, key=lambda run: run["StartedOn"], reverse=True)

    def _output_is_current(self, config: PipelineConfig) -> bool:
        from helpers.aws import s3_client
        from helpers.errors import ReconciliationError
        from helpers.glue_output import check_summary, history_problem, read_summary
        from helpers.manifest import read_input_manifest

        s3 = s3_client()
        try:
            summary = read_summary(s3, config, self.batch_id)
            rows = read_input_manifest(s3, config, self.batch_id)["listens"]["rows"]
            check_summary(s3, config, summary, rows)
            problem = history_problem(s3, config, summary, added=False)
        except ReconciliationError as error:
            problem = str(error)
        if problem:
            self.log.info("Not adopting an earlier run of this batch: %s", problem)
        return problem is None

    def _start_run(self, config: PipelineConfig) -> str:
        """Start a run of the job, which is made or updated first.

        StartJobRun has no idempotency token, so the SDK must not repeat it: whenever the answer may have been
        lost, a run of the batch is looked for first.
        """
        self.hook.create_or_update_glue_job()
        without_retries = Config(retries={"total_max_attempts": 1})
        hook = AwsBaseHook(aws_conn_id=self.aws_conn_id, client_type="glue", config=without_retries)
        glue: Any = hook.get_conn()
        for wait_seconds in START_WAITS:
            try:
                return str(glue.start_job_run(JobName=self.job_name, Arguments=self.script_args)["JobRunId"])
            except (ClientError, BotoCoreError) as error:
                failure = error
                self.log.warning("StartJobRun: %s; looking for a run of this batch", error)
            time.sleep(wait_seconds)
            if run_id := self._adoptable_run(config):
                return run_id
            if isinstance(failure, ClientError) and not _may_pass(failure):
                break
        raise failure

    def _persist_link(self, context: Context, run_id: str) -> None:
        hook = self.hook
        if console_url(hook.conn) is None:
            # A stand-in for AWS has no console that the link could lead to.
            return
        GlueJobRunDetailsLink.persist(
            context=context,
            operator=self,
            region_name=hook.conn_region_name,
            aws_partition=hook.conn_partition,
            job_name=urllib.parse.quote(self.job_name, safe=""),
            job_run_id=run_id,
        )

    def _show_output(self, job_name: str, run_id: str) -> None:
        try:
            hook = GlueJobHook(aws_conn_id=self.aws_conn_id)
            tokens = GlueJobHook.LogContinuationTokens()  # type: ignore[no-untyped-call]
            hook.print_job_logs(job_name, run_id, tokens)
        except Exception:
            # The logs are for the reader; failing to fetch them must not change the outcome.
            self.log.warning("The output of Glue job run %s could not be read", run_id, exc_info=True)


def _get_job_run(hook: GlueJobHook, job_name: str, run_id: str) -> dict[str, Any]:
    glue: Any = hook.conn
    run: dict[str, Any] = glue.get_job_run(JobName=job_name, RunId=run_id)["JobRun"]
    return run


def _may_pass(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    code = error.response.get("Error", {}).get("Code", "")
    return status >= 500 or code in {"ThrottlingException", "ConcurrentRunsExceededException"}
