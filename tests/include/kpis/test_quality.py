from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from helpers.contract.figures import FIGURES, Figure
from helpers.contract.keys import report_key
from include.kpis.quality import (
    HIGH,
    LOW,
    UNKNOWN,
    USUAL,
    Range,
    compared,
    expected_range,
    outlier_in_words,
    points_by_figure,
    worded,
)
from include.kpis.reports import RunReport, open_archive, read_report
from local_aws_support import connect
from quality_support import BAD, thirty_reports

ROWS, REJECTED = (next(figure for figure in FIGURES if figure.name == name) for name in ("rows", "rejected"))
Read = Callable[..., list[RunReport]]


@pytest.fixture
def read(local_aws: str, environment: None) -> Read:
    """Stores reports and reads them as the dashboard does."""
    s3 = connect("s3", local_aws)
    archive = open_archive(f"archive-{uuid.uuid4().hex[:8]}")
    s3.create_bucket(Bucket=archive.bucket)

    def read(*reports: dict[str, Any]) -> list[RunReport]:
        for report in reports:
            s3.put_object(Bucket=archive.bucket, Key=report_key(report["run_key"]), Body=json.dumps(report))
        return [read_report(archive, report_key(report["run_key"])) for report in reports]

    return read


@pytest.mark.parametrize(
    ("earlier", "figure", "expected"),
    [
        ([100] * 4, ROWS, None),
        ([100] * 5, ROWS, Range(50, 200)),
        ([100] * 5, REJECTED, Range(0, 200)),
        ([0] * 5, REJECTED, Range(0, 0)),
        # The median absolute deviation is 60, so three deviations are 266.9.
        ([40, 70, 100, 160, 190], ROWS, Range(0, 366.868)),
        # A single outlier among them widens nothing.
        ([100, 100, 100, 100, 100_000], ROWS, Range(50, 200)),
    ],
    ids=["too few", "volume", "no lower limit", "always none", "varying", "with an outlier"],
)
def test_range_is_half_to_twice_the_median_or_wider_if_runs_vary(
    earlier: list[float], figure: Figure, expected: Range | None
) -> None:
    found = expected_range(earlier, figure)

    assert found == (expected if expected is None else pytest.approx(expected))


def test_bad_run_of_thirty_is_the_only_one_with_outliers(read: Read) -> None:
    points = points_by_figure(compared(read(*thirty_reports())))

    outliers = {
        (number, name): point.verdict
        for name, of_figure in points.items()
        for number, point in enumerate(of_figure)
        if point.is_outlier
    }
    assert outliers == {
        **{(BAD, name): LOW for name in ("files", "rows", "new")},
        **{
            (BAD, name): HIGH
            for name in (
                "late",
                "freshness_hours",
                "rejected",
                "quarantined_bytes",
                "unmatched_share",
                "dpu_seconds",
                "glue_usd",
            )
        },
    }
    assert outlier_in_words(points["rows"][BAD]) == "Rows 6,120: low, expected 16,441 to 65,765"
    assert outlier_in_words(points["unmatched_share"][BAD]).startswith(
        "Unmatched share 16.3%: high, expected up to "
    )
    assert [point.verdict for point in points["rows"][:6]] == [UNKNOWN] * 5 + [USUAL]


def test_low_number_is_an_outlier_only_where_it_is_a_problem(read: Read) -> None:
    reports = thirty_reports()[:8]
    reports[-1]["totals"] |= {"rows": 10, "rejected": 0}

    points = points_by_figure(compared(read(*reports)))

    assert points["rows"][-1].verdict == LOW
    assert points["rejected"][-1].verdict == USUAL


def test_runs_are_compared_in_their_order_and_without_those_that_took_no_files(read: Read) -> None:
    first, second, third, fourth = thirty_reports()[:4]
    reprocessed, left = third | {"reprocess_dates": ["2024-06-01"]}, fourth | {"status": "all_left"}

    assert [report.run_key for report in compared(read(second, reprocessed, left, first))] == [
        "run-00",
        "run-01",
    ]


def test_run_that_failed_is_judged_but_no_measure_for_later_ones(read: Read) -> None:
    reports = thirty_reports()[:12]
    for report in reports[5:11]:
        report["status"] = "no_valid_rows"
        report["totals"]["rejected"] = 30_000

    rejected = points_by_figure(compared(read(*reports)))["rejected"]

    assert [point.verdict for point in rejected[5:]] == [HIGH] * 6 + [USUAL]


def test_older_reports_leave_gaps_and_a_figure_that_none_has_is_left_out(read: Read) -> None:
    reports = thirty_reports()[:9]
    for report in reports:
        del report["glue"]
    for report in reports[:2]:
        del report["newest_listen"]

    points = points_by_figure(compared(read(*reports)))

    assert points.keys() == {figure.name for figure in FIGURES} - {"dpu_seconds", "glue_usd"}
    assert [point.value is None for point in points["freshness_hours"]] == [True] * 2 + [False] * 7
    assert [point.expected is None for point in points["freshness_hours"]] == [True] * 7 + [False] * 2


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("count", 12_345, "12,345"),
        ("count", 83.4, "83"),
        ("bytes", 118_400, "118.4 kB"),
        ("share", 0.0149, "1.5%"),
        ("hours", 4.63, "4.6"),
        ("seconds", 391.2, "391"),
        ("US dollars", 0.0843, "0.084"),
    ],
)
def test_values_are_written_for_people(unit: str, value: float, text: str) -> None:
    assert worded(ROWS._replace(unit=unit), value) == text
