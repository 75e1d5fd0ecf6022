"""Task sense_streaming_data: waits for the first stream file of a run."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowSkipException
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.providers.common.compat.sdk import BaseSensorOperator

from helpers.contract.keys import manifest_key, run_key_of
from helpers.contract.names import STREAMS_PREFIX, is_csv
from helpers.contract.records import SKIPPED
from helpers.contract.settings import PipelineConfig
from helpers.errors import ConfigurationError, RetryableError
from helpers.notices.record_ending import record_ending
from helpers.notices.sentences import ignored_sentence

if TYPE_CHECKING:
    from airflow.utils.context import Context


class StreamingDataSensor(S3KeySensor):
    """Checks that all resources of the run exist, then waits for a stream file.

    If an earlier attempt already listed the run's files, it does not wait: they may be archived by now.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Watch for any stream file; the bucket is read from the settings when the task runs."""
        super().__init__(
            bucket_key=f"{STREAMS_PREFIX}*", wildcard_match=True, check_fn=has_csv_file, **kwargs
        )

    def execute(self, context: Context) -> Any:
        """Check the settings and resources, then poke.

        Raises:
            ConfigurationError: a setting, a bucket or the table is missing; the message names it.
            AirflowSkipException: no stream file came in time; the message names the files that came instead.
        """
        from helpers.aws.clients import s3_client
        from helpers.aws.s3_objects import list_sizes, read_json

        config, s3 = PipelineConfig.from_env(), s3_client()
        check_resources(config)
        run_key = run_key_of(context["run_id"])
        if read_json(s3, config.archive_bucket, manifest_key(run_key)):
            self.log.info("The files of run %s are listed already", run_key)
            return None
        self.bucket_name = config.source_bucket
        self.timeout = config.sensor_timeout_minutes * 60
        try:
            # Not `super().execute`: Airflow 2 takes it for a call outside of a task and warns at each look.
            return inspect.unwrap(BaseSensorOperator.execute)(self, context)
        except AirflowSkipException as skip:
            ignored = [key for key in list_sizes(s3, config.source_bucket, STREAMS_PREFIX) if not is_csv(key)]
            reason = (
                f"No CSV file came under s3://{config.source_bucket}/{STREAMS_PREFIX} within "
                f"{config.sensor_timeout_minutes:g} minutes: nothing to do. "
                f"{ignored_sentence(ignored)}".rstrip()
            )
            record_ending(context["run_id"], self.task_id, SKIPPED, reason)
            raise AirflowSkipException(reason) from skip


def has_csv_file(files: list[dict[str, Any]]) -> bool:
    """Return whether any of the objects, as S3KeySensor describes them, is a CSV file."""
    return any(is_csv(file["Key"]) for file in files)


def check_resources(config: PipelineConfig) -> None:
    """Check that the buckets, the table and the Glue script exist and may be used.

    Raises:
        ConfigurationError: a resource does not exist or access is denied; the message names it and its
            variable.
        RetryableError: AWS failed in another way.
    """
    from botocore.exceptions import ClientError

    from helpers.aws.clients import dynamodb_client, s3_client
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
    read_script(s3, config)


def _unusable(what: str, variable: str, error: Any) -> Exception:
    code = error.response["Error"]["Code"]
    if code in {"404", "NoSuchBucket", "ResourceNotFoundException"}:
        return ConfigurationError(
            f"{what}, named by {variable}, does not exist. Deploy include/stack.yaml or correct the variable."
        )
    if code in {"403", "AccessDenied", "AccessDeniedException"}:
        return ConfigurationError(
            f"{what}, named by {variable}, may not be used with these credentials (access denied). "
            "Check the connection aws_default and its role's policy."
        )
    return RetryableError(f"{what}, named by {variable}, could not be checked: {error}")
