"""Task sense_streaming_data: waits for the stream files of a run."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowSkipException
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.providers.common.compat.sdk import BaseSensorOperator

from helpers.contract.keys import LEFT_KEY, manifest_key, run_key_of
from helpers.contract.names import STREAMS_PREFIX, is_csv
from helpers.contract.records import SKIPPED
from helpers.contract.settings import PipelineConfig
from helpers.errors import ConfigurationError, RetryableError
from helpers.notices.record_ending import record_ending
from helpers.notices.sentences import ignored_sentence
from helpers.run.schedule import runs_start_by_event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.utils.context import Context


# SQS's code for a queue that does not exist.
NO_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"
# A run begins after this many quiet times even if files never stop coming.
MAX_QUIET_TIMES = 10


class StreamingDataSensor(S3KeySensor):
    """Checks that all resources of the run exist, then waits for stream files.

    If an earlier attempt already listed the run's files, it does not wait: they may be archived by now. If
    new files start runs, it does not wait for a first one, which could not start its run meanwhile.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Watch for any stream file; the bucket is read from the settings when the task runs."""
        super().__init__(
            bucket_key=f"{STREAMS_PREFIX}*",
            wildcard_match=True,
            metadata_keys=["Key", "LastModified"],
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        """Check the settings and resources, then poke.

        Raises:
            ConfigurationError: a setting, a bucket or the table is missing; the message names it.
            AirflowSkipException: there is no new stream file; the message names the files that came instead.
        """
        from helpers.aws.clients import s3_client
        from helpers.aws.s3_objects import list_modified, read_json

        config, s3 = PipelineConfig.from_env(), s3_client()
        check_resources(config)
        run_key = run_key_of(context["run_id"])
        if read_json(s3, config.archive_bucket, manifest_key(run_key)):
            self.log.info("The files of run %s are listed already", run_key)
            return None
        self.bucket_name = config.source_bucket
        self.timeout = config.sensor_timeout_minutes * 60
        # A person who triggers a run wants the files that are there.
        triggered = context["dag_run"].run_type == "manual"
        left = {} if triggered else read_json(s3, config.archive_bucket, LEFT_KEY) or {}
        self.check_fn = partial(
            may_begin, quiet=timedelta(minutes=0 if triggered else config.quiet_minutes), left=left
        )
        by_event = runs_start_by_event()
        if by_event and not arrivals(list_modified(s3, config.source_bucket, STREAMS_PREFIX), left):
            self.timeout = 0
        try:
            # Not `super().execute`: Airflow 2 takes it for a call outside of a task and warns at each look.
            return inspect.unwrap(BaseSensorOperator.execute)(self, context)
        except AirflowSkipException as skip:
            keys = list_modified(s3, config.source_bucket, STREAMS_PREFIX)
            ignored = [key for key in keys if not is_csv(key)]
            # Without the wait, files that an earlier run left would be tried with every message.
            if arrivals(keys, left if by_event else {}):
                self.log.info("The wait is over; the run takes the files that are there")
                return None
            streams = f"s3://{config.source_bucket}/{STREAMS_PREFIX}"
            reason = (
                f"No new CSV file is under {streams}, and the next one starts a run (STREAMS_QUEUE_URL): "
                "nothing to do."
                if by_event
                else f"No CSV file came under {streams} within {config.sensor_timeout_minutes:g} minutes "
                "(SENSOR_TIMEOUT_MINUTES): nothing to do."
            )
            reason = f"{reason} {ignored_sentence(ignored)}".rstrip()
            record_ending(context["run_id"], self.task_id, SKIPPED, reason)
            raise AirflowSkipException(reason) from skip


def may_begin(files: list[dict[str, Any]], quiet: timedelta, left: Mapping[str, str]) -> bool:
    """Return whether the run may begin its work on these objects.

    Args:
        files: the objects under `streams/`, as S3KeySensor describes them.
        quiet: time without a new file after which a delivery counts as complete.
        left: files that S3 did not return to an earlier run, in the form of `LEFT_KEY`. They wait for others.
    """
    now = datetime.now(UTC)
    arrived = arrivals({file["Key"]: file["LastModified"] for file in files}, left)
    if not arrived or not quiet:
        return bool(arrived)
    return now - max(arrived) >= quiet or now - min(arrived) >= MAX_QUIET_TIMES * quiet


def arrivals(modified: Mapping[str, datetime], left: Mapping[str, str]) -> list[datetime]:
    """Return the times of the stream files that no earlier run left.

    Args:
        modified: key -> time of the last modification of the objects under `streams/`.
        left: as for `may_begin`.
    """
    return [time for key, time in modified.items() if is_csv(key) and time.isoformat() != left.get(key)]


def check_resources(config: PipelineConfig) -> None:
    """Check that the buckets, the table, the queue of the settings and the Glue script exist and may be used.

    Raises:
        ConfigurationError: a resource does not exist or access is denied; the message names it and its
            variable.
        RetryableError: AWS failed in another way.
    """
    from botocore.exceptions import ClientError

    from helpers.aws.clients import dynamodb_client, s3_client, sqs_client
    from helpers.aws.job_script import read_script

    s3, dynamodb = s3_client(), dynamodb_client()
    for variable, bucket in (
        ("SOURCE_BUCKET_NAME", config.source_bucket),
        ("INTERMEDIATE_BUCKET_NAME", config.intermediate_bucket),
        ("ARCHIVE_BUCKET_NAME", config.archive_bucket),
    ):
        try:
            s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            raise _unusable(f"The bucket {bucket!r}", variable, error) from error
    try:
        dynamodb.describe_table(TableName=config.kpi_table)
    except ClientError as error:
        raise _unusable(f"The table {config.kpi_table!r}", "KPI_TABLE_NAME", error) from error
    if runs_start_by_event():
        # Airflow itself writes only to the triggerer's log that it cannot read the queue.
        queue = config.streams_queue_url
        try:
            sqs_client().get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        except ClientError as error:
            raise _unusable(f"The queue {queue!r}", "STREAMS_QUEUE_URL", error) from error
    read_script(s3, config)


def _unusable(what: str, variable: str, error: Any) -> Exception:
    code = error.response["Error"]["Code"]
    if code in {"404", "NoSuchBucket", "ResourceNotFoundException", NO_QUEUE}:
        return ConfigurationError(
            f"{what}, named by {variable}, does not exist. Deploy include/stack.yaml or correct the variable."
        )
    if code in {"403", "AccessDenied", "AccessDeniedException"}:
        return ConfigurationError(
            f"{what}, named by {variable}, may not be used with these credentials (access denied). "
            "Check the connection aws_default and its role's policy."
        )
    return RetryableError(f"{what}, named by {variable}, could not be checked: {error}")
