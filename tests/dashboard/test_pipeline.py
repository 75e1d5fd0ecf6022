from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pages import open_page

from helpers.contract.figures import FIGURES
from quality_support import thirty_reports

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
WARNED = {
    "name": "old_days",
    "value": 2,
    "limit": 0,
    "verdict": "warned",
    "message": "[2] *days* are old",
}
QUARANTINED = {
    "key": "streams/bad.csv",
    "disposition": "quarantine",
    "rows": 20,
    "destination": "quarantine/run-1/bad__1.csv",
    "rejected": 20,
    "rejected_by_reason": {"invalid listen_time": 20},
    "reason": "20 of 20 rows are bad",
}
WITH_REJECTED_ROWS = {
    "key": "streams/good.csv",
    "disposition": "archive",
    "rows": 33_300,
    "rejected": 100,
    "rejected_by_reason": {"empty user_id": 70, "invalid listen_time": 30},
    "rejected_examples": {
        "empty user_id": {"line": 5, "value": None, "looks_like": None, "remedy": "fill it in"}
    },
    "destination": "streams/2024-06-26/good__1.csv",
    "reason": None,
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


@pytest.fixture
def put_record(s3: Any, bucket: str) -> Callable[[str, Any], None]:
    def put(key: str, record: Any) -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(record))

    return put


def ending(number: int, **changes: Any) -> dict[str, Any]:
    """Return the ending of a run that wrote no report."""
    return {
        "run_key": f"run-{number}",
        "dag_run_id": f"manual__{number}",
        "state": "failed",
        "task_id": "trigger_glue_job",
        "ended_at": datetime.now(UTC).isoformat(),
        "reason": "Glue ended *FAILED*",
        "next_step": "Fix what the reason names.",
        "section": "the-glue-job-failed",
    } | changes


def manifest(number: int, began: datetime, *streams: dict[str, str]) -> dict[str, Any]:
    return {"dag_run_id": f"manual__{number}", "frozen_at": began.isoformat(), "streams": list(streams)}


def test_every_number_is_the_report_s(put_report: Callable[..., None]) -> None:
    put_report(1)
    put_report(
        2, totals=TOTALS | {"rows": 7, "rejected": 3, "new": 4, "repeated": 0, "rejected_by_reason": {"x": 3}}
    )

    page = open_page("pipeline")

    newest, oldest = page.frame().to_dict("records")
    counts = ("Files", "Quarantined", "Rows", "Rejected", "New", "Repeated")
    assert {name: oldest[name] for name in counts} == {
        "Files": 5,
        "Quarantined": 1,
        "Rows": 33_320,
        "Rejected": 120,
        "New": 32_962,
        "Repeated": 238,
    }
    assert (oldest["State"], oldest["Duration"]) == (["complete"], "1 min 30 s")
    assert oldest["Days"] == "2024-06-24 to 2024-06-25 (2)"
    assert (newest["Run"], newest["Rows"], newest["New"]) == ("manual__2", 7, 4)
    rows = page.charts()["Rows of stream files per run"]
    assert list(zip(rows["Run"], rows["Kind"], rows["label"], strict=True)) == [
        ("06-26 02:00:00", "New", "4"),
        ("06-26 02:00:00", "Rejected", "3"),
        ("06-26 02:00:00", "Repeated", ""),
        ("06-26 01:00:00", "New", "32,962"),
        ("06-26 01:00:00", "Rejected", "120"),
        ("06-26 01:00:00", "Repeated", "238"),
    ]
    reasons = page.charts()["Rejected rows by reason"]
    assert dict(zip(reasons["Reason"], reasons["label"], strict=True)) == {
        "empty user_id": "70",
        "invalid listen_time": "50",
        "x": "3",
    }
    assert "**Rows:** 7 = 33,200 valid + 3 rejected" in page.text


def test_links_download_what_was_put_into_quarantine(
    put_report: Callable[..., None], s3: Any, bucket: str
) -> None:
    put_report(1, files=[QUARANTINED, WITH_REJECTED_ROWS])
    rejected = "quarantine/run-1/rejected_rows/part-00000.csv"
    s3.put_object(Bucket=bucket, Key=QUARANTINED["destination"], Body=b"the file")
    s3.put_object(Bucket=bucket, Key=rejected, Body=b"the rows")

    file, rows = open_page("pipeline").frame(1).to_dict("records")

    assert (file["File"], file["Rows"], file["Why"]) == ("streams/bad.csv", 20, "20 of 20 rows are bad")
    assert (rows["File"], rows["Rows"]) == ("part-00000.csv", 100)
    assert rows["Why"] == (
        "rejected rows of the other files: streams/good.csv: empty user_id in 70 rows, the first in line 5: "
        "fill it in; invalid listen_time in 30 rows"
    )
    for entry, content in ((file, b"the file"), (rows, b"the rows")):
        with urllib.request.urlopen(entry["Download"]) as answer:
            assert answer.read() == content


def test_ways_in_which_a_run_ends_are_told_apart_by_word(put_report: Callable[..., None]) -> None:
    none_valid = {name: value for name, value in TOTALS.items() if name not in ("new", "repeated")}
    put_report(1, status="no_valid_rows", totals=none_valid, days={})
    put_report(2, reprocess_dates=["2024-06-24"], days={"2024-06-24": {}})
    put_report(3, status="all_left", days={}, totals=TOTALS | {"left": 5, "archived": 0})
    put_report(4, checks=[WARNED])

    frame = open_page("pipeline").frame()

    assert list(frame["State"]) == [["warned"], ["skipped"], ["complete"], ["failed"]]
    assert list(frame["Days"]) == ["2024-06-24 to 2024-06-25 (2)", "none", "2024-06-24", "none"]


def test_failed_run_has_its_reason_and_the_command_as_it_is_typed(
    put_report: Callable[..., None],
    put_record: Callable[[str, Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DASHBOARD_MAKE_OPTIONS", " AWS_PORT=5611")
    put_report(1)
    put_record("runs/run-2/ending.json", ending(2))

    page = open_page("pipeline")

    newest = page.frame().to_dict("records")[0]
    assert (newest["State"], newest["Why"]) == (["failed"], "Glue ended *FAILED*")
    assert newest["Next command"] == "make run AWS_PORT=5611"
    assert page.commands[0] == "make run AWS_PORT=5611"
    assert r"Glue ended \*FAILED\*" in page.text
    assert (
        r"**What to do:** Fix what the reason names\. More: `docs/runbook.md#the-glue-job-failed`"
        in page.text
    )
    assert "Data as of 2024-06-26 01:01 UTC" in page.text, "a failed run makes no data newer"


def test_run_of_which_only_airflow_knows_how_it_ended_says_so(
    put_record: Callable[[str, Any], None],
) -> None:
    put_record("runs/run-1/manifest.json", manifest(1, datetime.now(UTC) - timedelta(hours=5)))
    put_record("runs/run-2/manifest.json", manifest(2, datetime.now(UTC)))

    page = open_page("pipeline")

    assert {row["Run"]: row["State"] for row in page.frame().to_dict("records")} == {
        "manual__1": ["no ending"],
        "manual__2": ["running"],
    }
    assert "or it was stopped from outside" in page.text


def test_run_without_files_is_shown_as_skipped(put_record: Callable[[str, Any], None]) -> None:
    put_record("runs/run-1/ending.json", ending(1, state="skipped", reason="No CSV file came", section=""))

    page = open_page("pipeline")

    assert list(page.frame()["State"]) == [["skipped"]]
    assert "No CSV file came" in page.text
    assert page.commands == []


def test_files_that_wait_are_named_with_the_command_that_takes_them(
    put_report: Callable[..., None], s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASHBOARD_MAKE_OPTIONS", " AWS_PORT=5611")
    monkeypatch.setenv("SOURCE_BUCKET_NAME", bucket)
    put_report(1, totals=TOTALS | {"rejected": 0, "quarantined": 0})
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"streams/{number}.csv", Body=b"x" * 1000)

    page = open_page("pipeline")

    assert "5 stream files (5.0 kB) wait for a run, the oldest since" in page.text
    assert r"streams\/2\.csv and 2 more" in page.text
    assert page.commands == ["make run AWS_PORT=5611"]


@pytest.mark.parametrize(("source", "why"), [("", "is not set"), ("no-such-bucket", "does not exist")])
def test_waiting_files_that_cannot_be_seen_are_said_and_the_runs_are_shown(
    put_report: Callable[..., None], monkeypatch: pytest.MonkeyPatch, source: str, why: str
) -> None:
    monkeypatch.setenv("SOURCE_BUCKET_NAME", source)
    put_report(1)

    page = open_page("pipeline")

    (caption,) = [
        c.value for c in page.app.caption if c.value.startswith("Files that wait for a run are not")
    ]
    assert why in caption
    assert len(page.frame()) == 1


def test_nothing_to_do_is_said(
    put_report: Callable[..., None], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_BUCKET_NAME", bucket)
    put_report(1, totals=TOTALS | {"rejected": 0, "quarantined": 0, "rejected_by_reason": {}})

    page = open_page("pipeline")

    assert [box.value for box in page.app.success] == ["The last run is complete, and no file waits."]
    assert page.sentences == ["No row was rejected in these runs.", "This run put nothing into quarantine."]


def test_archive_without_a_run_says_what_makes_one(bucket: str) -> None:
    page = open_page("pipeline")

    (sentence,) = page.sentences
    assert sentence.endswith(
        "has no record of a run yet. On local AWS `make run` makes a first run; "
        "on AWS start a run of the DAG."
    )
    assert "**No data yet**: none of these runs stored KPIs." in page.text


def test_missing_variable_and_bucket_are_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_BUCKET_NAME", "no-such-bucket")
    assert "The bucket no-such-bucket does not exist." in open_page("pipeline").sentences[0]

    import streamlit as st

    st.cache_resource.clear()
    monkeypatch.delenv("ARCHIVE_BUCKET_NAME")
    assert "ARCHIVE_BUCKET_NAME is not set. Set it to the bucket" in open_page("pipeline").sentences[0]


def test_checks_that_did_not_simply_pass_are_shown_with_their_run(put_report: Callable[..., None]) -> None:
    put_report(1, checks=[WARNED, WARNED | {"verdict": "passed", "message": ""}])

    page = open_page("pipeline")

    (row,) = page.frame(1).to_dict("records")
    assert (row["Verdict"], row["Value"], row["Limit"]) == ("warned", 2, 0)
    assert row["Why"] == "[2] *days* are old"
    assert r"\[2\] \*days\* are old" in page.text


def test_run_of_which_every_check_passed_says_so(put_report: Callable[..., None]) -> None:
    put_report(1, checks=[WARNED | {"verdict": "passed", "message": ""}])

    assert "Every check of this run passed." in open_page("pipeline").sentences


def test_address_with_a_run_shows_that_run_first(put_report: Callable[..., None]) -> None:
    put_report(1, totals=TOTALS | {"rejected": 7})
    put_report(2)

    page = open_page("pipeline", run="run-1")

    assert page.commands[0].endswith("run-1")
    assert "33,200 valid + 7 rejected" in page.text
    assert "33,200 valid + 120 rejected" not in page.text
    assert [run["Run"] for run in page.frame(-1).to_dict("records")] == ["manual__2", "manual__1"]


def test_address_with_an_unknown_run_says_so(put_report: Callable[..., None]) -> None:
    put_report(1)

    page = open_page("pipeline", run="no *such* run")

    assert any("no record of a run no \\*such\\* run" in sentence for sentence in page.sentences)
    assert len(page.frame()) == 1


FIGURE_TITLES = [figure.label for figure in FIGURES]


@pytest.fixture
def twenty_runs(s3: Any, bucket: str) -> None:
    """As many runs as the page shows at first, of which one is bad."""
    for report in thirty_reports()[10:]:
        key = f"runs/{report['run_key']}/report.json"
        s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(report))


def test_bad_run_is_marked_by_a_word_in_every_chart_in_which_it_is_unusual(twenty_runs: None) -> None:
    page = open_page("pipeline")

    charts = page.charts()
    assert set(FIGURE_TITLES) <= charts.keys()
    marked = {
        (title, run, word)
        for title in FIGURE_TITLES
        for run, word in zip(charts[title]["Id"], charts[title]["Outlier"], strict=True)
        if word
    }
    high = ["Late listens", "Newest listen, hours before the end", "Rejected rows", "Quarantined"]
    high += ["Unmatched share", "Glue, DPU-seconds", "Glue, US dollars"]
    assert marked == {
        *((title, "scheduled__2024-06-25", "low") for title in ("Files", "Rows", "New listens")),
        *((title, "scheduled__2024-06-25", "high") for title in high),
    }
    rows = charts["Rows"]
    assert (len(rows), rows["Value"][14], rows["Number"][14]) == (20, 6_120, "6,120")
    assert rows["Expected"][14] == "16,712 to 66,849"
    assert rows["Low"].isna().sum() == 5
    (sentence,) = [part for part in page.text.split("\n") if "unusual" in part]
    assert "**scheduled__2024" in sentence
    assert r"Rows 6\,120\: low\, expected 16\,712 to 66\,849" in sentence


def test_verdicts_of_checks_are_shown_for_each_run_by_word(twenty_runs: None) -> None:
    page = open_page("pipeline")

    verdicts = page.charts()["Verdicts of checks"]

    of_bad = verdicts[verdicts["Id"] == "scheduled__2024-06-25"]
    assert dict(zip(of_bad["Check"], of_bad["Verdict"], strict=True)) == {
        "quarantined_files": "warned",
        "rejected_rows": "warned",
        "catalog_age_days": "passed",
        "unmatched_tracks_fraction": "accepted",
        "days_far_from_usual": "warned",
    }
    assert "33,204 new (48 of them late) + 365 repeated" in page.text, "of the run in detail"
    assert "**Newest listen:** 2.3 hours before the end" in page.text
    assert "**Glue:** 187 DPU-seconds, about 0.023 US dollars" in page.text
    assert len(verdicts) == 20 * 5, "checks that passed in every run are left out"


def test_older_reports_show_the_figures_that_they_have(put_report: Callable[..., None]) -> None:
    put_report(1)
    put_report(2, checks=[])

    page = open_page("pipeline")

    missing = {"Late listens", "Newest listen, hours before the end", "Unmatched share"}
    missing |= {"Glue, DPU-seconds", "Glue, US dollars"}
    assert page.charts().keys() & set(FIGURE_TITLES) == set(FIGURE_TITLES) - missing
    assert list(page.charts()["Rows"]["Verdict"]) == ["too few runs before"] * 2
    assert "Every check of these runs passed." in page.text


def test_single_run_has_no_course_over_time(put_report: Callable[..., None]) -> None:
    put_report(1)

    assert "Quality over time" not in [heading.value for heading in open_page("pipeline").app.subheader]
