"""Guesses the form of rejected times for messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DAY_FIRST, _MONTH_FIRST = "day/month/year", "month/day/year"
_EITHER = f"{_DAY_FIRST} or {_MONTH_FIRST}"
_NUMBERS_AND_YEAR = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](?:\d{4}|\d{2})\b")
_DATE = r"\d{4}-\d{2}-\d{2}"
# The first pattern that matches is the guess.
_FORMS = {
    r"\d{10}(\.\d+)?": "seconds since 1970",
    r"\d{13}": "milliseconds since 1970",
    r"\d{16}": "microseconds since 1970",
    r"\d{19}": "nanoseconds since 1970",
    r"\d{5}([.,]\d+)?": "a spreadsheet's number of a day",
    r"(?i)n/?a|nan|nat|null|none|nil|-|\?": "a word for no value",
    _DATE: "a date without a time",
    r"\d{1,2}:\d{2}(:\d{2})?": "a time without a date",
    rf"{_DATE}[ T]\d{{2}}:\d{{2}}": "a time without seconds",
    r"(?i).*\d\s*[ap]\.?m\.?": "a time with AM or PM",
    rf"{_DATE}[ T]\d{{2}}:\d{{2}}:\d{{2}}\.\d{{7,}}\S*": "a time with more than 6 digits after the seconds",
    rf"{_DATE}[ T]\d{{2}}:\d{{2}}:\d{{2}},\d+\S*": "a time with a comma before the fraction",
    rf"{_DATE}[ T]\d{{2}}:\d{{2}}:\d{{2}}(\.\d+)?( .+|[A-Za-z].*)": "a time with a time zone's name, or a "
    "space before the offset",
    rf"{_DATE}[ T]\d{{2}}:\d{{2}}:\d{{2}}(\.\d+)?(Z|[+-]\d{{2}}(:?\d{{2}})?)?": "a day, time or offset that "
    "does not exist, or a year that no listen has",
    r"\d{4}[/.]\d{1,2}[/.]\d{1,2}.*": "a date with other separators than hyphens",
    r"\d{8}([ T]?\d{6}|[ T]\d{2}:.*)?": "a date without separators",
    r"\d{4}-\d{1,2}-\d{1,2}[ T]\d{1,2}:\d{1,2}:\d{1,2}.*": "numbers without leading zeros",
    r"(?i).*(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec).*": "a month as a word",
}


def guess_time_form(texts: Iterable[str]) -> tuple[int, str | None]:
    """Return the index of a text with the most common form, and this form, or None if no form is known.

    Numbers like 05/06/2024 do not show which one is the day; another of the texts may decide it.
    """
    forms = [_form(text) for text in texts]
    for decided, other in ((_DAY_FIRST, _MONTH_FIRST), (_MONTH_FIRST, _DAY_FIRST)):
        if decided in forms and other not in forms:
            forms = [None if form == _EITHER else form for form in forms]
    known = [form for form in forms if form]
    if not known:
        return 0, None
    winner = max(known, key=known.count)
    return forms.index(winner), winner


def _form(text: str) -> str | None:
    if match := _NUMBERS_AND_YEAR.match(text):
        first, second = int(match[1]), int(match[2])
        if first > 12 >= second:
            return _DAY_FIRST
        return _MONTH_FIRST if second > 12 >= first else _EITHER
    return next((form for pattern, form in _FORMS.items() if re.fullmatch(pattern, text)), None)
