"""The song and user catalogs: from the delivered CSV files to the typed Parquet that the Glue job reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc

from helpers.config import ALL_GENRES, SONG_COLUMNS, USER_COLUMNS, PipelineConfig
from helpers.csv_reader import CsvReader
from helpers.errors import BadInputError, FileRejectedError
from helpers.manifest import CatalogSummary
from helpers.parquet_sink import ParquetSink
from helpers.s3_objects import ObjectVersion, open_version

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
        ("popularity", pa.int64()),
    ]
)
USERS_SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("user_id", pa.string()),
        ("user_name", pa.string()),
        ("user_country", pa.string()),
    ]
)
# 24 days: a longer track is a fault of the catalog.
_MAX_DURATION_MS = 2**31

Notes = Counter[str]


def songs_table(records: pa.RecordBatch, first_row_id: int, notes: Notes) -> pa.Table:
    """Return typed song rows; `row_id` numbers them from `first_row_id` on, passed-over rows included.

    Rows without `track_id` are passed over; an unreadable duration becomes null. Both are counted in `notes`.

    Raises:
        ValueError: a genre has the name that the table keeps for a day's totals.
    """
    texts = {name: _text_or_null(records[name]) for name in SONG_COLUMNS}
    if pc.any(pc.equal(texts["track_genre"], ALL_GENRES)).as_py():
        raise ValueError(f"track_genre {ALL_GENRES!r} is reserved for the totals of a day")
    duration_ms = _whole_numbers(texts["duration_ms"], _MAX_DURATION_MS)
    columns = {
        "row_id": _row_ids(first_row_id, records),
        **texts,
        "duration_ms": duration_ms,
        "popularity": _whole_numbers(texts["popularity"], 2**31),
    }
    notes["unreadable duration_ms"] += duration_ms.null_count
    return _with_id(pa.table(columns, schema=SONGS_SCHEMA), "track_id", notes)


def users_table(records: pa.RecordBatch, first_row_id: int, notes: Notes) -> pa.Table:
    """Return typed user rows, numbered like songs; rows without `user_id` are passed over and counted."""
    texts = {name: _text_or_null(records[name]) for name in USER_COLUMNS}
    columns = {"row_id": _row_ids(first_row_id, records), **texts}
    return _with_id(pa.table(columns, schema=USERS_SCHEMA), "user_id", notes)


def write_songs(
    s3: S3Client, config: PipelineConfig, versions: list[ObjectVersion], prefix: str
) -> CatalogSummary:
    """Write the song catalog under `prefix` of the intermediate bucket.

    Raises:
        BadInputError: a file is wrong, or there is no usable row; names file, column and reason.
    """
    return _write(s3, config, versions, SONG_COLUMNS, SONGS_SCHEMA, songs_table, prefix, "songs")


def write_users(
    s3: S3Client, config: PipelineConfig, versions: list[ObjectVersion], prefix: str
) -> CatalogSummary:
    """Write the user catalog under `prefix` of the intermediate bucket; raises like `write_songs`."""
    return _write(s3, config, versions, USER_COLUMNS, USERS_SCHEMA, users_table, prefix, "users")


def _write(
    s3: S3Client,
    config: PipelineConfig,
    versions: list[ObjectVersion],
    columns: Sequence[str],
    schema: pa.Schema,
    to_table: Callable[[pa.RecordBatch, int, Notes], pa.Table],
    prefix: str,
    name: str,
) -> CatalogSummary:
    notes: Notes = Counter()
    next_row_id = 0
    with ParquetSink(schema) as sink:
        for version in versions:
            where = f"s3://{config.source_bucket}/{version['key']}"
            body = open_version(s3, config.source_bucket, version)
            if body is None:
                raise _unusable(name, where, "it changed after the run had listed it")
            try:
                for batch in CsvReader(body, columns):
                    sink.write(to_table(batch.records, next_row_id, notes))
                    notes["wrong number of fields"] += len(batch.malformed)
                    next_row_id += len(batch.rows) + len(batch.malformed)
            except (FileRejectedError, ValueError) as error:
                raise _unusable(name, where, str(error)) from error
            finally:
                body.close()
        passed_over = next_row_id - sink.rows
        if not sink.rows or passed_over > config.max_rejected_fraction * next_row_id:
            files = ", ".join(version["key"] for version in versions)
            raise _unusable(
                name,
                f"s3://{config.source_bucket}: {files}",
                f"{sink.rows} of {next_row_id} rows are usable ({dict(+notes)})",
            )
        sink.upload(s3, config.intermediate_bucket, f"{prefix}{name}/part-00000.parquet")
    return CatalogSummary(
        objects=[f"{name}/part-00000.parquet"],
        rows=sink.rows,
        files=[version["key"] for version in versions],
        notes=dict(+notes),
    )


def _unusable(name: str, where: str, reason: str) -> BadInputError:
    return BadInputError(
        f"The {name} catalog {where} cannot be used: {reason}. Nothing was moved. "
        "Upload a corrected file and trigger a new run."
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
