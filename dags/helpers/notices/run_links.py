"""Addresses at which a browser shows the objects of a run: in AWS's console, or signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.providers.amazon.aws.links.base_aws import BaseAwsLink

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
# A week is the longest that a signature may last.
SIGNED_SECONDS = 7 * 24 * 3600


def object_url(s3: S3Client, bucket: str, key: str) -> str:
    """Return the address of the object for a browser: in AWS's console, or signed for other endpoints."""
    console = console_url(s3)
    if console is None:
        return s3.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=SIGNED_SECONDS
        )
    return f"{console}/s3/object/{bucket}?region={s3.meta.region_name}&prefix={quote(key, safe='')}"


def prefix_url(s3: S3Client, bucket: str, prefix: str) -> str:
    """Return the address of the list of objects below the prefix, in the same form as `object_url`."""
    console = console_url(s3)
    if console is None:
        return s3.generate_presigned_url(
            "list_objects_v2", Params={"Bucket": bucket, "Prefix": prefix}, ExpiresIn=SIGNED_SECONDS
        )
    return f"{console}/s3/buckets/{bucket}?region={s3.meta.region_name}&prefix={quote(prefix, safe='')}"


def console_url(client: Any) -> str | None:
    """Return the address of AWS's console for the client's partition, or None if its endpoint is not AWS."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    domain = BaseAwsLink.get_aws_domain(client.meta.partition)
    return f"https://console.{domain}" if domain and host.endswith(AWS_HOSTS) else None
