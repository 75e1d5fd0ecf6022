"""Task trigger_glue_job: one Glue job run per batch, even if a call or the task itself fails midway."""

from __future__ import annotations

import hashlib
import time
import urllib.parse
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.hooks.glue import GlueJobHook
from airflow.providers.amazon.aws.links.glue import GlueJobRunDetailsLink
from airflow.providers.amazon.aws.operators.glue import GlueJobOperator
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from glue_job_run_trigger import ENDED, GlueJobRunTrigger, get_job_run
from helpers.aws.job_script import read_script, script_location
from helpers.contract.settings import AWS_CONN_ID, PipelineConfig
from helpers.errors import GlueJobFailedError, GlueStateUnknownError, ReconciliationError
from helpers.notices.run_links import console_url
from helpers.run.glue_job_runs import list_job_runs

if TYPE_CHECKING:
    from airflow.utils.context import Context

SCRIPT_ARGUMENT = "--SCRIPT_SHA256"
JOB_TIMEOUT_MINUTES = 120
START_WAITS = (1, 2, 4, 8)
# Limits per log group and per stream, so the task's log stays readable.
MAX_LOG_STREAMS = 5
MAX_LOG_EVENTS = 200
ACTIVE = frozenset({"STARTING", "RUNNING", "WAITING", "STOPPING"})


class GlueKpiJobOperator(GlueJobOperator):
    """Runs the KPI job for one batch.

    It extends the provider's operator:

    - It adopts a run of the same batch instead of starting a second one.
    - It fails on every state but SUCCEEDED, with Glue's own message.
    - Its log ends with the job's output.
    - It adds the job arguments that only the running task knows: the script's hash and the days to reprocess.
    """

    template_fields = (*GlueJobOperator.template_fields, "batch_id")

    def __init__(self, *, batch_id: str, **kwargs: Any) -> None:
        """Take the batch id, which is the run key (templated), and the provider's arguments."""
        super().__init__(replace_script_file=True, **kwargs)
        self.batch_id = batch_id

    def execute(self, context: Context) -> str:
        """Start or adopt the batch's run, then defer until it ends; return its id."""
        from helpers.run.glue_output import write_summary_of_nothing
        from helpers.run.store import RunStore

        config = PipelineConfig.from_env()
        run = RunStore(self.batch_id, config)
        if run.report_if_complete():
            return "complete"
        moved = run.input_manifest()
        if not moved["listens"]["rows"] and not moved["reprocess_dates"]:
            self.log.info("The files of run %s hold no rows: Glue has nothing to compute", self.batch_id)
            write_summary_of_nothing(run)
            return "no rows"
        self._complete_arguments(config, read_script(run.s3, config), moved["reprocess_dates"])
        run_id = self._adoptable_run(config) or self._start_run(config)
        self._persist_link(context, run_id)
        self.defer(
            trigger=GlueJobRunTrigger(self.job_name, run_id, self.aws_conn_id or AWS_CONN_ID),
            method_name="execute_complete",
            timeout=timedelta(minutes=JOB_TIMEOUT_MINUTES + 30),
        )
        return run_id

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Log the job's output and act on the state in which its run ended.

        Raises:
            GlueJobFailedError: the run did not succeed.
            GlueStateUnknownError: the state could not be determined; a retry checks again.
        """
        if event is None:
            raise GlueStateUnknownError("The trigger sent no event; a retry adopts the Glue job run.")
        name, run_id, state = event["job_name"], event["run_id"], event["state"]
        if state not in ENDED:
            raise GlueStateUnknownError(
                f"The state of Glue job run {run_id} of {name} is unknown: {event['error']}. "
                "A retry adopts it."
            )
        self._show_output(name, run_id)
        if state != "SUCCEEDED":
            raise GlueJobFailedError(
                f"Glue job run {run_id} of {name} ended {state}: {event['error'] or 'Glue gives no reason'}. "
                "Nothing was written or archived. Fix the cause and clear this task."
            )
        return str(run_id)

    def _complete_arguments(self, config: PipelineConfig, script: bytes, reprocess_dates: list[str]) -> None:
        # The provider uploads a local file, but uses an S3 address as it is.
        self.script_location = script_location(config)
        # A template cannot produce a number.
        self.create_job_kwargs = {
            **(self.create_job_kwargs or {}),
            "NumberOfWorkers": config.glue_number_of_workers,
        }
        # The hash distinguishes runs of the same batch before and after an edit of the script.
        self.script_args = {**self.script_args, SCRIPT_ARGUMENT: hashlib.sha256(script).hexdigest()[:16]}
        if reprocess_dates:
            self.script_args["--REPROCESS_DATES"] = ",".join(reprocess_dates)

    def _adoptable_run(self, config: PipelineConfig) -> str | None:
        glue: Any = GlueJobHook(aws_conn_id=self.aws_conn_id).conn
        for run in list_job_runs(glue, self.job_name, self.batch_id):
            state, run_id = run["JobRunState"], str(run["Id"])
            same_script = run["Arguments"].get(SCRIPT_ARGUMENT) == self.script_args[SCRIPT_ARGUMENT]
            if state in ACTIVE or (state == "SUCCEEDED" and same_script and self._output_is_current(config)):
                self.log.info("Adopting Glue job run %s (%s) of this batch", run_id, state)
                return run_id
        return None

    def _output_is_current(self, config: PipelineConfig) -> bool:
        from helpers.run.glue_output import check_summary, history_problem, read_summary
        from helpers.run.store import RunStore

        run = RunStore(self.batch_id, config)
        try:
            summary = read_summary(run)
            check_summary(run, summary, run.input_manifest()["listens"]["rows"])
            problem = history_problem(run, summary, added=False)
        except ReconciliationError as error:
            problem = str(error)
        if problem:
            self.log.info("Not adopting an earlier run of this batch: %s", problem)
        return problem is None

    def _start_run(self, config: PipelineConfig) -> str:
        """Create or update the job, then start a run of it.

        StartJobRun has no idempotency token, so the SDK must not retry it. Whenever the response may be lost,
        this method first looks for a run of the batch.
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
            # A local stand-in for AWS has no console to link to.
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
            groups = get_job_run(hook, job_name, run_id)["LogGroupName"]
            # Put the job's own output last, below the logs of Spark and Glue.
            for group in (f"{groups}/error", f"{groups}/output"):
                for stream, messages in _ends_of_logs(hook.logs_hook.get_conn(), group, run_id):
                    lines = "\n".join(message.rstrip("\n") for message in messages)
                    self.log.info("End of %s in %s:\n%s", stream, group, lines)
        except Exception:
            # The logs only inform the reader; a failure to fetch them must not change the outcome.
            self.log.warning("The output of Glue job run %s could not be read", run_id, exc_info=True)


def _ends_of_logs(logs: Any, group: str, run_id: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the last messages of the run's streams, the driver's last.

    Glue 5 names the streams `<run>-driver` and `<run>-executor1`, in this order:
    https://docs.aws.amazon.com/glue/latest/dg/monitor-continuous-logging.html.
    """
    try:
        found = logs.describe_log_streams(
            logGroupName=group, logStreamNamePrefix=run_id, limit=MAX_LOG_STREAMS
        )
    except logs.exceptions.ResourceNotFoundException:
        return  # no job of the account has written to this group yet
    for stream in reversed([stream["logStreamName"] for stream in found["logStreams"]]):
        events = logs.get_log_events(
            logGroupName=group, logStreamName=stream, startFromHead=False, limit=MAX_LOG_EVENTS
        )["events"]
        if events:
            yield stream, [event["message"] for event in events]


def _may_pass(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    code = error.response.get("Error", {}).get("Code", "")
    return status >= 500 or code in {"ThrottlingException", "ConcurrentRunsExceededException"}
