"""Checks the quoting of CSV text line by line, before a parser that would silently drop malformed lines.

Most parsers, Arrow's included, extend a field with an unclosed quote to the next quote, across line breaks,
and drop the text after a closing quote. `QuotingScreen` passes only records that are well-formed by RFC 4180
(https://www.rfc-editor.org/rfc/rfc4180). From any other record it removes the first line and continues at the
next one. The lines that the parser would have lost then are separate records.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from helpers.contract.rejections import FileRejectedError
from helpers.contract.wording import counted

Numbers = npt.NDArray[np.int64]

# Limit for one record; listening events and songs are far smaller.
MAX_RECORD_BYTES = 4 * 1024**2

WRONG_NUMBER_OF_FIELDS = "wrong number of fields"
UNCLOSED_QUOTE = "quote that is not closed"
TEXT_AFTER_QUOTE = "text after a closing quote"
STRAY_QUOTE = "quote inside an unquoted field"
BACKSLASH_QUOTE = "quote escaped by a backslash (CSV doubles it)"
SEPARATE_BY_COMMAS = "separate its values by commas"
_OTHER_DELIMITERS = {";": "semicolon", "\t": "tab", "|": "bar"}
_REMEDIES = {
    WRONG_NUMBER_OF_FIELDS: "give the row the header's number of fields, and quotes to a value with commas",
    UNCLOSED_QUOTE: "close the quote, or remove it",
    TEXT_AFTER_QUOTE: "end the value with the quote, and double the quotes inside it",
    STRAY_QUOTE: "put the whole value in quotes and double those inside, or remove the quote",
    BACKSLASH_QUOTE: 'write "" for a quote inside a value',
}

_BREAK = rb"(?:\r\n|\n|\r)"
_FIELD = rb'(?:"(?:[^"]++|"")*+"|[^",\r\n]*+)'
_FIELDS = re.compile(_FIELD + rb"(?:," + _FIELD + rb")*+")
_RECORD = re.compile(_FIELDS.pattern + _BREAK)
_EACH_FIELD = re.compile(rb'(?:"((?:[^"]++|"")*+)"|([^",\r\n]*+))(?:,|' + _BREAK + rb")")
_LINE = re.compile(rb"[^\r\n]*+" + _BREAK)
_LINE_BREAK = re.compile(_BREAK)


@dataclass(frozen=True)
class MalformedRecord:
    """A record that does not match the header: its number, first line, text and the reason."""

    row: int
    line: int
    text: str
    reason: str = WRONG_NUMBER_OF_FIELDS


class QuotingScreen:
    """Removes malformed lines from CSV text and accounts for every line.

    Attributes:
        malformed: removed lines, in file order; the reader takes them from the left.
        blank_lines: number of empty lines.
        continuation_lines: number of lines that continue a quoted field of a passed record.
    """

    def __init__(self, columns: Sequence[str], single_line_columns: Sequence[str], first_line: int) -> None:
        """Expect records of `columns`; the first one begins at line `first_line` of the file.

        Values of `single_line_columns` cannot contain a line break.
        """
        self._columns = list(columns)
        self._single_line = [index for index, name in enumerate(columns) if name in single_line_columns]
        self._carried = b""
        self._next_row = 1
        self._next_line = first_line
        self._passed: deque[tuple[Numbers, Numbers]] = deque()
        self.malformed: deque[MalformedRecord] = deque()
        self.blank_lines = 0
        self.continuation_lines = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the file (empty at its end) and return the records that are safe to parse.

        Raises:
            FileRejectedError: a quoted field may be one value or several records, or a record is too long.
        """
        text = self._carried + data if self._carried else data
        self._carried = b""
        if not data and text and text[-1:] not in b"\r\n":
            text += b"\n"
        # A carriage return at the very end may be the first half of a line break.
        end = text.rfind(b"\n") + 1 or text.rfind(b"\r", 0, -1) + 1 if data else len(text)
        if b'"' in text:
            kept = self._screen(text, end, is_last=not data)
        else:
            self._carried = text[end:]
            self._pass(text, 0, end)
            kept = text[:end]
        if len(self._carried) > MAX_RECORD_BYTES:
            raise FileRejectedError(f"line {self._next_line} is longer than {MAX_RECORD_BYTES:,} bytes")
        return kept

    def take(self, count: int) -> tuple[Numbers, Numbers]:
        """Return the numbers and first lines of the next `count` passed records."""
        rows, lines = [np.array([], np.int64)], [np.array([], np.int64)]
        while count:
            passed_rows, passed_lines = self._passed.popleft()
            if len(passed_rows) > count:
                self._passed.appendleft((passed_rows[count:], passed_lines[count:]))
            rows.append(passed_rows[:count])
            lines.append(passed_lines[:count])
            count -= len(rows[-1])
        return np.concatenate(rows), np.concatenate(lines)

    def _screen(self, text: bytes, end: int, is_last: bool) -> bytes:
        characters = np.frombuffer(text, np.uint8)[:end]
        quotes = np.flatnonzero(characters == ord('"'))
        if _is_plain(characters, quotes):
            self._carried = text[end:]
            self._pass(text, 0, end)
            return text[:end]
        kept: list[bytes] = []
        # Text from `start` on is not passed yet. Records up to `checked` have one line each.
        start = checked = 0
        for quote in quotes.tolist():
            if quote < checked:
                continue
            begin = max(text.rfind(b"\n", checked, quote), text.rfind(b"\r", checked, quote)) + 1 or checked
            record = _RECORD.match(text, begin, end)
            lines = len(_LINE_BREAK.findall(record[0])) if record else 0
            if record and lines == 1:
                checked = record.end()
                continue
            self._pass(text, start, begin)
            kept.append(text[start:begin])
            reason = self._why_malformed(record[0]) if record else _why_no_record(text, begin, end)
            if record and reason is None:
                kept.append(record[0])
                start = checked = record.end()
                self._pass_record(lines)
            elif reason is None and not is_last and len(text) - begin <= MAX_RECORD_BYTES:
                # The next bytes may close the quote.
                start = end = begin
                break
            else:
                start = checked = self._take_out(text, begin, reason or UNCLOSED_QUOTE)
        self._pass(text, start, end)
        kept.append(text[start:end])
        self._carried = text[end:]
        return b"".join(kept)

    def _pass(self, text: bytes, start: int, end: int) -> None:
        """Pass records of one line each, including blank lines between them."""
        if start == end:
            return
        characters = np.frombuffer(text, np.uint8)[start:end]
        is_break = characters == ord("\n")
        if b"\r" in text:
            is_break |= (characters == ord("\r")) & np.append(~is_break[1:], True)
        count = int(np.count_nonzero(is_break))
        lines = np.arange(self._next_line, self._next_line + count)
        self._next_line += count
        # Finding every line's first character takes several times as long as detecting that no line is blank.
        if (is_break[1:] & is_break[:-1]).any() or characters[0] in b"\r\n" or b"\r" in text:
            first = characters[np.append(0, np.flatnonzero(is_break)[:-1] + 1)]
            lines = lines[(first != ord("\n")) & (first != ord("\r"))]
            self.blank_lines += count - len(lines)
        self._passed.append((np.arange(self._next_row, self._next_row + len(lines)), lines))
        self._next_row += len(lines)

    def _pass_record(self, lines: int) -> None:
        self._passed.append((np.array([self._next_row]), np.array([self._next_line])))
        self._next_row += 1
        self._next_line += lines
        self.continuation_lines += lines - 1

    def _take_out(self, text: bytes, begin: int, reason: str) -> int:
        """Reject the line that starts at `begin`; return the start of the next one."""
        line = _LINE.match(text, begin)
        if line is None:
            raise AssertionError("a record begins at a line that ends")
        words = line[0].rstrip(b"\r\n").decode()
        self.malformed.append(MalformedRecord(self._next_row, self._next_line, words, reason))
        self._next_row += 1
        self._next_line += 1
        return line.end()

    def _why_malformed(self, record: bytes) -> str | None:
        """Return the fault of a well-quoted record of several lines, or None.

        Raises:
            FileRejectedError: one of its fields looks like several records.
        """
        fields = [quoted or plain for quoted, plain in _EACH_FIELD.findall(record)]
        if len(fields) != len(self._columns):
            return WRONG_NUMBER_OF_FIELDS
        for index in self._single_line:
            if _LINE_BREAK.search(fields[index]):
                return f"line break in {self._columns[index]}"
        for index, field in enumerate(fields):
            if self._looks_like_records(field, index):
                start = field[:40].decode(errors="replace")
                below = counted(len(_LINE_BREAK.findall(field)), "line")
                raise FileRejectedError(
                    f"line {self._next_line}: the quote before {start!r} is closed only {below} below, and "
                    "the text between looks like records. If it is one value, remove its line breaks; if "
                    "not, double or remove the quotes"
                )
        return None

    def _looks_like_records(self, field: bytes, index: int) -> bool:
        """Return whether the value of column `index` may contain whole records.

        Two stray quotes in the same column of two records turn these and all records between them into one
        well-formed record. Its value then contains the end of one record, whole records, and the start of the
        last.
        """
        pieces = [line.split(b",") for line in _LINE_BREAK.split(field)]
        if len(pieces) == 1:
            return False
        width = len(self._columns)
        first, last = pieces[0], pieces[-1]
        return any(len(line) == width and self._has_ids(line) for line in pieces[1:-1]) or (
            len(first) == width - index
            and len(last) == index + 1
            and self._has_ids([*last[:-1], b"?", *first[1:]])
        )

    def _has_ids(self, fields: Sequence[bytes]) -> bool:
        # In prose, a space follows a comma.
        return all(fields[index].strip() and fields[index][:1] != b" " for index in self._single_line)


def how_to_correct(reason: str) -> str:
    """Return what to do about a record that is malformed for this reason."""
    return _REMEDIES.get(reason, "write the value on one line")


def other_delimiter(record: str) -> str | None:
    """Return the name of the delimiter that seems to stand in place of commas, or None."""
    found = max(_OTHER_DELIMITERS, key=record.count)
    return _OTHER_DELIMITERS[found] if record.count(found) > record.count(",") else None


def split_record(text: bytes, start: int = 0) -> tuple[list[str], int]:
    """Return the fields of the record that begins at `start`, and where it ends.

    Raises:
        FileRejectedError: its quoting is malformed.
    """
    record = _RECORD.match(text, start)
    if record is None:
        raise FileRejectedError(_why_no_record(text, start, len(text)) or UNCLOSED_QUOTE)
    fields = [
        (quoted.replace(b'""', b'"') or plain).decode() for quoted, plain in _EACH_FIELD.findall(record[0])
    ]
    return fields, record.end()


def count_breaks(data: bytes, previous: bytes = b"") -> int:
    """Count the line breaks (LF, CRLF or CR) that end in `data`; `previous` is the byte before it."""
    characters = np.frombuffer(data, np.uint8)
    breaks = int(np.count_nonzero(characters == ord("\n")))
    if b"\r" in data:
        breaks += data.count(b"\r") - data.count(b"\r\n")
    return breaks - (previous == b"\r" and data[:1] == b"\n")


def _is_plain(characters: npt.NDArray[np.uint8], quotes: npt.NDArray[np.intp]) -> bool:
    """Return whether every quoted field is well-formed and on one line.

    The characters before an opening quote and after a closing one are delimiters. A doubled quote is a
    closing and an opening quote next to each other.
    """
    if len(quotes) % 2:
        return False
    before = characters[quotes[::2] - 1]
    if quotes.size and quotes[0] == 0:
        before[0] = ord("\n")
    after = characters[quotes[1::2] + 1]
    if not (_IS_NEIGHBOUR[before].all() and _IS_NEIGHBOUR[after].all()):
        return False
    is_break = (characters == ord("\n")) | (characters == ord("\r"))
    return not np.logical_or.reduceat(is_break, quotes)[::2].any()


_IS_NEIGHBOUR = np.zeros(256, np.bool_)
_IS_NEIGHBOUR[[ord(character) for character in ',\r\n"']] = True


def _why_no_record(text: bytes, begin: int, end: int) -> str | None:
    """Return why no record starts at `begin`, or None if a quote is not closed before `end`."""
    fields = _FIELDS.match(text, begin, end)
    stop = fields.end() if fields else begin
    at_quote = text[stop : stop + 1] == b'"'
    if at_quote and (stop == begin or text[stop - 1 : stop] == b","):
        return None
    line = _LINE.match(text, begin)
    if line and b'\\"' in line[0]:
        return BACKSLASH_QUOTE
    if line and stop >= line.end():
        return UNCLOSED_QUOTE
    return STRAY_QUOTE if at_quote else TEXT_AFTER_QUOTE
