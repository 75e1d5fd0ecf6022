"""How the pages write times, durations, counts and names."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Decimal

from helpers.contract.wording import counted

# From here on, hours are easier to read than minutes.
_MINUTES_AS_HOURS = 120


def plain(text: str) -> str:
    """Return a name, which comes from data, so that Markdown shows it as it is."""
    return re.sub(r"([^\w\s])", r"\\\1", text)


def days_between(first: date, last: date) -> str:
    """Return the days of the table."""
    return f"days from {first} to {last}" if first < last else f"one day, {first}"


def when(moment: datetime) -> str:
    """Return the time as the pages write it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago that was, in the largest unit that says it."""
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            return f"{counted(seconds // size, unit)} ago"
    return "just now"


def took(duration: timedelta) -> str:
    """Return a run's duration."""
    seconds = duration.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"


def listening_time(minutes: Decimal, beside: Decimal | None = None, *, signed: bool = False) -> str:
    """Return a listening time in minutes or hours.

    Args:
        minutes: the time.
        beside: the time beside which it stands, whose unit it takes.
        signed: whether a plus sign stands before an increase.
    """
    sign = "+" if signed else ""
    if abs(minutes if beside is None else beside) >= _MINUTES_AS_HOURS:
        return f"{minutes / 60:{sign},.1f} h"
    return f"{minutes:{sign},.1f} min"
