"""Task validate_csv_files: row rules; keeps apart what is valid and what is not, with the reason."""

from __future__ import annotations

import csv
import logging
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet as pq

from helpers.contract.names import STREAM_COLUMNS
from helpers.contract.records import CombinedPart, FileOutcome, RejectedExample, ValidatedPart
from helpers.contract.rejections import why_rejected
from helpers.contract.settings import PipelineConfig
from helpers.errors import HandoverError
from helpers.ingest.id_forms import SAMPLE_SIZE
from helpers.ingest.parquet_sink import ROWS_PER_GROUP, ParquetSink
from helpers.ingest.refused_users import without_refused
from helpers.ingest.row_rules import VALID_SCHEMA, check_rows, example_of, split_plain_rows
from helpers.run.erasures import read_refused_users
from helpers.run.store import RunStore

logger = logging.getLogger(__name__)
REJECTED_SCHEMA = pa.schema(
    [
        ("file", pa.int32()),
        ("row", pa.int64()),
        ("line", pa.int64()),
        *((column, pa.string()) for column in STREAM_COLUMNS),
        ("malformed_record", pa.string()),
        ("reason", pa.string()),
    ]
)
REJECTED_COLUMNS = ["source_file", "row", "line", "reason", *STREAM_COLUMNS, "malformed_record"]
# Clocks of devices are fast by minutes, or a day where a time zone is wrong.
AHEAD = timedelta(days=1)
_SAMPLE_ROWS = 10
_DOUBTFUL_ROWS = 16 * 1024
# As for the combined records; Spark reads it once.
_WRITER_OPTIONS: dict[str, Any] = {
    "use_dictionary": ["file"],
    "column_encoding": {"listen_time": "DELTA_BINARY_PACKED"},
    "compression": "none",
    "write_statistics": ["file", "listen_time"],
}


def validate_csv_files(combined: CombinedPart, config: PipelineConfig) -> ValidatedPart:
    """Split the part's combined records into valid rows (Parquet) and rejected rows (CSV with reasons)."""
    run, number = RunStore(combined["run_key"], config), combined["part"]
    if run.report_if_complete():
        return ValidatedPart(run_key=run.run_key, part=number, files=0, rows=0, valid=0, rejected=0)
    s3, bucket = run.s3, config.intermediate_bucket
    outcomes: list[FileOutcome] | None = run.read_part("combined", number)
    if outcomes is None:
        raise HandoverError(
            f"Part {number} of run {run.run_key} has no combined records in s3://{bucket}; "
            "clear list_stream_files and its downstream tasks."
        )
    listed = run.listed_part(number)
    source_files = {file["index"]: file["key"] for file in listed["files"]}
    # Not now: a retry must come to the same result.
    latest = datetime.fromisoformat(listed["frozen_at"]) + AHEAD
    with tempfile.TemporaryDirectory(prefix="music-streaming-") as folder:
        path = Path(folder) / "combined.parquet"
        s3.download_file(bucket, run.part_key("combined", number, "parquet"), str(path))
        with ParquetSink(VALID_SCHEMA, **_WRITER_OPTIONS) as valid, ParquetSink(REJECTED_SCHEMA) as rejected:
            outcomes = split_records(path, outcomes, config.max_rejected_fraction, latest, valid, rejected)
            valid.close()
            rejected.close()
            if refused := read_refused_users(run):
                outcomes = without_refused(outcomes, _tables(path, source_files), refused)
            accepted = {outcome["index"] for outcome in outcomes if outcome["disposition"] == "archive"}
            key = run.part_key("validated", number, "parquet")
            if any(outcome["disposition"] == "quarantine" and outcome["rows"] for outcome in outcomes):
                with ParquetSink(VALID_SCHEMA, **_WRITER_OPTIONS) as kept:
                    for table in _tables(valid.path, accepted):
                        kept.write(table)
                    kept.upload(s3, bucket, key)
            else:
                s3.upload_file(str(valid.path), bucket, key)
            csv_path = Path(folder) / "rejected.csv"
            if _write_rejected_rows(rejected.path, accepted, source_files, csv_path):
                s3.upload_file(str(csv_path), bucket, run.part_key("rejected", number, "csv"))
            _add_samples(rejected.path, outcomes)
            ids = _sample_of_ids(valid.path, accepted)
    run.write_part("ids", number, ids)
    run.write_part("validated", number, outcomes)
    totals = ValidatedPart(
        run_key=run.run_key,
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
    latest: datetime,
    valid: ParquetSink,
    rejected: ParquetSink,
) -> list[FileOutcome]:
    """Write each record of the readable files to one of the sinks; return the outcomes with counts.

    No listen is later than `latest`.
    A file with more than `max_rejected_fraction` rejected rows gets the disposition `quarantine`; its valid
    rows are in the sink all the same, since the fraction is known only at the file's end.
    """
    readable = {outcome["index"] for outcome in outcomes if outcome["disposition"] == "archive"}
    reasons: Counter[tuple[int, str]] = Counter()
    examples: dict[tuple[int, str], RejectedExample] = {}
    newest: dict[int, datetime] = {}
    for doubtful in _gathered(_doubtful_records(_tables(combined, readable), latest, valid, newest)):
        records = doubtful.to_pandas(types_mapper=pd.ArrowDtype)
        checked = check_rows(records, latest)
        bad = checked["reason"].notna()
        _write_valid(_to_table(checked[~bad], VALID_SCHEMA), valid, newest)
        rejected_rows = records[bad]
        rejected_rows = rejected_rows.assign(
            reason=checked.loc[bad, "reason"], line=rejected_rows["row"] + rejected_rows["line_offset"]
        )
        rejected.write(_to_table(rejected_rows, REJECTED_SCHEMA))
        found = Counter(zip(rejected_rows["file"], rejected_rows["reason"], strict=True))
        reasons.update(found)
        for file, reason in found.keys() - examples.keys():
            alike = rejected_rows[(rejected_rows["file"] == file) & (rejected_rows["reason"] == reason)]
            examples[file, reason] = example_of(reason, alike)
    outcomes = [_counted(outcome, reasons, examples, max_rejected_fraction) for outcome in outcomes]
    return [
        outcome | {"newest_listen": newest[outcome["index"]].isoformat()} if outcome["valid"] else outcome
        for outcome in outcomes
    ]


def _doubtful_records(
    tables: Iterable[pa.Table], latest: datetime, valid: ParquetSink, newest: dict[int, datetime]
) -> Iterator[pa.Table]:
    for table in tables:
        plain, doubtful = split_plain_rows(table, latest)
        _write_valid(plain, valid, newest)
        yield doubtful


def _write_valid(table: pa.Table, valid: ParquetSink, newest: dict[int, datetime]) -> None:
    """Write the rows, and note the time of each file's newest listen."""
    valid.write(table)
    by_file = table.group_by("file").aggregate([("listen_time", "max")])
    for file, time in zip(*(by_file[name].to_pylist() for name in ("file", "listen_time_max")), strict=True):
        newest[file] = max(time, newest.get(file, time))


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


def _counted(
    outcome: FileOutcome,
    reasons: Mapping[tuple[int, str], int],
    examples: Mapping[tuple[int, str], RejectedExample],
    max_rejected_fraction: float,
) -> FileOutcome:
    if outcome["disposition"] != "archive":
        return outcome
    by_reason = {reason: n for (file, reason), n in sorted(reasons.items()) if file == outcome["index"]}
    rows, rejected = outcome["rows"], sum(by_reason.values())
    outcome = outcome | {
        "valid": rows - rejected,
        "rejected": rejected,
        "rejected_by_reason": by_reason,
        "rejected_examples": {reason: examples[outcome["index"], reason] for reason in by_reason},
    }
    # As decimals: 0.29 of 100 rows are 29, not the float's 28.999….
    if rejected <= Decimal(str(max_rejected_fraction)) * rows:
        return outcome
    return outcome | {
        "disposition": "quarantine",
        "valid": 0,
        "rejected": rows,
        "reason": f"{rejected:,} of {rows:,} rows are bad: {why_rejected(outcome)} "
        f"(MAX_REJECTED_FRACTION allows a fraction of {max_rejected_fraction:g})",
    }


def _tables(path: Path, files: Collection[int]) -> Any:
    """Yield the Parquet file's rows of the given source files, in bounded pieces."""
    wanted = pa.array(sorted(files), pa.int32())
    # With pre_buffer, Arrow's default, all data read stays in memory until the end.
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


def _sample_of_ids(valid: Path, accepted: Collection[int]) -> dict[str, list[str]]:
    """Return some of the distinct ids of the first valid rows, by column."""
    table = next(_tables(valid, accepted), VALID_SCHEMA.empty_table())
    return {
        column: table[column].unique().slice(0, SAMPLE_SIZE).to_pylist() for column in ("track_id", "user_id")
    }


def _add_samples(rejected: Path, outcomes: list[FileOutcome]) -> None:
    for outcome in outcomes:
        if outcome["disposition"] == "quarantine" and outcome["rows"]:
            rows: list[dict[str, Any]] = []
            for table in _tables(rejected, {outcome["index"]}):
                rows += table.slice(0, _SAMPLE_ROWS - len(rows)).drop_columns(["file"]).to_pylist()
                if len(rows) == _SAMPLE_ROWS:
                    break
            outcome["sample_of_rejected_rows"] = rows
