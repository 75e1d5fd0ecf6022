"""Task validate_csv_files: row rules; keeps apart what is valid and what is not, with the reason."""

from __future__ import annotations

import csv
import logging
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet as pq

from helpers.aws import s3_client
from helpers.config import STREAM_COLUMNS, PipelineConfig
from helpers.errors import ReconciliationError
from helpers.extract_and_combine_streams import COMBINED_SCHEMA, CombinedPart
from helpers.manifest import FileOutcome, read_manifest, read_report
from helpers.parquet_sink import ROWS_PER_GROUP, ParquetSink
from helpers.run_key import part_key
from helpers.s3_objects import read_json, write_json

logger = logging.getLogger(__name__)

LISTEN_TIME = pa.timestamp("us", tz="UTC")
VALID_SCHEMA = pa.schema(
    [("file", pa.int32()), ("user_id", pa.string()), ("track_id", pa.string()), ("listen_time", LISTEN_TIME)]
)
REJECTED_SCHEMA = COMBINED_SCHEMA.append(pa.field("reason", pa.string()))
REJECTED_COLUMNS = ["source_file", "row", "reason", *STREAM_COLUMNS, "malformed_record"]

# ISO 8601 date and time, a blank or T between; up to 6 fraction digits; an offset or none.
_LISTEN_TIME_PATTERN = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}(:?\d{2})?)?$"
_OFFSET_PATTERN = r"(Z|[+-]\d{2}(:?\d{2})?)$"
# The commonest form, as far as it is right in every year, from 1970 to 2199.
_PLAIN_TIME_PATTERN = (
    r"^(?:19[7-9]|2[01]\d)\d-"
    r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r" (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d$"
)
# Outside these years a time is a fault of the sender's clock or format, not a listen.
_EARLIEST = pd.Timestamp("1970-01-01", tz="UTC")
_LATEST = pd.Timestamp("2200-01-01", tz="UTC")
_SAMPLE_ROWS = 10
_DOUBTFUL_ROWS = 16 * 1024
# As for the combined records; Spark reads it once.
_WRITER_OPTIONS: dict[str, Any] = {
    "use_dictionary": ["file"],
    "column_encoding": {"listen_time": "DELTA_BINARY_PACKED"},
    "compression": "none",
    "write_statistics": ["file", "listen_time"],
}


class ValidatedPart(TypedDict):
    """A reference to one part's validated rows, with counts over its files."""

    run_key: str
    part: int
    files: int
    rows: int
    valid: int
    rejected: int


def validate_csv_files(combined: CombinedPart, config: PipelineConfig) -> ValidatedPart:
    """Split the part's combined records into valid rows (Parquet) and rejected rows (CSV with reasons)."""
    s3 = s3_client()
    run_key, number = combined["run_key"], combined["part"]
    if read_report(s3, config, run_key):
        logger.info("Run %s is complete; nothing to do", run_key)
        return ValidatedPart(run_key=run_key, part=number, files=0, rows=0, valid=0, rejected=0)
    bucket = config.intermediate_bucket
    outcomes: list[FileOutcome] | None = read_json(s3, bucket, part_key(run_key, "combined", number, "json"))
    if outcomes is None:
        raise ReconciliationError(
            f"Part {number} of run {run_key} has no combined records in s3://{bucket}; "
            "clear extract_and_combine_streams and what follows it."
        )
    streams = read_manifest(s3, config, run_key)["streams"]
    source_files = {outcome["index"]: streams[outcome["index"]]["key"] for outcome in outcomes}
    with tempfile.TemporaryDirectory(prefix="music-streaming-") as folder:
        path = Path(folder) / "combined.parquet"
        s3.download_file(bucket, part_key(run_key, "combined", number, "parquet"), str(path))
        with ParquetSink(VALID_SCHEMA, **_WRITER_OPTIONS) as valid, ParquetSink(REJECTED_SCHEMA) as rejected:
            outcomes = split_records(path, outcomes, config.max_rejected_fraction, valid, rejected)
            valid.close()
            rejected.close()
            accepted = {outcome["index"] for outcome in outcomes if outcome["disposition"] == "archive"}
            key = part_key(run_key, "validated", number, "parquet")
            if any(outcome["disposition"] == "quarantine" and outcome["rows"] for outcome in outcomes):
                with ParquetSink(VALID_SCHEMA, **_WRITER_OPTIONS) as kept:
                    for table in _tables(valid.path, accepted):
                        kept.write(table)
                    kept.upload(s3, bucket, key)
            else:
                s3.upload_file(str(valid.path), bucket, key)
            csv_path = Path(folder) / "rejected.csv"
            if _write_rejected_rows(rejected.path, accepted, source_files, csv_path):
                s3.upload_file(str(csv_path), bucket, part_key(run_key, "rejected", number, "csv"))
            _add_samples(rejected.path, outcomes)
    write_json(s3, bucket, part_key(run_key, "validated", number, "json"), outcomes)
    totals = ValidatedPart(
        run_key=run_key,
        part=number,
        files=len(outcomes),
        rows=sum(outcome["rows"] for outcome in outcomes),
        valid=sum(outcome["valid"] for outcome in outcomes),
        rejected=sum(outcome["rejected"] for outcome in outcomes),
    )
    logger.info("Validated: %s", totals)
    return totals


def split_records(
    combined: Path,
    outcomes: list[FileOutcome],
    max_rejected_fraction: float,
    valid: ParquetSink,
    rejected: ParquetSink,
) -> list[FileOutcome]:
    """Write each record of the readable files to one of the sinks; return the outcomes with counts.

    A file with more than `max_rejected_fraction` rejected rows gets the disposition `quarantine`; its valid
    rows are in the sink all the same, since the fraction is known only at the file's end.
    """
    readable = {outcome["index"] for outcome in outcomes if outcome["disposition"] == "archive"}
    reasons: Counter[tuple[int, str]] = Counter()
    for doubtful in _gathered(_doubtful_records(_tables(combined, readable), valid)):
        records = doubtful.to_pandas(types_mapper=pd.ArrowDtype)
        checked = check_rows(records)
        bad = checked["reason"].notna()
        valid.write(_to_table(checked[~bad], VALID_SCHEMA))
        rejected_rows = records[bad].assign(reason=checked.loc[bad, "reason"])
        rejected.write(_to_table(rejected_rows, REJECTED_SCHEMA))
        reasons.update(zip(rejected_rows["file"], rejected_rows["reason"], strict=True))
    return [_counted(outcome, reasons, max_rejected_fraction) for outcome in outcomes]


def _doubtful_records(tables: Iterable[pa.Table], valid: ParquetSink) -> Iterator[pa.Table]:
    for table in tables:
        plain, doubtful = split_plain_rows(table)
        valid.write(plain)
        yield doubtful


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of the tables in larger pieces, since a look at few rows takes as long as at many."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        if table.num_rows:
            waiting.append(table)
            rows += table.num_rows
        if rows >= _DOUBTFUL_ROWS:
            yield pa.concat_tables(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def split_plain_rows(records: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Split combined records into those that are valid at a glance and those that need a closer look.

    A glance takes in whole columns at once. Plain rows are of `VALID_SCHEMA`; they have both ids, no NUL, and
    a time like `2024-06-25 17:43:13`. The others, bad or valid, are records as they came.
    """
    file, texts = records["file"], records["listen_time"]
    user_id, track_id = (pc.utf8_trim_whitespace(records[name]) for name in ("user_id", "track_id"))
    has_ids = pc.and_(pc.not_equal(user_id, ""), pc.not_equal(track_id, ""))
    nul = _with_nul(user_id) | _with_nul(track_id)
    listen_time = _cast_plain_times(texts)
    if listen_time is not None and not nul.any() and pc.all(has_ids, skip_nulls=False).as_py():
        plain = pa.Table.from_arrays([file, user_id, track_id, listen_time], schema=VALID_SCHEMA)
        return plain, records.schema.empty_table()
    is_plain = pc.fill_null(pc.and_(has_ids, pc.match_substring_regex(texts, _PLAIN_TIME_PATTERN)), False)
    is_plain = pc.and_(is_plain, pa.array(~nul))
    columns = [column.filter(is_plain) for column in (file, user_id, track_id, texts)]
    columns[3] = columns[3].cast(pa.timestamp("us")).cast(LISTEN_TIME)
    return pa.Table.from_arrays(columns, schema=VALID_SCHEMA), records.filter(pc.invert(is_plain))


def _cast_plain_times(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return the instants of texts that are all like `2024-06-25 17:43:13`, or None."""
    times = _cast_if_19_long(texts)
    if times is None:
        return None
    instants = times.cast(LISTEN_TIME)
    return instants if pc.all(_is_plausible(instants)).as_py() else None


def _with_nul(texts: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Tell of each text whether a NUL is in it, by one look at all bytes together."""
    array = texts.combine_chunks()
    found = np.zeros(len(array), np.bool_)
    _, offsets, data = array.buffers()
    if len(array) and data is not None:
        nuls = np.flatnonzero(np.frombuffer(data, np.uint8) == 0)
        ends = np.frombuffer(offsets, np.int32)[array.offset + 1 :]
        rows = np.searchsorted(ends, nuls, side="right")
        found[rows[rows < len(array)]] = True
    return found


def check_rows(records: pd.DataFrame) -> pd.DataFrame:
    """Apply the row rules to combined records (Arrow dtypes).

    Returns the records with trimmed ids, `listen_time` as a UTC instant, and `reason`: why the row is
    rejected (the first rule that it breaks), null where it is valid.
    """
    user_id, track_id = records["user_id"].str.strip(), records["track_id"].str.strip()
    listen_time = parse_listen_times(records["listen_time"].str.strip())
    rules = {
        "wrong number of fields": records["malformed_record"].notna(),
        "NUL character": _contains_nul(records),
        "empty user_id": user_id == "",
        "empty track_id": track_id == "",
        "invalid listen_time": listen_time.isna(),
    }
    broken = [rule.fillna(False).to_numpy(dtype=bool) for rule in rules.values()]
    reason: Any = pd.Series(pd.NA, index=records.index, dtype=pd.ArrowDtype(pa.string()))
    if any(rule.any() for rule in broken):
        reason = pd.Series(np.select(broken, list(rules), None), index=records.index).astype(reason.dtype)  # type: ignore[arg-type]
    return records.assign(user_id=user_id, track_id=track_id, listen_time=listen_time, reason=reason)


def parse_listen_times(texts: pd.Series[Any]) -> pd.Series[Any]:
    """Return the instants (UTC, microseconds) that trimmed texts stand for, null where one stands for none.

    `YYYY-MM-DD HH:MM:SS` or ISO 8601 with `T`, up to 6 fraction digits and an offset; no offset means UTC.
    """
    strings = pa.array(texts, pa.string())
    times = _cast_if_19_long(strings)
    if times is None:
        well_formed = pc.match_substring_regex(strings, _LISTEN_TIME_PATTERN)
        candidates = pc.if_else(well_formed, strings, pa.scalar(None, pa.string()))
        times = _cast(candidates, pa.timestamp("us"))
        if times is None:
            # Spelt out, since pandas gives a time without an offset that of an earlier one that has any.
            in_utc = pc.binary_join_element_wise(candidates, "Z", "")
            candidates = pc.if_else(pc.match_substring_regex(candidates, _OFFSET_PATTERN), candidates, in_utc)
            parsed = pd.to_datetime(candidates.to_pandas(), format="ISO8601", utc=True, errors="coerce")
            times = pa.array(parsed.dt.as_unit("us"), LISTEN_TIME)
    instants = times.cast(LISTEN_TIME)
    instants = pc.if_else(_is_plausible(instants), instants, pa.scalar(None, LISTEN_TIME))
    return pd.Series(instants, index=texts.index, dtype=pd.ArrowDtype(LISTEN_TIME))


def _cast(strings: pa.Array, kind: pa.DataType) -> pa.Array | None:
    with suppress(pa.ArrowInvalid):
        return pc.cast(strings, kind)
    return None


def _cast_if_19_long(strings: pa.Array) -> pa.Array | None:
    """Return the times of texts that all have the length of `2024-06-25 17:43:13` and are times, or None."""
    have_length = pc.all(pc.equal(pc.binary_length(strings), 19), skip_nulls=False).as_py()
    return _cast(strings, pa.timestamp("us")) if have_length else None


def _is_plausible(instants: pa.Array) -> pa.Array:
    # In Arrow, which knows years that Python's datetime does not.
    earliest, latest = (pa.scalar(limit, LISTEN_TIME) for limit in (_EARLIEST, _LATEST))
    return pc.and_(pc.greater_equal(instants, earliest), pc.less(instants, latest))


def _contains_nul(records: pd.DataFrame) -> pd.Series[Any]:
    found = [records[column].str.contains("\0", regex=False).fillna(False) for column in STREAM_COLUMNS]
    return found[0] | found[1] | found[2]


def _counted(
    outcome: FileOutcome, reasons: Mapping[tuple[int, str], int], max_rejected_fraction: float
) -> FileOutcome:
    if outcome["disposition"] != "archive":
        return outcome
    by_reason = {reason: n for (file, reason), n in sorted(reasons.items()) if file == outcome["index"]}
    rows, rejected = outcome["rows"], sum(by_reason.values())
    outcome = outcome | {
        "valid": rows - rejected,
        "rejected": rejected,
        "rejected_by_reason": by_reason,
    }
    # As decimals: 0.29 of 100 rows are 29, not the float's 28.999….
    if rejected <= Decimal(str(max_rejected_fraction)) * rows:
        return outcome
    return outcome | {
        "disposition": "quarantine",
        "valid": 0,
        "rejected": rows,
        "reason": f"{rejected} of {rows} rows are bad, more than the fraction {max_rejected_fraction:g} "
        "that MAX_REJECTED_FRACTION allows",
    }


def _tables(path: Path, files: Collection[int]) -> Any:
    """Yield the Parquet file's rows of the given source files, in bounded pieces."""
    wanted = pa.array(sorted(files), pa.int32())
    # With pre_buffer, Arrow's default, all that was read stays in memory until the end.
    for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches(ROWS_PER_GROUP):
        table = pa.Table.from_batches([batch])
        inside = pc.is_in(table["file"], wanted)
        yield table if pc.all(inside).as_py() else table.filter(inside)


def _to_table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pandas(
        frame[schema.names], schema=schema, preserve_index=False
    ).replace_schema_metadata()


def _write_rejected_rows(
    rejected: Path, accepted: Collection[int], source_files: Mapping[int, str], path: Path
) -> bool:
    written = False
    for table in _tables(rejected, accepted):
        if not table.num_rows:
            continue
        frame = table.to_pandas()
        frame["source_file"] = frame["file"].map(source_files)
        frame[REJECTED_COLUMNS].to_csv(
            path, mode="a", header=not written, index=False, quoting=csv.QUOTE_NONNUMERIC
        )
        written = True
    return written


def _add_samples(rejected: Path, outcomes: list[FileOutcome]) -> None:
    for outcome in outcomes:
        if outcome["disposition"] == "quarantine" and outcome["rows"]:
            rows: list[dict[str, Any]] = []
            for table in _tables(rejected, {outcome["index"]}):
                rows += table.slice(0, _SAMPLE_ROWS - len(rows)).drop_columns(["file"]).to_pylist()
                if len(rows) == _SAMPLE_ROWS:
                    break
            outcome["sample_of_rejected_rows"] = rows
