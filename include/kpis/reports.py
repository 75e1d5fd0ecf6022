"""The run reports in the archive bucket, and links to quarantined objects."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from helpers.contract.figures import figures_of
from helpers.contract.keys import rejected_rows_prefix
from helpers.contract.rejections import rejections
from include.kpis.problems import ReadError, explained
from include.kpis.table import CLIENT_CONFIG

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

    from helpers.contract import records

BUCKET_VARIABLE = "ARCHIVE_BUCKET_NAME"
LINK_SECONDS = 3600
MAX_CONNECTIONS = 8


@dataclass(frozen=True)
class QuarantinedFile:
    """A stream file that was rejected as a whole: its keys in source and archive, its rows and the reason."""

    key: str
    destination: str
    rows: int
    reason: str


@dataclass(frozen=True)
class RunCheck:
    """A check of a run: `verdict` is passed, warned or accepted; `message` gives the reason."""

    name: str
    value: float | None
    limit: float | None
    verdict: str
    message: str


@dataclass(frozen=True)
class RunReport:
    """A run's results; rows = valid + rejected, valid = new + repeated.

    Attributes:
        status: `complete`; `no_valid_rows` for a run that failed because no row was valid; `all_left` for a
            run that was skipped because no file could be taken.
        frozen_at: when the run listed its files, UTC.
        completed_at: when it wrote its report, its second-to-last step, UTC.
        files, archived, quarantined, left: number of stream files, and of those with each outcome.
        rows, valid, rejected: rows of the stream files.
        new, repeated: valid rows that count, and those that were counted before; None if no row was valid.
        days: listen days that were computed.
        reprocessed: whether the run reprocessed days without new files.
        why_rows: why rows of archived files were rejected; empty if none were.
        figures: by name, as `helpers.contract.figures` declares them; None where the report lacks one.
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
    checks: tuple[RunCheck, ...]
    why_rows: str
    figures: Mapping[str, float | None]

    @property
    def duration(self) -> timedelta:
        """Time from listing the files to writing the report, without the wait for files."""
        return self.completed_at - self.frozen_at


@dataclass(frozen=True)
class Archive:
    """The archive bucket's name and the client to read it with."""

    s3: S3Client
    bucket: str


def open_archive(bucket: str | None = None) -> Archive:
    """Return the archive bucket of that name, or of ARCHIVE_BUCKET_NAME; makes no call yet.

    Raises:
        ReadError: neither names a bucket, or there is no region.
    """
    bucket = bucket or os.environ.get(BUCKET_VARIABLE, "").strip()
    if not bucket:
        raise ReadError(
            f"The environment variable {BUCKET_VARIABLE} is not set. Set it to the bucket that holds the run "
            "reports, as in .env.example."
        )
    with explained(f"bucket {bucket}", BUCKET_VARIABLE):
        # This signature version works in all regions.
        config = CLIENT_CONFIG.merge(Config(signature_version="s3v4"))
        return Archive(boto3.Session().client("s3", config=config), bucket)


def list_rejected_rows(archive: Archive, report: RunReport) -> list[str]:
    """Return the keys of the CSV files with the rejected rows of a run's accepted files.

    Raises:
        ReadError: the bucket cannot be read.
    """
    with explained(f"bucket {archive.bucket}", BUCKET_VARIABLE):
        found = list(list_objects(archive.s3, archive.bucket, rejected_rows_prefix(report.run_key)))
    return [entry["Key"] for entry in found if entry["Key"].endswith(".csv")]


def link(archive: Archive, key: str) -> str:
    """Return an address at which a browser can download the object for an hour.

    Raises:
        ReadError: there are no credentials to sign it with.
    """
    with explained(f"bucket {archive.bucket}", BUCKET_VARIABLE):
        return archive.s3.generate_presigned_url(
            "get_object", Params={"Bucket": archive.bucket, "Key": key}, ExpiresIn=LINK_SECONDS
        )


def list_objects(s3: S3Client, bucket: str, prefix: str) -> Iterator[ObjectTypeDef]:
    """Yield the objects under the prefix as S3 lists them; boto3's errors are left to the caller."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def read_json(archive: Archive, key: str) -> Any:
    """Return the decoded JSON object of that key; boto3's errors are left to the caller."""
    return json.loads(archive.s3.get_object(Bucket=archive.bucket, Key=key)["Body"].read())


def read_report(archive: Archive, key: str) -> RunReport:
    """Return the run report of that key; boto3's errors are left to the caller."""
    report: records.RunReport = read_json(archive, key)
    totals = report["totals"]
    return RunReport(
        run_key=report["run_key"],
        dag_run_id=report["dag_run_id"],
        status=report["status"],
        frozen_at=datetime.fromisoformat(report["frozen_at"]),
        completed_at=datetime.fromisoformat(report["completed_at"]),
        files=totals["files"],
        archived=totals["archived"],
        quarantined=totals["quarantined"],
        left=totals["left"],
        rows=totals["rows"],
        valid=totals["valid"],
        rejected=totals["rejected"],
        rejected_by_reason=totals["rejected_by_reason"],
        new=totals.get("new"),
        repeated=totals.get("repeated"),
        days=tuple(date.fromisoformat(day) for day in sorted(report["days"])),
        reprocessed=bool(report.get("reprocess_dates")),
        quarantined_files=tuple(
            QuarantinedFile(file["key"], file["destination"] or "", file["rows"], file["reason"] or "")
            for file in report["files"]
            if file["disposition"] == "quarantine"
        ),
        checks=tuple(
            RunCheck(check["name"], check["value"], check["limit"], check["verdict"], check["message"])
            for check in report.get("checks", [])
        ),
        why_rows=rejections(
            (file["key"], file) for file in report["files"] if file["disposition"] == "archive"
        ),
        figures=figures_of(report),
    )
