"""Streaming reader for delivered CSV files: bounded memory, columns by header name, nothing dropped silently.

The dialect is RFC 4180 in UTF-8 (https://www.rfc-editor.org/rfc/rfc4180), with or without byte order mark,
gzipped or not.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as pa_csv

from helpers.errors import FileRejectedError

# A record must fit into one block; no listening event or song comes near. A block is as large as this only
# where no line ends in a smaller one, since Arrow reads up to 32 blocks ahead and keeps them in memory.
BLOCK_BYTES = 4 * 1024**2
_USUAL_BLOCK_BYTES = 1024**2
HEADER_BYTES = 1024**2
# Arrow reads on without a pause while it meets only malformed records; this bounds what is kept of them.
MAX_MALFORMED_TOGETHER = 200_000
MAX_MALFORMED_CHARACTERS = 32 * 1024**2
_GZIP_MAGIC = b"\x1f\x8b"


class BinaryStream(Protocol):
    """What is read from: an open file, an S3 object's body."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        ...


@dataclass(frozen=True)
class MalformedRecord:
    """A record that has not as many fields as the header."""

    row: int
    text: str


@dataclass(frozen=True)
class CsvBatch:
    """Consecutive records: the wanted columns as strings, and each record's number.

    Numbers count from 1; the header and blank lines have none.
    """

    rows: npt.NDArray[np.int64]
    records: pa.RecordBatch
    malformed: list[MalformedRecord]


class CsvReader:
    """Reads the wanted columns of one CSV file from a binary stream.

    Raises:
        FileRejectedError: on construction or on iteration, when the file cannot be used as a whole.
    """

    def __init__(self, stream: BinaryStream, columns: Sequence[str]) -> None:
        """Read the header and find `columns` in it, in whatever order they stand."""
        self._stream = _CheckedStream(stream)
        self._columns = list(columns)
        header, self._rest = self._read_header()
        self.extra_columns = [name for name in header if name not in columns]
        self._names = _unique_names(header, columns)

    def __iter__(self) -> Iterator[CsvBatch]:
        """Yield the records in file order, in batches of about a MiB."""
        # A first block of nothing but blank lines would be the end of the file to Arrow.
        while not self._rest.strip(b"\r\n"):
            self._rest = self._stream.read(BLOCK_BYTES)
            if not self._rest:
                return
        self._rest = self._rest.lstrip(b"\r\n")
        self._stream.push_back(self._rest)
        pending: list[MalformedRecord] = []
        characters = 0

        def keep_malformed(record: Any) -> str:
            nonlocal characters
            characters += len(record.text)
            if len(pending) == MAX_MALFORMED_TOGETHER or characters > MAX_MALFORMED_CHARACTERS:
                self._stream.failure = FileRejectedError(
                    f"{len(pending):,} records together have not the header's number of fields, "
                    f"first record {pending[0].row}: {pending[0].text[:100]!r}"
                )
                return "error"
            pending.append(MalformedRecord(record.number, record.text))
            return "skip"

        next_row = 1
        reader: Any = None
        while True:
            try:
                reader = reader or self._open(keep_malformed)
                records = reader.read_next_batch()
            except StopIteration:
                break
            except Exception as error:
                raise self._stream.failure or _rejection(error) from error
            rows = _row_numbers(next_row, records.num_rows, [record.row for record in pending])
            next_row = int(rows[-1]) + 1 if len(rows) else next_row
            malformed = [record for record in pending if record.row < next_row]
            pending[: len(malformed)] = []
            characters = sum(len(record.text) for record in pending)
            yield CsvBatch(rows, records, malformed)
        if pending:
            nothing = pa.RecordBatch.from_pylist([], schema=records_schema(self._columns))
            yield CsvBatch(np.array([], np.int64), nothing, pending)

    def _open(self, invalid_row_handler: Any) -> Any:
        # One thread, since only then does the handler learn the record's number.
        return pa_csv.open_csv(
            pa.PythonFile(self._stream, mode="r"),
            read_options=pa_csv.ReadOptions(
                column_names=self._names, block_size=BLOCK_BYTES, use_threads=False
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

    def _read_header(self) -> tuple[list[str], bytes]:
        start = self._stream.read_fully(HEADER_BYTES)
        text = start.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
        if not text:
            raise FileRejectedError("the file is empty: it has not even a header")
        lines = io.StringIO(text.decode("utf-8", errors="replace"), newline="")
        reader = csv.reader(lines, strict=True)
        try:
            header = [name.strip() for name in next(reader)]
        except (csv.Error, StopIteration) as error:
            raise FileRejectedError(f"the header cannot be read: {error}") from error
        lines.seek(0)
        consumed = "".join(lines.readline() for _ in range(reader.line_num))
        self._require_columns(header)
        return header, text[len(consumed.encode()) :]

    def _require_columns(self, header: list[str]) -> None:
        missing = [name for name in self._columns if name not in header]
        if missing:
            hint = " (is the delimiter a comma?)" if len(header) == 1 else ""
            raise FileRejectedError(
                f"missing column {', '.join(missing)}; the header has: {', '.join(header)[:500]}{hint}"
            )
        repeated = [name for name in self._columns if header.count(name) > 1]
        if repeated:
            raise FileRejectedError(f"column {', '.join(repeated)} stands more than once in the header")


def records_schema(columns: Sequence[str]) -> pa.Schema:
    """Return the schema of `CsvBatch.records`: every wanted column as a string."""
    return pa.schema([(name, pa.string()) for name in columns])


class _CheckedStream(io.RawIOBase):
    """Unzips where needed, checks the encoding, and keeps the first failure, which Arrow would disguise."""

    def __init__(self, stream: BinaryStream) -> None:
        self.failure: Exception | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_in_character = False
        self._checked = 0
        self._pushed_back = b""
        start = stream.read(2)
        source = _Chained(start, stream)
        self._source: Any = gzip.GzipFile(fileobj=source, mode="rb") if start == _GZIP_MAGIC else source

    def readable(self) -> bool:
        return True

    def push_back(self, data: bytes) -> None:
        self._pushed_back = data

    def read_fully(self, size: int) -> bytes:
        chunks: list[bytes] = []
        while size > 0 and (chunk := self.read(size)):
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        if self._pushed_back:
            data, self._pushed_back = self._pushed_back, b""
            return data
        try:
            data = self._read_block(size)
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
        return bytes(data)

    def _read_block(self, size: int) -> bytes:
        data: bytes = self._source.read(min(size, _USUAL_BLOCK_BYTES))
        while b"\n" not in data and b"\r" not in data and len(data) < size:
            more = self._source.read(min(size - len(data), _USUAL_BLOCK_BYTES))
            if not more:
                break
            data += more
        return data


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


def _unique_names(header: list[str], columns: Sequence[str]) -> list[str]:
    return [name if name in columns else f"extra column {index}" for index, name in enumerate(header)]


def _row_numbers(first: int, count: int, malformed: list[int]) -> npt.NDArray[np.int64]:
    numbers = np.arange(first, first + count + len(malformed), dtype=np.int64)
    return numbers[~np.isin(numbers, malformed)][:count] if malformed else numbers
