from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from helpers.contract.keys import report_key
from include.kpis.problems import ReadError
from include.kpis.reports import (
    Archive,
    QuarantinedFile,
    link,
    list_rejected_rows,
    open_archive,
    read_report,
)
from include.kpis.runs import read_runs
from local_aws_support import connect

REPORT: dict[str, Any] = {
    "run_key": "run-1",
    "dag_run_id": "manual__1",
    "frozen_at": "2024-06-26T00:00:00+00:00",
    "completed_at": "2024-06-26T00:01:30.500000+00:00",
    "status": "complete",
    "totals": {
        "files": 2,
        "archived": 1,
        "quarantined": 1,
        "left": 0,
        "rows": 100,
        "valid": 90,
        "rejected": 10,
        "rejected_by_reason": {"user_id is empty": 10},
        "new": 80,
        "repeated": 10,
    },
    "days": {"2024-06-25": {"total": 80}, "2024-06-24": {"total": 10}},
    "files": [
        {
            "key": "streams/a.csv",
            "disposition": "archive",
            "rows": 100,
            "rejected": 10,
            "rejected_by_reason": {"user_id is empty": 10},
            "destination": "x",
            "reason": None,
        },
        {
            "key": "streams/b.csv",
            "disposition": "quarantine",
            "rows": 0,
            "destination": "quarantine/run-1/b__1.csv",
            "rejected": 0,
            "rejected_by_reason": {},
            "reason": "missing column listen_time",
        },
    ],
    "reprocess_dates": [],
}


@pytest.fixture
def s3(local_aws: str) -> Any:
    return connect("s3", local_aws)


@pytest.fixture
def archive(s3: Any, environment: None) -> Archive:
    bucket = f"archive-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    return open_archive(bucket)


@pytest.fixture
def put_report(s3: Any, archive: Archive) -> Callable[..., None]:
    def put(run_key: str, **changes: Any) -> None:
        body = json.dumps({**REPORT, "run_key": run_key, **changes})
        s3.put_object(Bucket=archive.bucket, Key=f"runs/{run_key}/report.json", Body=body)

    return put


def test_report_is_read_as_the_run_wrote_it(archive: Archive, put_report: Callable[..., None]) -> None:
    put_report("run-1")

    report = read_report(archive, report_key("run-1"))

    assert (report.run_key, report.dag_run_id, report.status) == ("run-1", "manual__1", "complete")
    assert (report.files, report.archived, report.quarantined, report.left) == (2, 1, 1, 0)
    assert (report.rows, report.valid, report.rejected, report.new, report.repeated) == (100, 90, 10, 80, 10)
    assert report.rejected_by_reason == {"user_id is empty": 10}
    assert report.days == (date(2024, 6, 24), date(2024, 6, 25))
    assert report.frozen_at == datetime(2024, 6, 26, tzinfo=UTC)
    assert report.duration == timedelta(seconds=90.5)
    assert not report.reprocessed
    assert report.why_rows == "streams/a.csv: user_id is empty in 10 rows"
    assert report.quarantined_files == (
        QuarantinedFile("streams/b.csv", "quarantine/run-1/b__1.csv", 0, "missing column listen_time"),
    )


def test_report_of_a_run_without_valid_rows_has_no_new_listens(
    archive: Archive, put_report: Callable[..., None]
) -> None:
    totals = {name: value for name, value in REPORT["totals"].items() if name not in ("new", "repeated")}
    put_report("run-1", status="no_valid_rows", totals=totals, days={})

    report = read_report(archive, report_key("run-1"))

    assert (report.status, report.new, report.repeated, report.days) == ("no_valid_rows", None, None, ())


def test_link_downloads_what_was_put_into_quarantine(
    archive: Archive, put_report: Callable[..., None], s3: Any
) -> None:
    put_report("run-1")
    rejected = "quarantine/run-1/rejected_rows/part-00000.csv"
    s3.put_object(Bucket=archive.bucket, Key=rejected, Body=b"source_file,row\n")
    s3.put_object(Bucket=archive.bucket, Key="quarantine/run-1/rejected_rows/reasons.json", Body=b"{}")
    report = read_report(archive, report_key("run-1"))

    assert list_rejected_rows(archive, report) == [rejected]
    with urllib.request.urlopen(link(archive, rejected)) as answer:
        assert answer.read() == b"source_file,row\n"


def test_missing_bucket_and_missing_variable_are_named(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ReadError, match=r"variable ARCHIVE_BUCKET_NAME is not set\. Set it to the bucket"):
        open_archive()
    monkeypatch.setenv("ARCHIVE_BUCKET_NAME", "no-such-bucket")
    with pytest.raises(ReadError, match=r"The bucket no-such-bucket does not exist\..*ARCHIVE_BUCKET_NAME"):
        read_runs(open_archive(), newest=5)
