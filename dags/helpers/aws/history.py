"""The days of the history; it imports no Airflow, so the commands use it too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.contract.keys import HISTORY_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def list_days(s3: S3Client, archive_bucket: str) -> list[str]:
    """Return the days (`YYYY-MM-DD`) that have objects in the history, in order."""
    prefix = f"{HISTORY_PREFIX}listen_date="
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=archive_bucket, Prefix=prefix, Delimiter="/")
    folders = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
    return sorted(folder.removeprefix(prefix).rstrip("/") for folder in folders)
