"""Removes users from the content of one object: CSV, JSON or Parquet. The rest stays byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet as pq

from helpers.contract.names import STREAM_COLUMNS
from helpers.contract.rejections import FileRejectedError
from helpers.ingest.csv_quoting import MAX_RECORD_BYTES, split_record
from helpers.ingest.file_forms import other_format
from helpers.ingest.refused_users import trimmed

USER_ID = "user_id"
FORGOTTEN = "(forgotten)"
_BLOCK_BYTES = 1024**2
_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\n|\r)")
_BOM = "\ufeff"
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
# Fields of the JSON records whose text may quote a delivered value.
_TEXTS = ("reason", "message", "next_step", "extra_columns")


class UnsearchableError(Exception):
    """The object's content cannot be read as CSV, JSON or Parquet; the message gives the reason."""


class Listen(NamedTuple):
    """A listen that was removed from the history; its instant is in microseconds."""

    user_id: str
    track_id: str
    instant: int


class UserIds:
    """The users to forget, as the `user_id` of their listens."""

    def __init__(self, ids: Iterable[str]) -> None:
        """Take the ids; white space around them is ignored, as the pipeline ignores it."""
        self.ids = frozenset(filter(None, map(trimmed, ids)))
        words = "|".join(re.escape(user_id) for user_id in sorted(self.ids, key=len, reverse=True))
        self._word = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])")
        # In a sentence, 12 is not a part of 12,345.
        self._word_of_sentence = re.compile(rf"(?<![\w-])(?<!\d[.,])(?:{words})(?![\w-])(?![.,]\d)")
        forms = {form for user_id in self.ids for form in _forms(user_id)}
        self._bytes = re.compile(b"|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))
        self._longest = max(map(len, forms), default=0)

    def include(self, user_id: str) -> bool:
        """Return whether this is the id of one of the users."""
        return trimmed(user_id) in self.ids

    def are_in_line(self, text: str) -> bool:
        """Return whether a line that has no readable columns names one of the users."""
        return self._word.search(text) is not None

    def removed_from_sentence(self, text: str) -> str:
        """Return the sentence without the users."""
        text = _QUOTED.sub(lambda quoted: self._word.sub(FORGOTTEN, quoted[0]), text)
        return self._word_of_sentence.sub(FORGOTTEN, text)

    def may_be_in(self, stream: BinaryIO) -> bool:
        """Return false if the rest of the stream surely names none of the users."""
        tail = b""
        while block := stream.read(_BLOCK_BYTES):
            if self._bytes.search(tail + block):
                return True
            tail = (tail + block)[-self._longest :]
        return False


def remove_from_csv(source: BinaryIO, target: BinaryIO, users: UserIds) -> int:
    """Copy a CSV file without the lines of the users; return the number of records left out.

    A record belongs to the user in its column `user_id`. A line that the pipeline cannot split into the
    header's columns, and every line of a file without that column, belongs to each user that it names.

    Raises:
        UnsearchableError: the file is not text.
    """
    return _CsvRemoval(source, target, users).carry_out()


class _CsvRemoval:
    """Reads records as the ingest does (`csv_quoting`), but keeps the bytes of each."""

    def __init__(self, source: BinaryIO, target: BinaryIO, users: UserIds) -> None:
        self._source, self._target, self._users = source, target, users
        self._header: list[str] | None = None
        self._removed = 0

    def carry_out(self) -> int:
        text, is_at_end, is_first = b"", False, True
        while not is_at_end:
            block = self._source.read(_BLOCK_BYTES)
            if is_first:
                require_text(block)
            is_first, is_at_end = False, not block
            text += block
            # The last line may lack its line break, which the records need.
            added = b"\n" if is_at_end and text and text[-1:] not in b"\r\n" else b""
            text += added
            position = 0
            while (end := self._take(text, position, is_at_end)) is not None:
                record = text[position : end[0]]
                if end[1]:
                    self._removed += 1
                else:
                    is_last = end[0] == len(text)
                    self._target.write(record.removesuffix(added) if added and is_last else record)
                position = end[0]
            text = text[position:]
        return self._removed

    def _take(self, text: bytes, position: int, is_at_end: bool) -> tuple[int, bool] | None:
        """Return where the next record ends, and whether it is removed; None if more text is needed."""
        line = _LINE.match(text, position)
        if line is None or (line.end() == len(text) and text.endswith(b"\r") and not is_at_end):
            return None
        if not line[0].strip():
            return line.end(), False
        try:
            fields, end = split_record(text, position)
        except FileRejectedError:
            # The next bytes may close a quote.
            if not is_at_end and len(text) - position <= MAX_RECORD_BYTES:
                return None
            return self._of_line(line)
        except UnicodeDecodeError:
            return self._of_line(line)
        if end == len(text) and text.endswith(b"\r") and not is_at_end:
            return None
        if self._header is None:
            self._header = [name.replace(_BOM, "").strip() for name in fields]
            return (end, False) if self._position is not None else self._of_line(line)
        if self._position is None or len(fields) != len(self._header):
            return self._of_line(line)
        is_several_lines = end != line.end()
        if is_several_lines and self._is_broken(fields):
            return self._of_line(line)
        return end, self._is_of_users(fields, text[line.end() : end].decode())

    @property
    def _position(self) -> int | None:
        header = self._header or []
        return header.index(USER_ID) if header.count(USER_ID) == 1 else None

    def _of_line(self, line: re.Match[bytes]) -> tuple[int, bool]:
        if self._header is None:
            self._header = []
        return line.end(), self._users.are_in_line(line[0].decode(errors="replace"))

    def _is_broken(self, fields: list[str]) -> bool:
        """Return whether the ingest takes the record's lines as records of their own."""
        return any(
            re.search("[\r\n]", field)
            for name, field in zip(self._header or [], fields, strict=True)
            if name in STREAM_COLUMNS
        )

    def _is_of_users(self, fields: list[str], further_lines: str) -> bool:
        position = self._position or 0
        if self._users.include(fields[position]):
            return True
        # The pipeline's own file of rejected rows has the text of a line that it could not split.
        for name, field in zip(self._header or [], fields, strict=True):
            if name == "malformed_record" and self._users.are_in_line(field):
                return True
        # A stray quote may have swallowed whole records; the file is in quarantine for it.
        columns = [line.split(",") for line in further_lines.splitlines()]
        return any(
            self._users.include(line[position])
            for line in columns
            if len(line) > position and len(line) == len(fields)
        )


def remove_from_json(content: bytes, users: UserIds) -> tuple[bytes, int]:
    """Return a JSON record of the pipeline without the users, and how many values it lost.

    Samples of their rows are left out; quoted values in sentences are replaced.

    Raises:
        UnsearchableError: the content is not JSON.
    """
    try:
        value = json.loads(content)
    except ValueError as error:
        raise UnsearchableError(f"it is not JSON ({error})") from error
    removal = _JsonRemoval(users)
    cleaned = removal.without_users(value)
    return json.dumps(cleaned, indent=1, ensure_ascii=False).encode(), removal.removed


class _JsonRemoval:
    def __init__(self, users: UserIds) -> None:
        self._users = users
        self.removed = 0

    def without_users(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: self.without_users(element, key) for key, element in value.items()}
        if isinstance(value, list):
            kept = [element for element in value if not self._is_row_of_users(element)]
            self.removed += len(value) - len(kept)
            return [self.without_users(element, name) for element in kept]
        if not isinstance(value, str):
            return value
        # The value of an example.
        if name == "value" and self._users.are_in_line(value):
            self.removed += 1
            return None
        if name in _TEXTS and (cleaned := self._users.removed_from_sentence(value)) != value:
            self.removed += 1
            return cleaned
        return value

    def _is_row_of_users(self, element: Any) -> bool:
        return isinstance(element, dict) and (
            self._users.include(element.get(USER_ID) or "")
            or self._users.are_in_line(element.get("malformed_record") or "")
        )


def remove_from_parquet(source: Path, target: Path, users: UserIds) -> pa.Table:
    """Write a Parquet object without the users' rows; return these.

    Without such rows nothing is written.

    Raises:
        UnsearchableError: the object is not Parquet with a column of users.
    """
    wanted = pa.array(sorted(users.ids), pa.string())
    try:
        file = pq.ParquetFile(source, pre_buffer=False)
        removed = pa.Table.from_batches(
            [batch.filter(pc.is_in(batch[USER_ID], wanted)) for batch in file.iter_batches()],
            file.schema_arrow,
        )
    except (pa.ArrowException, KeyError) as error:
        raise UnsearchableError(f"it is not Parquet with the column {USER_ID} ({error})") from error
    if removed.num_rows:
        compression = file.metadata.row_group(0).column(0).compression.lower()
        dictionary = [name for name in file.schema_arrow.names if name != USER_ID]
        options = {"compression": compression, "use_dictionary": dictionary, "store_schema": False}
        with pq.ParquetWriter(target, file.schema_arrow, **options) as writer:
            for batch in file.iter_batches():
                writer.write_batch(batch.filter(pc.invert(pc.is_in(batch[USER_ID], wanted))))
    return removed


def listens_of(rows: pa.Table) -> list[Listen]:
    """Return rows of the history as listens.

    Raises:
        UnsearchableError: the rows do not have the columns of the history.
    """
    try:
        instants = rows["listen_time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        columns = (rows[USER_ID], rows["track_id"], instants)
    except (pa.ArrowException, KeyError) as error:
        raise UnsearchableError(f"it lacks columns of the history ({error})") from error
    return [Listen(*row) for row in zip(*(column.to_pylist() for column in columns), strict=True)]


def require_text(start: bytes) -> None:
    """Raise unless a file that begins like this has lines that can be read.

    Raises:
        UnsearchableError: it is a compressed or binary file.
    """
    form = other_format(start)
    # JSON, XML and HTML have lines, too.
    if form and (b"\0" in start[:4096] or not start[:4096].isascii()):
        raise UnsearchableError(form.partition(":")[0])


def _forms(user_id: str) -> Iterable[bytes]:
    """Yield the id as it may stand in a file: in quotes, in JSON, and in another encoding."""
    texts = (user_id, user_id.replace('"', '""'), json.dumps(user_id)[1:-1])
    encoders: tuple[Callable[[str], bytes], ...] = (
        lambda text: text.encode(),
        lambda text: text.encode("latin-1", errors="ignore"),
    )
    return {form for text in texts for encode in encoders if (form := encode(text))}
