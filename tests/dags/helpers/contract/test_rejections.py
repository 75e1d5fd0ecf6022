from typing import Any

from helpers.contract.records import RejectedExample
from helpers.contract.rejections import list_rejections, make_example, rejected_rows, rejections

EXAMPLE = RejectedExample(
    line=2, value="25/06/2024 17:43", looks_like="day/month/year", remedy="write it like 2024-06-25 17:43:13"
)


def file(rejected: int = 0, reason: str | None = None, **counts: int) -> dict[str, Any]:
    disposition = "quarantine" if reason else "archive"
    return {
        "disposition": disposition,
        "reason": reason,
        "rejected": rejected,
        "rejected_by_reason": counts,
    }


def test_reason_has_its_rows_a_value_the_guess_and_the_remedy() -> None:
    assert rejected_rows({"invalid listen_time": 200}, {"invalid listen_time": EXAMPLE}) == (
        "invalid listen_time in 200 rows, such as '25/06/2024 17:43' in line 2, which looks like "
        "day/month/year: write it like 2024-06-25 17:43:13"
    )


def test_value_that_says_nothing_is_left_out() -> None:
    example = make_example(5, None, "fill it in or delete the row")

    assert rejected_rows({"empty user_id": 1}, {"empty user_id": example}) == (
        "empty user_id in 1 row, the first in line 5: fill it in or delete the row"
    )


def test_most_common_reason_comes_first() -> None:
    assert rejected_rows({"a": 1, "b": 3, "c": 1}, {}) == "b in 3 rows; a in 1 row; c in 1 row"


def test_value_is_bounded_and_cannot_steer_a_terminal() -> None:
    example = make_example(2, "\x1b[2J" + "x" * 100, "delete it")

    text = rejected_rows({"bad": 1}, {"bad": example})

    assert f"'\\x1b[2J{'x' * 56}\N{HORIZONTAL ELLIPSIS}'" in text


def test_whole_files_come_first_then_those_with_most_rejected_rows() -> None:
    files = [
        ("a", file(1, x=1)),
        ("b", file()),
        ("c", file(9, x=9)),
        ("d", file(0, "no header")),
    ]

    assert list_rejections(files) == ["d: no header", "c: x in 9 rows", "a: x in 1 row"]
    assert rejections(files) == "d: no header; c: x in 9 rows; a: x in 1 row"
    assert rejections([("b", file())]) == ""


def test_many_files_are_counted() -> None:
    files = [(str(number), file(0, "no header")) for number in range(7)]

    assert list_rejections(files)[4:] == ["4: no header", "and 2 more files"]


def test_report_of_before_there_were_examples_is_read() -> None:
    assert list_rejections([("a", file(1, x=1))]) == ["a: x in 1 row"]
