"""Addresses of pages on which a person reads about a run: in the dashboard or in AWS's console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.providers.amazon.aws.links.base_aws import BaseAwsLink

from helpers.contract.keys import quarantine_prefix, report_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from helpers.contract.settings import PipelineConfig

AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


def dashboard_page(config: PipelineConfig, run_key: str) -> str | None:
    """Return the address of the run in the dashboard; None without DASHBOARD_URL."""
    return f"{config.dashboard_url}/pipeline?run={quote(run_key)}" if config.dashboard_url else None


def report_page(s3: S3Client, config: PipelineConfig, run_key: str) -> str | None:
    """Return the address of a page about the run: the dashboard's, or its report's in AWS's console.

    None if there is neither. S3 itself would answer with JSON, so its address would not help.
    """
    if page := dashboard_page(config, run_key):
        return page
    console = console_url(s3)
    if console is None:
        return None
    key = quote(report_key(run_key), safe="")
    return f"{console}/s3/object/{config.archive_bucket}?region={s3.meta.region_name}&prefix={key}"


def quarantine_page(s3: S3Client, config: PipelineConfig, run_key: str) -> str | None:
    """Return the address of the run's quarantine in AWS's console; None if the endpoint is not AWS."""
    console = console_url(s3)
    if console is None:
        return None
    prefix = quote(quarantine_prefix(run_key), safe="")
    return f"{console}/s3/buckets/{config.archive_bucket}?region={s3.meta.region_name}&prefix={prefix}"


def console_url(client: Any) -> str | None:
    """Return the address of AWS's console for the client's partition, or None if its endpoint is not AWS."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    domain = BaseAwsLink.get_aws_domain(client.meta.partition)
    return f"https://console.{domain}" if domain and host.endswith(AWS_HOSTS) else None
