from __future__ import annotations

import pytest

from helpers.contract.wording import byte_size, counted, shortened


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (12345, "12,345 files")]
)
def test_noun_agrees_with_its_number(number: int, text: str) -> None:
    assert counted(number, "file") == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999 bytes"), (4_900, "4.9 kB"), (5_500_000, "5.5 MB"), (2 * 10**12, "2,000.0 GB")],
)
def test_sizes_are_read_at_a_glance(number: int, text: str) -> None:
    assert byte_size(number) == text


def test_long_text_ends_with_an_ellipsis_at_its_limit() -> None:
    assert shortened("0123456789", 10) == "0123456789"
    assert shortened("0123456789a", 10) == "012345678\N{HORIZONTAL ELLIPSIS}"
