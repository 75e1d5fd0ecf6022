"""The song and user catalogs: from the delivered CSV files to the typed Parquet that the Glue job reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc

from helpers.aws.s3_objects import UnreadableObjectError, open_version
from helpers.contract.keys import input_prefix
from helpers.contract.names import ALL_GENRES, SONG_COLUMNS, USER_COLUMNS
from helpers.contract.records import CatalogSummary, Manifest, ObjectVersion, RejectedExample
from helpers.contract.rejections import make_example, rejected_rows
from helpers.contract.settings import PipelineConfig
from helpers.contract.wording import counted
from helpers.errors import CatalogError, FileRejectedError
from helpers.ingest.csv_quoting import WRONG_NUMBER_OF_FIELDS, how_to_correct
from helpers.ingest.csv_reader import CsvBatch, CsvReader
from helpers.ingest.id_forms import IdSample
from helpers.ingest.parquet_sink import ParquetSink

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SONGS_SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("track_id", pa.string()),
        ("track_name", pa.string()),
        ("artists", pa.string()),
        ("track_genre", pa.string()),
        ("duration_ms", pa.int64()),
    ]
)
USERS_SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("user_id", pa.string()),
        ("user_country", pa.string()),
    ]
)
# DynamoDB takes a sort key, which a genre becomes, of up to 1,024 bytes, and an item of up to 400 KB
# (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html). A genre's item holds
# three songs with id, name and artists: 3 * 3 * 32 KiB = 288 KiB. A day's totals hold five countries and five
# genres: 5 * 32 KiB + 5 * 1 KiB = 165 KiB. All other attributes of an item have less than 10 KiB.
MAX_TEXT_BYTES = 32 * 1024
MAX_GENRE_BYTES = 1024
_MAX_BYTES = {
    "track_id": MAX_TEXT_BYTES,
    "track_name": MAX_TEXT_BYTES,
    "artists": MAX_TEXT_BYTES,
    "track_genre": MAX_GENRE_BYTES,
    "user_country": MAX_TEXT_BYTES,
}
# 24 days: a longer track is a fault of the catalog.
_MAX_DURATION_MS = 2**31

_UNREADABLE_DURATION = "unreadable duration_ms"

Notes = Counter[str]


def songs_table(records: pa.RecordBatch, first_row_id: int, notes: Notes) -> pa.Table:
    """Return typed song rows; `row_id` numbers them from `first_row_id`, including skipped rows.

    Rows without `track_id` are skipped; an unreadable duration becomes null. Both are counted in `notes`.
    """
    texts = {name: _text_or_null(records[name]) for name in SONG_COLUMNS}
    duration_ms = _whole_numbers(texts["duration_ms"], _MAX_DURATION_MS)
    columns = {
        "row_id": _row_ids(first_row_id, records),
        **texts,
        "duration_ms": duration_ms,
    }
    notes[_UNREADABLE_DURATION] += duration_ms.null_count
    return _with_id(pa.table(columns, schema=SONGS_SCHEMA), "track_id", notes)


def users_table(records: pa.RecordBatch, first_row_id: int, notes: Notes) -> pa.Table:
    """Return typed user rows, numbered like songs; rows without `user_id` are skipped and counted."""
    texts = {name: _text_or_null(records[name]) for name in USER_COLUMNS}
    columns = {"row_id": _row_ids(first_row_id, records), **texts}
    return _with_id(pa.table(columns, schema=USERS_SCHEMA), "user_id", notes)


class _Catalog(NamedTuple):
    """How a catalog is read: its name, its columns, and the conversion of its records to typed rows."""

    name: str
    columns: Sequence[str]
    schema: pa.Schema
    to_table: Callable[[pa.RecordBatch, int, Notes], pa.Table]


_SONGS = _Catalog("songs", SONG_COLUMNS, SONGS_SCHEMA, songs_table)
_USERS = _Catalog("users", USER_COLUMNS, USERS_SCHEMA, users_table)


def move_catalogs(
    s3: S3Client, config: PipelineConfig, manifest: Manifest, track_ids: IdSample, user_ids: IdSample
) -> tuple[CatalogSummary, CatalogSummary]:
    """Write the frozen song and user catalogs as typed Parquet to the run's input of the Glue job.

    The same pass looks up the sampled ids in the catalogs.

    Raises:
        CatalogError: a catalog cannot be used; the message lists every fault in all files of both.
    """
    prefix = input_prefix(manifest["run_key"])
    songs, users = (_Writer(s3, config, prefix, catalog) for catalog in (_SONGS, _USERS))
    summaries = songs.write(manifest["songs"], track_ids), users.write(manifest["users"], user_ids)
    if faults := songs.faults + users.faults:
        remedy = (
            "Upload corrected files and trigger a new run."
            if songs.needs_new_files or users.needs_new_files
            else "Then clear this task and its downstream tasks."
        )
        listed = "\n".join(faults)
        raise CatalogError(f"{listed} {remedy} Nothing was moved.")
    return summaries


class _Writer:
    """Writes one catalog and collects its faults as sentences.

    Attributes:
        faults: sentences; with at least one, the catalog cannot be used.
        needs_new_files: whether a fault is in a delivered file, and not only in the access to S3.
    """

    def __init__(self, s3: S3Client, config: PipelineConfig, prefix: str, catalog: _Catalog) -> None:
        self.faults: list[str] = []
        self.needs_new_files = False
        self._s3, self._config, self._prefix, self._catalog = s3, config, prefix, catalog
        self._notes: Notes = Counter()
        # Malformed records of the file that was read last, one for each reason.
        self._examples: dict[str, RejectedExample] = {}
        self._next_row_id = 0

    def write(self, versions: list[ObjectVersion], ids: IdSample) -> CatalogSummary:
        bucket, catalog = self._config.source_bucket, self._catalog
        with ParquetSink(catalog.schema) as sink:
            for version in versions:
                where = f"s3://{bucket}/{version['key']}"
                try:
                    body = open_version(self._s3, bucket, version)
                except UnreadableObjectError as error:
                    self._add_fault(where, str(error), needs_new_files=False)
                    continue
                if body is None:
                    self._add_fault(where, "it changed after the run had listed it")
                    continue
                try:
                    found = self._write_file(CsvReader(body, catalog.columns, catalog.columns[:1]), sink, ids)
                except FileRejectedError as error:
                    found = [str(error)]
                finally:
                    body.close()
                if found:
                    self._add_fault(where, "; ".join(found))
            skipped = {why: n for why, n in self._notes.items() if why != _UNREADABLE_DURATION and n}
            too_many = sum(skipped.values()) > self._config.max_rejected_fraction * self._next_row_id
            # Missing rows are a fault of their own only if every file could be read.
            if too_many or not (sink.rows or self.faults):
                files = ", ".join(version["key"] for version in versions)
                usable = f"{sink.rows:,} of {counted(self._next_row_id, 'row')} are usable"
                # A line number is useless if it may belong to any of several files.
                examples = self._examples if len(versions) == 1 else {}
                why = f": {rejected_rows(skipped, examples)}" if skipped else ""
                self._add_fault(f"s3://{bucket}: {files}", usable + why)
            if not self.faults:
                sink.upload(self._s3, self._config.intermediate_bucket, self._prefix + self._name)
        return CatalogSummary(
            objects=[self._name],
            rows=sink.rows,
            files=[version["key"] for version in versions],
            notes=dict(+self._notes),
        )

    @property
    def _name(self) -> str:
        return f"{self._catalog.name}/part-00000.parquet"

    def _add_fault(self, where: str, reason: str, needs_new_files: bool = True) -> None:
        self.faults.append(f"The {self._catalog.name} catalog {where} cannot be used: {reason}.")
        self.needs_new_files |= needs_new_files

    def _write_file(self, reader: CsvReader, sink: ParquetSink, ids: IdSample) -> list[str]:
        """Write the file's rows; return the faults that make it unusable, the first of each kind.

        Raises:
            FileRejectedError: the file cannot be read to its end.
        """
        self._examples = {}
        faults: dict[str, str] = {}
        wrong_quoting: Counter[str] = Counter()
        for batch in reader:
            table = self._catalog.to_table(batch.records, self._next_row_id, self._notes)
            sink.write(table)
            ids.look_up(table[self._catalog.columns[0]])
            faults = dict(_faults_of(table, batch, self._next_row_id)) | faults
            for record in batch.malformed:
                counts = self._notes if record.reason == WRONG_NUMBER_OF_FIELDS else wrong_quoting
                counts[record.reason] += 1
                example = make_example(record.line, record.text, how_to_correct(record.reason))
                self._examples.setdefault(record.reason, example)
            self._next_row_id += len(batch.rows) + len(batch.malformed)
        return [*filter(None, [rejected_rows(wrong_quoting, self._examples)]), *faults.values()]


def _faults_of(table: pa.Table, batch: CsvBatch, first_row_id: int) -> Iterator[tuple[str, str]]:
    """Yield the column and the description of each value that no KPI item can hold."""

    def line(index: int) -> int:
        return int(batch.lines[table["row_id"][index].as_py() - first_row_id])

    if "track_genre" in table.column_names:
        index = pc.index(table["track_genre"], ALL_GENRES).as_py()
        if index >= 0:
            yield (
                ALL_GENRES,
                f"line {line(index)}: track_genre {ALL_GENRES!r} is reserved for the totals of a day",
            )
    for column in _MAX_BYTES.keys() & set(table.column_names):
        sizes, limit = pc.binary_length(table[column]), _MAX_BYTES[column]
        largest = pc.max(sizes).as_py() or 0
        if largest > limit:
            index = pc.index(sizes, largest).as_py()
            yield (
                column,
                f"line {line(index)}: {column} has {largest:,} bytes in UTF-8, more than the {limit:,} that "
                "a KPI item has room for",
            )


def _text_or_null(column: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _whole_numbers(texts: pa.Array, limit: int) -> pa.Array:
    try:
        numbers = pc.cast(texts, pa.int64())
    except pa.ArrowInvalid:
        parsed: Any = pd.to_numeric(texts.to_pandas(), errors="coerce")
        parsed = parsed.where(parsed.between(0, limit, inclusive="left"))
        numbers = pa.array(parsed.round(), pa.int64(), from_pandas=True)
    inside = pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, limit))
    return pc.if_else(inside, numbers, pa.scalar(None, pa.int64()))


def _row_ids(first: int, records: pa.RecordBatch) -> pa.Array:
    return pa.array(range(first, first + records.num_rows), pa.int64())


def _with_id(table: pa.Table, column: str, notes: Notes) -> pa.Table:
    notes[f"empty {column}"] += table[column].null_count
    return table.filter(pc.is_valid(table[column])) if table[column].null_count else table
