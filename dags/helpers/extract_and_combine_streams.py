"""Task extract_and_combine_streams: reads one part's file versions and combines their records."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from helpers.aws.s3_objects import HashedBody, UnreadableObjectError, open_version
from helpers.contract.names import STREAM_COLUMNS
from helpers.contract.records import CombinedPart, FileOutcome, ListedFile, Part
from helpers.contract.settings import PipelineConfig
from helpers.contract.wording import counted
from helpers.errors import FileRejectedError
from helpers.ingest.csv_reader import BinaryStream, CsvBatch, CsvReader
from helpers.ingest.parquet_sink import ParquetSink
from helpers.run.store import RunStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

COMBINED_SCHEMA = pa.schema(
    [
        ("file", pa.int32()),
        ("row", pa.int64()),
        # row + line_offset is the number of the record's first line in its file.
        ("line_offset", pa.int32()),
        *((column, pa.string()) for column in STREAM_COLUMNS),
        # Raw text of a record that cannot be split into the header's fields, and the reason; its other
        # columns are null.
        ("malformed_record", pa.string()),
        ("malformed_reason", pa.string()),
    ]
)
# The object is read once and soon deleted. Dictionaries of ids would cost more time than their bytes save.
_WRITER_OPTIONS: dict[str, Any] = {
    "use_dictionary": ["file", "line_offset", "malformed_reason"],
    "column_encoding": {"row": "DELTA_BINARY_PACKED"},
    "compression": {"listen_time": "lz4"},
    "write_statistics": False,
}


def extract_and_combine_streams(part: Part, config: PipelineConfig) -> CombinedPart:
    """Combine the part's files into one Parquet object and write each file's outcome beside it."""
    run, number = RunStore(part["run_key"], config), part["part"]
    if run.report_if_complete():
        return CombinedPart(run_key=run.run_key, part=number, files=0, rows=0)
    outcomes: list[FileOutcome] = []
    with ParquetSink(COMBINED_SCHEMA, **_WRITER_OPTIONS) as sink:
        for file in run.listed_part(number)["files"]:
            outcome = _combine_version(run.s3, config.source_bucket, file, sink)
            outcomes.append(outcome)
            _log_outcome(f"s3://{config.source_bucket}/{file['key']}", outcome)
        sink.upload(run.s3, config.intermediate_bucket, run.part_key("combined", number, "parquet"))
    run.write_part("combined", number, outcomes)
    return CombinedPart(
        run_key=run.run_key,
        part=number,
        files=len(outcomes),
        rows=sum(outcome["rows"] for outcome in outcomes),
    )


def _combine_version(s3: S3Client, bucket: str, file: ListedFile, sink: ParquetSink) -> FileOutcome:
    index = file["index"]
    try:
        body = open_version(s3, bucket, file)
    except UnreadableObjectError as error:
        return _outcome(index, "left", f"{error}; the next run takes it")
    if body is None:
        return _outcome(index, "left", "changed after it was listed; the next run takes it")
    try:
        hashed = HashedBody(body)
        outcome = combine_file(hashed, index, sink)
        if outcome["disposition"] == "archive":
            outcome = outcome | {"sha256": hashed.sha256()}
    finally:
        body.close()
    return outcome


def combine_file(stream: BinaryStream, index: int, sink: ParquetSink) -> FileOutcome:
    """Write a stream file's records to the sink, as rows of `COMBINED_SCHEMA`.

    Args:
        stream: the file's content.
        index: number of the file, for the column `file`.
        sink: takes the records.

    Returns:
        Disposition `archive` with the number of rows; `quarantine` if the file cannot be used as a whole.
    """
    rows = 0
    try:
        reader = CsvReader(stream, STREAM_COLUMNS, single_line_columns=STREAM_COLUMNS)
        for batch in reader:
            records = combined_records(batch, index)
            sink.write(records)
            rows += records.num_rows
        lines = reader.line_counts
    except FileRejectedError as error:
        return _outcome(index, "quarantine", str(error))
    return _outcome(index, "archive", None) | {
        "rows": rows,
        "extra_columns": reader.extra_columns,
        "lines": lines,
    }


def _outcome(index: int, disposition: str, reason: str | None) -> FileOutcome:
    return FileOutcome(
        index=index,
        rows=0,
        valid=0,
        rejected=0,
        rejected_by_reason={},
        extra_columns=[],
        lines=None,
        disposition=disposition,
        reason=reason,
    )


def combined_records(batch: CsvBatch, file: int) -> pa.Table:
    """Return a batch's records, malformed ones included, as rows of `COMBINED_SCHEMA`."""
    count = batch.records.num_rows
    nothing = pa.nulls(count, pa.string())
    columns = [
        pa.repeat(pa.scalar(file, pa.int32()), count),
        pa.array(batch.rows),
        pa.array(np.subtract(batch.lines, batch.rows, dtype=np.int32, casting="same_kind")),
        *(batch.records.column(column) for column in STREAM_COLUMNS),
        nothing,
        nothing,
    ]
    well_formed = pa.Table.from_arrays(columns, schema=COMBINED_SCHEMA)
    if not batch.malformed:
        return well_formed
    malformed = [
        {
            "file": file,
            "row": record.row,
            "line_offset": record.line - record.row,
            "malformed_record": record.text,
            "malformed_reason": record.reason,
        }
        for record in batch.malformed
    ]
    return pa.concat_tables([well_formed, pa.Table.from_pylist(malformed, schema=COMBINED_SCHEMA)])


def _log_outcome(where: str, outcome: FileOutcome) -> None:
    if outcome["reason"]:
        logger.warning("%s: %s (%s)", where, outcome["disposition"], outcome["reason"])
    else:
        logger.info("%s: %s", where, counted(outcome["rows"], "row"))
    if outcome["extra_columns"]:
        logger.info("%s: ignored extra columns %s", where, ", ".join(outcome["extra_columns"]))
