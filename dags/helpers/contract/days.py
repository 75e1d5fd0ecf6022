"""Listen days as people name them: single days and ranges, such as `2024-06-01..2024-06-30,2024-07-04`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

_DAY = r"\d{4}-\d{2}-\d{2}"
_DAY_OR_RANGE = rf"{_DAY}(\s*\.\.\s*{_DAY})?"
# Form of the text, or no text. A form in the UI checks it; `parse_days` also checks the calendar.
DAYS_PATTERN = rf"^[\s,]*({_DAY_OR_RANGE}([\s,]+{_DAY_OR_RANGE})*[\s,]*)?$"


class DaysError(ValueError):
    """The text does not name days; the message says why, and fits after the name of the parameter."""


class UnknownDaysError(ValueError):
    """Named days do not exist, and neither does any day of the named ranges; the message names them."""


@dataclass(frozen=True)
class NamedDays:
    """Single days, and ranges with their first and last day; all in the form YYYY-MM-DD."""

    single: frozenset[str]
    ranges: tuple[tuple[str, str], ...]

    def among(self, known: Collection[str]) -> list[str]:
        """Return the named days in order; a range means those of its days that are among `known`.

        Raises:
            UnknownDaysError: a single day is not among `known`, or there are only ranges without a day.
        """
        unknown = sorted(self.single - set(known))
        within = {day for first, last in self.ranges for day in known if first <= day <= last}
        found = self.single | within
        if not found:
            unknown = [f"{first}..{last}" for first, last in self.ranges]
        if unknown:
            raise UnknownDaysError(", ".join(unknown))
        return sorted(found)


def parse_days(text: str) -> NamedDays:
    """Read days and ranges, separated by commas or white space.

    Raises:
        DaysError: an element is neither a day of the calendar in the form YYYY-MM-DD nor two of them with
            `..` between, a range ends before it begins, or there is no element.
    """
    joined = re.sub(r"\s*\.\.\s*", "..", text.strip(", \t\n"))
    single, ranges = set(), []
    for element in re.split(r"[,\s]+", joined):
        first, is_range, last = element.partition("..")
        for day in (first, last) if is_range else (first,):
            if not _is_day(day):
                within = f"{day!r} in {element!r}" if is_range else repr(element)
                raise DaysError(f"has {within}, which is not a day in the form YYYY-MM-DD")
        if not is_range:
            single.add(first)
        elif last < first:
            raise DaysError(f"has {element!r}, which ends before it begins: write {last}..{first}")
        else:
            ranges.append((first, last))
    return NamedDays(frozenset(single), tuple(ranges))


def shortened_days(days: Sequence[str]) -> str:
    """Return the days, given in order, as a text that `parse_days` reads; consecutive ones are a range."""
    ranges: list[list[str]] = []
    for day in days:
        if ranges and date.fromisoformat(day) - date.fromisoformat(ranges[-1][-1]) == timedelta(days=1):
            ranges[-1][1:] = [day]
        else:
            ranges.append([day])
    return ",".join("..".join(ends) for ends in ranges)


def _is_day(text: str) -> bool:
    try:
        # Python also accepts other forms of ISO 8601, such as 20240625.
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
