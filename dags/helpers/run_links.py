"""Links in Airflow's UI from the run's tasks to its records, and the addresses that they lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.models.xcom import XCom
from airflow.providers.amazon.aws.links.base_aws import BaseAwsLink
from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from helpers.config import PipelineConfig

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.utils.context import Context
    from mypy_boto3_s3 import S3Client

    from helpers.store_kpis_in_dynamodb import StoredKpis

AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
# A week: no signature lasts longer.
SIGNED_SECONDS = 7 * 24 * 3600


class RunReportLink(BaseOperatorLink):  # type: ignore[misc]
    """Leads to the run report, once it is written."""

    name = "Run report"
    xcom_key = "run_report_link"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address that the task left behind.

        Raises:
            ValueError: there is none; Airflow shows the message on the link.
        """
        address: str | None = XCom.get_value(key=self.xcom_key, ti_key=ti_key)
        if not address:
            raise ValueError("The run report is written when this task succeeds.")
        return address


class ArchiveStreamsDataOperator(BaseOperator):  # type: ignore[misc]
    """Archives or quarantines the source files and writes the run report, to which it links."""

    template_fields = ("stored",)
    operator_extra_links = (RunReportLink(),)

    def __init__(self, *, stored: StoredKpis, **kwargs: Any) -> None:
        """Take what `store_kpis_in_dynamodb` returned."""
        super().__init__(**kwargs)
        self.stored = stored

    def execute(self, context: Context) -> str:
        """Do the task and return the report's key."""
        from helpers import archive_streams_data as helper
        from helpers.aws import s3_client

        config = PipelineConfig.from_env()
        key = helper.archive_streams_data(self.stored, config)
        address = object_url(s3_client(), config.archive_bucket, key)
        context["ti"].xcom_push(key=RunReportLink.xcom_key, value=address)
        return key


def object_url(s3: S3Client, bucket: str, key: str) -> str:
    """Return where a browser shows the object: AWS's console, or a signed address if it is not AWS."""
    console = console_url(s3)
    if console is None:
        return s3.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=SIGNED_SECONDS
        )
    return f"{console}/s3/object/{bucket}?region={s3.meta.region_name}&prefix={quote(key, safe='')}"


def prefix_url(s3: S3Client, bucket: str, prefix: str) -> str:
    """Return where a browser lists the objects below the prefix, as `object_url` does."""
    console = console_url(s3)
    if console is None:
        return s3.generate_presigned_url(
            "list_objects_v2", Params={"Bucket": bucket, "Prefix": prefix}, ExpiresIn=SIGNED_SECONDS
        )
    return f"{console}/s3/buckets/{bucket}?region={s3.meta.region_name}&prefix={quote(prefix, safe='')}"


def console_url(client: Any) -> str | None:
    """Return the address of AWS's console for the client's partition, or None if it does not talk to AWS."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    domain = BaseAwsLink.get_aws_domain(client.meta.partition)
    return f"https://console.{domain}" if domain and host.endswith(AWS_HOSTS) else None
