"""Task sense_streaming_data: the doorbell that starts a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor

from helpers.config import STREAMS_PREFIX, PipelineConfig
from helpers.errors import ConfigurationError
from helpers.run_key import manifest_key, run_key_of

if TYPE_CHECKING:
    from airflow.utils.context import Context


class StreamingDataSensor(S3KeySensor):
    """Waits for a stream file, after a check that everything the run will need is there.

    It rings at once in a run whose files were listed by an earlier attempt: they may be archived already.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Watch for any stream file; the bucket comes from the settings when the task runs."""
        super().__init__(bucket_key=f"{STREAMS_PREFIX}*.csv*", wildcard_match=True, **kwargs)

    def execute(self, context: Context) -> Any:
        """Check the settings and resources, then poke.

        Raises:
            ConfigurationError: a setting, a bucket or the table is missing; the message names it.
        """
        from helpers.aws import s3_client
        from helpers.s3_objects import read_json

        config = PipelineConfig.from_env()
        check_resources(config)
        run_key = run_key_of(context["run_id"])
        if read_json(s3_client(), config.archive_bucket, manifest_key(run_key)):
            self.log.info("The files of run %s are listed already", run_key)
            return None
        self.bucket_name = config.source_bucket
        self.timeout = config.sensor_timeout_minutes * 60
        return super().execute(context)


def check_resources(config: PipelineConfig) -> None:
    """Check that the buckets and the table exist and may be used.

    Raises:
        ConfigurationError: one does not exist or access is denied; names the variable and the resource.
    """
    from botocore.exceptions import ClientError

    from helpers.aws import dynamodb_client, s3_client

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
    return RuntimeError(f"{what}, named by {variable}, could not be checked: {error}")
