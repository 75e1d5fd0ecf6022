"""Streaming reader for delivered CSV files: bounded memory, columns by header name, nothing dropped silently.

The dialect is RFC 4180 in UTF-8 (https://www.rfc-editor.org/rfc/rfc4180), with or without byte order mark,
gzipped or not. `csv_quoting` takes malformed lines out before Arrow parses the rest.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pyarrow import csv as pa_csv

from helpers.contract.records import LineCounts
from helpers.errors import FileRejectedError
from helpers.ingest.csv_quoting import (
    MAX_RECORD_BYTES,
    SEPARATE_BY_COMMAS,
    MalformedRecord,
    Numbers,
    QuotingScreen,
    count_breaks,
    other_delimiter,
    split_record,
)
from helpers.ingest.file_forms import other_format

# Arrow reads up to 32 blocks ahead and keeps them in memory.
BLOCK_BYTES = 1024**2
HEADER_BYTES = 1024**2
# Arrow reads on without a pause while it meets only malformed records; this bounds what is kept of them.
MAX_MALFORMED_TOGETHER = 200_000
MAX_MALFORMED_CHARACTERS = 32 * 1024**2
_GZIP_MAGIC = b"\x1f\x8b"
_STARTS_LIKE_A_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:|\d{1,2}/\d{1,2}/\d{4}")


class BinaryStream(Protocol):
    """The source of a reader: an open file or an S3 object's body."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        ...


@dataclass(frozen=True)
class CsvBatch:
    """Consecutive records: the wanted columns as strings, each record's number and its line in the file.

    Numbers count records from 1, without the header; lines count from 1, with the header and blank lines.
    """

    rows: Numbers
    lines: Numbers
    records: pa.RecordBatch
    malformed: list[MalformedRecord]


class CsvReader:
    """Reads the wanted columns of one CSV file from a binary stream.

    Raises:
        FileRejectedError: on construction or on iteration, when the file cannot be used as a whole.
    """

    def __init__(
        self, stream: BinaryStream, columns: Sequence[str], single_line_columns: Sequence[str] = ()
    ) -> None:
        """Read the header and find `columns` in it, in whatever order they stand.

        A record with a line break in one of `single_line_columns` is malformed.
        """
        self._stream = _CheckedStream(stream)
        self._columns = list(columns)
        header, self._blank_lines, self._header_lines, rest = self._read_header()
        self.extra_columns = [name for name in header if name not in columns]
        self._names = _unique_names(header, columns)
        first_line = self._blank_lines + self._header_lines + 1
        self._screen = QuotingScreen(self._names, single_line_columns, first_line)
        self._screened = _ScreenedStream(self._stream, rest, self._screen)
        self._rows = 0

    def __iter__(self) -> Iterator[CsvBatch]:
        """Yield the records in file order, in batches of about a MiB.

        Raises:
            FileRejectedError: the file cannot be used as a whole, or a line of it is not accounted for.
        """
        # The records without the header's number of fields: Arrow's number of each, and its text.
        refused: deque[tuple[int, str]] = deque()
        characters = 0

        def refuse(record: Any) -> str:
            nonlocal characters
            characters += len(record.text)
            if len(refused) == MAX_MALFORMED_TOGETHER or characters > MAX_MALFORMED_CHARACTERS:
                self._stream.failure = _too_many_malformed([text for _, text in refused])
                return "error"
            refused.append((record.number, record.text))
            return "skip"

        parsed = 0
        for records in self._parse(refuse):
            numbers = _record_numbers(parsed + 1, records.num_rows, [number for number, _ in refused])
            count = int(numbers[-1]) - parsed if len(numbers) else 0
            yield self._batch(records, numbers - parsed - 1, count, parsed, refused)
            parsed += count
            characters = sum(len(text) for _, text in refused)
        if refused or self._screen.malformed:
            nothing = pa.RecordBatch.from_pylist([], schema=records_schema(self._columns))
            yield self._batch(nothing, np.array([], np.int64), len(refused), parsed, refused)
        self._require_every_line()

    @property
    def line_counts(self) -> LineCounts:
        """How many lines the file has, and of which kinds, once all records were read."""
        return LineCounts(
            total=self._stream.lines,
            header=self._header_lines,
            blank=self._blank_lines + self._screen.blank_lines,
            continuation=self._screen.continuation_lines,
        )

    def _parse(self, invalid_row_handler: Any) -> Iterator[pa.RecordBatch]:
        try:
            # Arrow refuses a file without any text.
            if not self._screened.has_more():
                return
            reader = self._open(invalid_row_handler)
            while True:
                yield reader.read_next_batch()
        except StopIteration:
            return
        except Exception as error:
            raise self._stream.failure or _rejection(error) from error

    def _batch(
        self,
        records: pa.RecordBatch,
        positions: Numbers,
        count: int,
        parsed: int,
        refused: deque[tuple[int, str]],
    ) -> CsvBatch:
        """Put the next `count` parsed records, `records` at `positions` of them, beside what is malformed."""
        rows, lines = self._screen.take(count)
        malformed = []
        while refused and refused[0][0] <= parsed + count:
            number, text = refused.popleft()
            position = number - parsed - 1
            malformed.append(MalformedRecord(int(rows[position]), int(lines[position]), text))
        is_last = not records.num_rows
        while self._screen.malformed and (is_last or self._screen.malformed[0].row < rows[-1]):
            malformed.append(self._screen.malformed.popleft())
        self._rows += records.num_rows + len(malformed)
        malformed.sort(key=lambda record: record.row)
        return CsvBatch(rows[positions], lines[positions], records, malformed)

    def _require_every_line(self) -> None:
        """Check that every line of the file is in the header, blank, or of a record that was yielded."""
        counts = self.line_counts
        accounted = counts["header"] + counts["blank"] + self._rows + counts["continuation"]
        if counts["total"] != accounted:
            raise FileRejectedError(
                f"the file has {counts['total']:,} lines, but its header, records and blank lines are "
                f"{accounted:,}: a line would be lost or counted twice"
            )

    def _open(self, invalid_row_handler: Any) -> Any:
        # One thread, since only then does the handler learn the record's number.
        return pa_csv.open_csv(
            pa.PythonFile(self._screened, mode="r"),
            read_options=pa_csv.ReadOptions(
                # The screen may hold a record back until its last line has come.
                column_names=self._names,
                block_size=BLOCK_BYTES + MAX_RECORD_BYTES,
                use_threads=False,
            ),
            parse_options=pa_csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=invalid_row_handler
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=self._columns,
                column_types=records_schema(self._columns),
                # The stream has seen to it.
                check_utf8=False,
                null_values=[],
                strings_can_be_null=False,
            ),
        )

    def _read_header(self) -> tuple[list[str], int, int, bytes]:
        """Return the names, the numbers of blank lines before them and of their own lines, and the rest."""
        text = self._stream.read_fully(HEADER_BYTES)
        # Tools that each add a byte order mark add several.
        while text.startswith(codecs.BOM_UTF8):
            text = text.removeprefix(codecs.BOM_UTF8)
        start = text.lstrip(b"\r\n")
        if not start:
            raise FileRejectedError("the file is empty: it has not even a header")
        if not start.endswith((b"\r", b"\n")) and len(text) < HEADER_BYTES:
            start += b"\n"
        try:
            names, size = split_record(start)
        except FileRejectedError as error:
            raise FileRejectedError(f"the header cannot be read: {error}") from error
        header = [name.strip() for name in names]
        self._require_columns(header)
        blank_lines = count_breaks(text[: len(text) - len(text.lstrip(b"\r\n"))])
        return header, blank_lines, count_breaks(start[:size]), start[size:]

    def _require_columns(self, header: list[str]) -> None:
        missing = [name for name in self._columns if name not in header]
        repeated = [name for name in self._columns if header.count(name) > 1]
        twice = f"column {', '.join(repeated)} stands more than once in the header" if repeated else ""
        if missing:
            names = ", ".join(_visible(name) for name in header)[:500]
            raise FileRejectedError(
                f"missing column {', '.join(missing)}; {self._hint(missing, header)}"
                f"{twice and twice + '; '}the header has: {names}"
            )
        if repeated:
            raise FileRejectedError(twice)

    def _hint(self, missing: list[str], header: list[str]) -> str:
        """Return what a header without the missing columns looks like and what to do, up to a semicolon."""
        if len(header) == 1 and (delimiter := other_delimiter(header[0])):
            return f"the file looks {delimiter}-separated: {SEPARATE_BY_COMMAS}; "
        if any(_STARTS_LIKE_A_TIME.match(name) for name in header):
            return f"the first line looks like data: put the header {','.join(self._columns)} above it; "
        if len(header) == 1:
            return f"{SEPARATE_BY_COMMAS}; "
        return "".join(
            f"column '{_visible(name)}' differs from {column!r} in {_difference(name, column)}: rename it; "
            for column in missing
            for name in header
            if _letters(name) == _letters(column)
        )


def records_schema(columns: Sequence[str]) -> pa.Schema:
    """Return the schema of `CsvBatch.records`: every wanted column as a string."""
    return pa.schema([(name, pa.string()) for name in columns])


class _CheckedStream:
    """Unzips where needed, checks the encoding, counts lines, and keeps the first failure.

    Arrow would disguise the failure.
    """

    def __init__(self, stream: BinaryStream) -> None:
        self.failure: Exception | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_in_character = False
        self._checked = 0
        self._breaks = 0
        self._last_byte = b""
        start = stream.read(2)
        source = _Chained(start, stream)
        self._source: Any = gzip.GzipFile(fileobj=source, mode="rb") if start == _GZIP_MAGIC else source

    @property
    def lines(self) -> int:
        """Lines read so far; the last one may lack its line break."""
        return self._breaks + (self._last_byte not in (b"", b"\r", b"\n"))

    def read_fully(self, size: int) -> bytes:
        chunks: list[bytes] = []
        while size > 0 and (chunk := self.read(size)):
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._source.read(size)
            if not self._checked and (form := other_format(data)):
                raise FileRejectedError(form)
            # ASCII needs no decoding, unless a character was begun before it.
            if self._is_in_character or not data.isascii() or not data:
                self._decoder.decode(data, final=not data)
                self._is_in_character = bool(self._decoder.getstate()[0])
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self.failure = FileRejectedError(f"the gzip data is truncated or damaged: {error}")
            raise self.failure from error
        except UnicodeDecodeError as error:
            self.failure = FileRejectedError(
                f"the file is not UTF-8: byte 0x{error.object[error.start]:02x} near offset "
                f"{self._checked + error.start}; save it as UTF-8"
            )
            raise self.failure from error
        except Exception as error:
            self.failure = error
            raise
        self._checked += len(data)
        self._breaks += count_breaks(data, self._last_byte)
        self._last_byte = data[-1:] or self._last_byte
        return data


class _ScreenedStream(io.RawIOBase):
    """A stream with only the records that the screen passes, for Arrow to read."""

    def __init__(self, stream: _CheckedStream, start: bytes, screen: QuotingScreen) -> None:
        self._stream = stream
        self._start = start
        self._screen = screen
        self._ready = b""
        self._is_at_end = False

    def readable(self) -> bool:
        return True

    def has_more(self) -> bool:
        """Read on until there is text to parse, or the end."""
        self._ready = self._ready or self._next()
        return bool(self._ready)

    def read(self, _: int = -1) -> bytes:
        data, self._ready = self._ready or self._next(), b""
        return data

    def _next(self) -> bytes:
        try:
            while not self._is_at_end:
                data = self._start or self._stream.read(BLOCK_BYTES)
                self._start = b""
                self._is_at_end = not data
                kept = self._screen.feed(data)
                self._bound_malformed()
                # To Arrow, a block of nothing but blank lines may be the end of the file.
                if kept.lstrip(b"\r\n"):
                    return kept
        except FileRejectedError as error:
            self._stream.failure = self._stream.failure or error
            raise
        return b""

    def _bound_malformed(self) -> None:
        malformed = self._screen.malformed
        if len(malformed) > MAX_MALFORMED_TOGETHER or (
            sum(len(record.text) for record in malformed) > MAX_MALFORMED_CHARACTERS
        ):
            raise _too_many_malformed([record.text for record in malformed])


class _Chained(io.RawIOBase):
    """The bytes already read from a stream, then the rest of it."""

    def __init__(self, start: bytes, stream: BinaryStream) -> None:
        self._start = start
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._start:
            start, self._start = self._start, b""
            return start
        return self._stream.read(size)


def _rejection(error: Exception) -> Exception:
    if isinstance(error, pa.ArrowInvalid):
        return FileRejectedError(f"the file is not well-formed CSV: {str(error).splitlines()[0][:300]}")
    return error


def _too_many_malformed(texts: Sequence[str]) -> FileRejectedError:
    first = texts[0][:100] if texts else ""
    return FileRejectedError(f"{len(texts):,} records together are malformed, the first of them {first!r}")


def _unique_names(header: list[str], columns: Sequence[str]) -> list[str]:
    return [name if name in columns else f"extra column {index}" for index, name in enumerate(header)]


def _record_numbers(first: int, count: int, refused: list[int]) -> Numbers:
    numbers = np.arange(first, first + count + len(refused), dtype=np.int64)
    # The handler runs ahead: some of the refused records come after these.
    positions = [number - first for number in refused if number - first < len(numbers)]
    return np.delete(numbers, positions)[:count] if positions else numbers[:count]


def _visible(name: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _difference(name: str, column: str) -> str:
    """Return how a name of the same letters as the column's differs from it, such as `case and spaces`."""
    visible = "".join(character for character in name if character.isprintable())
    marks, expected = (re.findall(r"[\W_]", text) for text in (visible, column))
    ways = {
        "case": name != name.lower(),
        "spaces": " " in marks,
        "punctuation": " " not in marks and marks != expected,
        "invisible characters": name != visible,
    }
    return " and ".join(way for way, differs in ways.items() if differs)
