from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from dashboard.wording import ago, counted, days_between, listening_time, took

NOW = datetime(2024, 6, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7_199, "1 hour ago"),
        (200_000, "2 days ago"),
    ],
)
def test_age_has_the_largest_unit_that_fits(seconds: int, text: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("minutes", "text"),
    [("0.5", "0.5 min"), ("119.9", "119.9 min"), ("120", "2.0 h"), ("44452.55", "740.9 h")],
)
def test_long_listening_times_are_hours(minutes: str, text: str) -> None:
    assert listening_time(Decimal(minutes)) == text


def test_change_has_the_unit_of_the_time_that_it_changed() -> None:
    assert listening_time(Decimal("-30"), Decimal(600), signed=True) == "-0.5 h"
    assert listening_time(Decimal("30"), Decimal(60), signed=True) == "+30.0 min"


@pytest.mark.parametrize(
    ("seconds", "text"), [(9.25, "9.2 s"), (90.4, "1 min 30 s"), (3_600, "1 h 0 min"), (59.99, "60.0 s")]
)
def test_duration_of_a_run_is_read_at_a_glance(seconds: float, text: str) -> None:
    assert took(timedelta(seconds=seconds)) == text


def test_one_is_no_plural() -> None:
    assert (counted(1, "run"), counted(1_200, "run")) == ("1 run", "1,200 runs")
    assert days_between(date(2024, 6, 25), date(2024, 6, 25)) == "one day, 2024-06-25"
