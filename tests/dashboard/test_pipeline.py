from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from pages import open_page

TOTALS = {
    "files": 5,
    "archived": 4,
    "quarantined": 1,
    "left": 0,
    "rows": 33_320,
    "valid": 33_200,
    "rejected": 120,
    "rejected_by_reason": {"empty user_id": 70, "invalid listen_time": 50},
    "new": 32_962,
    "repeated": 238,
}
QUARANTINED = {
    "key": "streams/bad.csv",
    "disposition": "quarantine",
    "rows": 20,
    "destination": "quarantine/run-1/bad__1.csv",
    "reason": "20 of 20 rows are bad",
}


@pytest.fixture
def bucket(s3: Any, table_name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"archive-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    monkeypatch.setenv("ARCHIVE_BUCKET_NAME", name)
    return name


@pytest.fixture
def put_report(s3: Any, bucket: str) -> Callable[..., None]:
    def put(number: int, **changes: Any) -> None:
        report = {
            "run_key": f"run-{number}",
            "dag_run_id": f"manual__{number}",
            "frozen_at": f"2024-06-26T0{number}:00:00+00:00",
            "completed_at": f"2024-06-26T0{number}:01:30.500000+00:00",
            "status": "complete",
            "totals": TOTALS,
            "days": {"2024-06-24": {}, "2024-06-25": {}},
            "files": [],
            "reprocess_dates": [],
        }
        s3.put_object(Bucket=bucket, Key=f"runs/run-{number}/report.json", Body=json.dumps(report | changes))

    return put


def test_every_number_is_the_report_s(put_report: Callable[..., None]) -> None:
    put_report(1)
    put_report(
        2, totals=TOTALS | {"rows": 7, "rejected": 3, "new": 4, "repeated": 0, "rejected_by_reason": {"x": 3}}
    )

    page = open_page("pipeline")

    newest, oldest = page.frame().to_dict("records")
    assert {
        name: oldest[name] for name in ("Files", "Archived", "Quarantined", "Rows", "Valid", "Rejected")
    } == {
        "Files": 5,
        "Archived": 4,
        "Quarantined": 1,
        "Rows": 33_320,
        "Valid": 33_200,
        "Rejected": 120,
    }
    assert (oldest["New"], oldest["Repeated"], oldest["Duration (s)"]) == (32_962, 238, 90.5)
    assert (oldest["Days touched"], oldest["Ended"]) == ("2: 2024-06-24 to 2024-06-25", "complete")
    assert (newest["Run"], newest["Rows"], newest["New"]) == ("manual__2", 7, 4)
    rows = page.charts()["Rows of stream files per run"]
    assert list(zip(rows["Run"], rows["Kind"], rows["Rows"], strict=True)) == [
        ("06-26 01:00:00", "New", 32_962),
        ("06-26 01:00:00", "Repeated", 238),
        ("06-26 01:00:00", "Rejected", 120),
        ("06-26 02:00:00", "New", 4),
        ("06-26 02:00:00", "Repeated", 0),
        ("06-26 02:00:00", "Rejected", 3),
    ]
    reasons = page.charts()["Rejected rows by reason"]
    assert dict(zip(reasons["Reason"], reasons["label"], strict=True)) == {
        "empty user_id": "70",
        "invalid listen_time": "50",
        "x": "3",
    }


def test_links_download_what_was_put_into_quarantine(
    put_report: Callable[..., None], s3: Any, bucket: str
) -> None:
    put_report(1, files=[QUARANTINED])
    rejected = "quarantine/run-1/rejected_rows/part-00000.csv"
    s3.put_object(Bucket=bucket, Key=QUARANTINED["destination"], Body=b"the file")
    s3.put_object(Bucket=bucket, Key=rejected, Body=b"the rows")

    file, rows = open_page("pipeline").frame(1).to_dict("records")

    assert (file["File"], file["Rows"], file["Why"]) == ("streams/bad.csv", 20, "20 of 20 rows are bad")
    assert (rows["File"], rows["Rows"]) == ("part-00000.csv", 100)
    for entry, content in ((file, b"the file"), (rows, b"the rows")):
        with urllib.request.urlopen(entry["Download"]) as answer:
            assert answer.read() == content


def test_ways_in_which_a_run_ends_are_told_apart(put_report: Callable[..., None]) -> None:
    none_valid = {name: value for name, value in TOTALS.items() if name not in ("new", "repeated")}
    put_report(1, status="no_valid_rows", totals=none_valid, days={})
    put_report(2, reprocess_dates=["2024-06-24"], days={"2024-06-24": {}})

    frame = open_page("pipeline").frame()

    assert list(frame["Ended"]) == ["days computed again", "failed: no valid row"]
    assert list(frame["Days touched"]) == ["2024-06-24", "none"]


def test_runs_without_rejected_rows_say_so(put_report: Callable[..., None]) -> None:
    put_report(1, totals=TOTALS | {"rejected": 0, "quarantined": 0, "rejected_by_reason": {}})

    assert open_page("pipeline").sentences == [
        "No row was rejected in these runs.",
        "These runs put nothing into quarantine.",
    ]


def test_archive_without_a_report_says_what_makes_one(bucket: str) -> None:
    (sentence,) = open_page("pipeline").sentences

    assert sentence.endswith(
        "has no run report yet: no run has ended. "
        "On local AWS `make run` makes one; on AWS start a run of the DAG."
    )


def test_missing_variable_and_bucket_are_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_BUCKET_NAME", "no-such-bucket")
    assert "The bucket no-such-bucket does not exist." in open_page("pipeline").sentences[0]

    import streamlit as st

    st.cache_resource.clear()
    monkeypatch.delenv("ARCHIVE_BUCKET_NAME")
    assert "ARCHIVE_BUCKET_NAME is not set. Set it to the bucket" in open_page("pipeline").sentences[0]
