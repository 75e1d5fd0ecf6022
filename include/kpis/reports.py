"""The run reports in the archive bucket, and links to what a run put into quarantine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from include.kpis.problems import ReadError, explained
from include.kpis.table import CLIENT_CONFIG

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET_VARIABLE = "ARCHIVE_BUCKET_NAME"
LINK_SECONDS = 3600
MAX_CONNECTIONS = 8


@dataclass(frozen=True)
class QuarantinedFile:
    """A stream file that was rejected as a whole: its key in the source and in the archive, rows and why."""

    key: str
    destination: str
    rows: int
    reason: str


@dataclass(frozen=True)
class RunReport:
    """What a run did; rows = valid + rejected, valid = new + repeated.

    Attributes:
        status: `complete`, or `no_valid_rows` for a run that ended red because nothing was valid.
        frozen_at: when the run listed its files, UTC.
        completed_at: when it wrote its report, its last step but one, UTC.
        files, archived, quarantined, left: stream files, and what became of them.
        rows, valid, rejected: rows of the stream files.
        new, repeated: valid rows that count, and those that counted before; None when none was valid.
        days: listen days that were computed.
        reprocessed: whether it computed days again, without new files.
    """

    run_key: str
    dag_run_id: str
    status: str
    frozen_at: datetime
    completed_at: datetime
    files: int
    archived: int
    quarantined: int
    left: int
    rows: int
    valid: int
    rejected: int
    rejected_by_reason: Mapping[str, int]
    new: int | None
    repeated: int | None
    days: tuple[date, ...]
    reprocessed: bool
    quarantined_files: tuple[QuarantinedFile, ...]

    @property
    def duration(self) -> timedelta:
        """From the listing of the files to the report: without the wait for files."""
        return self.completed_at - self.frozen_at


@dataclass(frozen=True)
class Archive:
    """The archive bucket's name and the client to read it with."""

    s3: S3Client
    bucket: str


def open_archive(bucket: str | None = None) -> Archive:
    """Return the archive bucket of that name, else of ARCHIVE_BUCKET_NAME; reads nothing yet.

    Raises:
        ReadError: neither names one, or there is no region.
    """
    bucket = bucket or os.environ.get(BUCKET_VARIABLE, "").strip()
    if not bucket:
        raise ReadError(
            f"The environment variable {BUCKET_VARIABLE} is not set. Set it to the bucket that holds the run "
            "reports, as in .env.example."
        )
    with explained(f"bucket {bucket}", BUCKET_VARIABLE):
        # Links are signed in the way that all regions take.
        config = CLIENT_CONFIG.merge(Config(signature_version="s3v4"))
        return Archive(boto3.Session().client("s3", config=config), bucket)


def read_reports(archive: Archive, newest: int) -> tuple[list[RunReport], int]:
    """Return the newest run reports, newest first, and how many there are in all.

    One call reads one report, and one lists those of about 500 runs.

    Raises:
        ReadError: the bucket cannot be read.
    """
    with explained(f"bucket {archive.bucket}", BUCKET_VARIABLE):
        pages = archive.s3.get_paginator("list_objects_v2").paginate(Bucket=archive.bucket, Prefix="runs/")
        found = [
            (entry["LastModified"], entry["Key"])
            for page in pages
            for entry in page.get("Contents", [])
            if entry["Key"].endswith("/report.json")
        ]
        keys = [key for _, key in sorted(found, reverse=True)[:newest]]
        with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
            reports = list(pool.map(lambda key: _read_report(archive, key), keys))
    return sorted(reports, key=lambda report: report.completed_at, reverse=True), len(found)


def list_rejected_rows(archive: Archive, report: RunReport) -> list[str]:
    """Return the keys of the CSV files with the rejected rows of a run's other files.

    Raises:
        ReadError: the bucket cannot be read.
    """
    prefix = f"quarantine/{report.run_key}/rejected_rows/"
    with explained(f"bucket {archive.bucket}", BUCKET_VARIABLE):
        pages = archive.s3.get_paginator("list_objects_v2").paginate(Bucket=archive.bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return [key for key in keys if key.endswith(".csv")]


def link(archive: Archive, key: str) -> str:
    """Return an address from which a browser can download the object for an hour.

    Raises:
        ReadError: there are no credentials to sign it with.
    """
    with explained(f"bucket {archive.bucket}", BUCKET_VARIABLE):
        return archive.s3.generate_presigned_url(
            "get_object", Params={"Bucket": archive.bucket, "Key": key}, ExpiresIn=LINK_SECONDS
        )


def _read_report(archive: Archive, key: str) -> RunReport:
    report = json.loads(archive.s3.get_object(Bucket=archive.bucket, Key=key)["Body"].read())
    totals: dict[str, Any] = report["totals"]
    return RunReport(
        run_key=report["run_key"],
        dag_run_id=report["dag_run_id"],
        status=report["status"],
        frozen_at=datetime.fromisoformat(report["frozen_at"]),
        completed_at=datetime.fromisoformat(report["completed_at"]),
        **{name: totals[name] for name in ("files", "archived", "quarantined", "left")},
        **{name: totals[name] for name in ("rows", "valid", "rejected", "rejected_by_reason")},
        new=totals.get("new"),
        repeated=totals.get("repeated"),
        days=tuple(date.fromisoformat(day) for day in sorted(report["days"])),
        reprocessed=bool(report.get("reprocess_dates")),
        quarantined_files=tuple(
            QuarantinedFile(file["key"], file["destination"], file["rows"], file["reason"] or "")
            for file in report["files"]
            if file["disposition"] == "quarantine"
        ),
    )
