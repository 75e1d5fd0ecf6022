"""Reads malformed CSV for the oracles, character by character and without the pipeline's reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple


class Record(NamedTuple):
    """A record with the numbers of its first and last line; `fields` is None if it is malformed."""

    first_line: int
    last_line: int
    fields: list[str] | None


def read_records(content: bytes, is_whole: Callable[[Sequence[str]], bool]) -> Iterator[Record]:
    """Yield the records of UTF-8 text, including the header; blank lines are not records.

    A record that breaks RFC 4180, or that has several lines and is not `is_whole`, is malformed: it ends with
    its first line, and the next one begins on the next line.
    """
    lines = [line.decode() for line in content.splitlines(keepends=True)]
    number = 0
    while number < len(lines):
        if not lines[number].strip("\r\n"):
            number += 1
            continue
        last, fields = _read_record(lines, number)
        if fields is None or (last > number and not is_whole(fields)):
            last, fields = number, None
        yield Record(number + 1, last + 1, fields)
        number = last + 1


def _read_record(lines: Sequence[str], number: int) -> tuple[int, list[str] | None]:
    fields, value, state = [], "", "at start"
    for index in range(number, len(lines)):
        text = lines[index].rstrip("\r\n")
        for character in [*text, lines[index][len(text) :] or "\n"]:
            ends_line = character[0] in "\r\n"
            if state == "quoted":
                state = "after quote" if character == '"' else state
                value += "" if character == '"' else character
            elif character == '"' and state == "after quote":
                state, value = "quoted", value + '"'
            elif character == '"' and state == "at start":
                state = "quoted"
            elif character == "," or ends_line:
                fields.append(value)
                value, state = "", "at start"
                if ends_line:
                    return index, fields
            elif character == '"' or state == "after quote":
                return index, None
            else:
                value, state = value + character, "unquoted"
    return number, None
