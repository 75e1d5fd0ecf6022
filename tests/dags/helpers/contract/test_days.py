from __future__ import annotations

import re

import pytest

from helpers.contract.days import DAYS_PATTERN, DaysError, UnknownDaysError, parse_days, shortened_days

KNOWN = ["2024-02-29", "2024-06-24", "2024-06-25", "2024-06-26", "2024-07-01"]


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2024-06-25", ["2024-06-25"]),
        ("2024-06-26,2024-06-25", ["2024-06-25", "2024-06-26"]),
        ("2024-06-25,2024-06-25", ["2024-06-25"]),
        (" 2024-06-25 , 2024-06-26,\n", ["2024-06-25", "2024-06-26"]),
        ("2024-06-25 2024-06-26", ["2024-06-25", "2024-06-26"]),
        ("2024-02-29", ["2024-02-29"]),
        ("2024-06-25..2024-07-01", ["2024-06-25", "2024-06-26", "2024-07-01"]),
        ("2024-06-25..2024-06-25", ["2024-06-25"]),
        ("2024-06-01 .. 2024-06-25", ["2024-06-24", "2024-06-25"]),
        ("2024-02-29,2024-06-26..2024-12-31", ["2024-02-29", "2024-06-26", "2024-07-01"]),
        ("2024-06-24..2024-06-25,2024-06-25..2024-06-26", ["2024-06-24", "2024-06-25", "2024-06-26"]),
        ("2024-06-25,2023-01-01..2023-12-31", ["2024-06-25"]),
    ],
    ids=[
        "one",
        "in order",
        "given twice",
        "blanks and commas",
        "only a blank between",
        "leap day",
        "range",
        "range of one day",
        "range with blanks",
        "day and range",
        "ranges that overlap",
        "empty range beside a day",
    ],
)
def test_days_and_ranges_are_read(text: str, days: list[str]) -> None:
    assert re.search(DAYS_PATTERN, text)
    assert parse_days(text).among(KNOWN) == days


@pytest.mark.parametrize(
    "wrong",
    [
        "25.06.2024",
        "2024-6-25",
        "yesterday",
        "2024-06-25T00:00:00",
        "20240625",
        "2024-W26-2",
        "2024-06-01..",
        "..2024-06-30",
        "2024-06-01...2024-06-30",
        "2024-06-01..2024-06-15..2024-06-30",
        "2024-06-01-2024-06-30",
    ],
)
def test_text_of_another_form_is_refused_by_the_form_and_named(wrong: str) -> None:
    assert not re.search(DAYS_PATTERN, f"2024-06-25,{wrong}")
    with pytest.raises(DaysError) as error:
        parse_days(f"2024-06-25,{wrong}")

    assert str(error.value).startswith("has '")
    assert wrong in str(error.value)
    assert str(error.value).endswith("which is not a day in the form YYYY-MM-DD")


@pytest.mark.parametrize("wrong", ["2024-06-31", "2023-02-29", "2024-06-01..2024-06-31"])
def test_day_that_no_calendar_has_is_named(wrong: str) -> None:
    with pytest.raises(DaysError, match=f"{wrong[-10:]}'.*which is not a day"):
        parse_days(wrong)


def test_swapped_range_suggests_the_swap() -> None:
    with pytest.raises(DaysError) as error:
        parse_days("2024-06-30 .. 2024-06-01")

    assert str(error.value) == (
        "has '2024-06-30..2024-06-01', which ends before it begins: write 2024-06-01..2024-06-30"
    )


@pytest.mark.parametrize("text", [" ", ",", ""])
def test_no_day_at_all_is_an_error_though_the_form_may_be_empty(text: str) -> None:
    assert re.search(DAYS_PATTERN, text)
    with pytest.raises(DaysError, match="has '', which is not a day"):
        parse_days(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("2024-06-01,2024-06-25,2024-06-02", "2024-06-01, 2024-06-02"),
        ("2024-06-27,2024-06-01..2024-06-30", "2024-06-27"),
        ("2024-06-27..2024-06-30", "2024-06-27..2024-06-30"),
    ],
    ids=["days", "day within a range that has others", "only an empty range"],
)
def test_what_does_not_exist_is_named(text: str, named: str) -> None:
    with pytest.raises(UnknownDaysError) as error:
        parse_days(text).among(KNOWN)

    assert str(error.value) == named


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (["2024-06-25"], "2024-06-25"),
        (["2024-02-28", "2024-02-29", "2024-03-01"], "2024-02-28..2024-03-01"),
        (
            ["2024-06-25", "2024-06-27", "2024-06-30", "2024-07-01"],
            "2024-06-25,2024-06-27,2024-06-30..2024-07-01",
        ),
    ],
)
def test_consecutive_days_become_a_range_that_is_read_as_these_days(days: list[str], text: str) -> None:
    assert shortened_days(days) == text
    assert parse_days(text).among([*days, "2024-06-26"]) == days
