"""Task extract_and_combine_streams: reads one part's file versions and combines their records."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypedDict

import pyarrow as pa

from helpers.aws import s3_client
from helpers.config import STREAM_COLUMNS, PipelineConfig
from helpers.csv_reader import CsvBatch, CsvReader, MalformedRecord
from helpers.errors import FileRejectedError
from helpers.manifest import FileOutcome, Part, read_manifest, read_report
from helpers.parquet_sink import ParquetSink
from helpers.run_key import part_key
from helpers.s3_objects import ObjectVersion, open_version, write_json

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

COMBINED_SCHEMA = pa.schema(
    [
        ("file", pa.int32()),
        ("row", pa.int64()),
        *((column, pa.string()) for column in STREAM_COLUMNS),
        # the text of a record that has not the header's number of fields; its other columns are null
        ("malformed_record", pa.string()),
    ]
)
# Read once, and soon: to look for repetitions among ids takes more time than the bytes saved are worth.
_WRITER_OPTIONS: dict[str, Any] = {
    "use_dictionary": ["file"],
    "column_encoding": {"row": "DELTA_BINARY_PACKED"},
    "compression": {"listen_time": "lz4"},
    "write_statistics": False,
}


class CombinedPart(TypedDict):
    """A reference to one part's combined records, with counts."""

    run_key: str
    part: int
    files: int
    rows: int


def extract_and_combine_streams(part: Part, config: PipelineConfig) -> CombinedPart:
    """Combine the part's files into one Parquet object; what became of each file is written beside it."""
    s3 = s3_client()
    run_key, number = part["run_key"], part["part"]
    if read_report(s3, config, run_key):
        logger.info("Run %s is complete; nothing to do", run_key)
        return CombinedPart(run_key=run_key, part=number, files=0, rows=0)
    manifest = read_manifest(s3, config, run_key)
    outcomes: list[FileOutcome] = []
    with ParquetSink(COMBINED_SCHEMA, **_WRITER_OPTIONS) as sink:
        for index in manifest["parts"][number]:
            outcome = _combine_file(s3, config.source_bucket, manifest["streams"][index], index, sink)
            outcomes.append(outcome)
            _log_outcome(manifest["streams"][index]["key"], outcome)
        sink.upload(s3, config.intermediate_bucket, part_key(run_key, "combined", number, "parquet"))
    write_json(s3, config.intermediate_bucket, part_key(run_key, "combined", number, "json"), outcomes)
    return CombinedPart(
        run_key=run_key,
        part=number,
        files=len(outcomes),
        rows=sum(outcome["rows"] for outcome in outcomes),
    )


def _combine_file(
    s3: S3Client, bucket: str, version: ObjectVersion, index: int, sink: ParquetSink
) -> FileOutcome:
    outcome = FileOutcome(
        index=index,
        rows=0,
        valid=0,
        rejected=0,
        rejected_by_reason={},
        extra_columns=[],
        disposition="archive",
        reason=None,
    )
    body = open_version(s3, bucket, version)
    if body is None:
        return outcome | {
            "disposition": "left",
            "reason": "changed after it was listed; the next run takes it",
        }
    rows = 0
    try:
        reader = CsvReader(body, STREAM_COLUMNS)
        for batch in reader:
            sink.write(_batch_table(batch, index))
            sink.write(_malformed_table(batch.malformed, index))
            rows += len(batch.rows) + len(batch.malformed)
    except FileRejectedError as error:
        return outcome | {"disposition": "quarantine", "reason": str(error)}
    finally:
        body.close()
    return outcome | {"rows": rows, "extra_columns": reader.extra_columns}


def _batch_table(batch: CsvBatch, file: int) -> pa.Table:
    count = batch.records.num_rows
    columns = [
        pa.repeat(pa.scalar(file, pa.int32()), count),
        pa.array(batch.rows),
        *(batch.records.column(column) for column in STREAM_COLUMNS),
        pa.nulls(count, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=COMBINED_SCHEMA)


def _malformed_table(records: list[MalformedRecord], file: int) -> pa.Table:
    return pa.Table.from_pylist(
        [{"file": file, "row": record.row, "malformed_record": record.text} for record in records],
        schema=COMBINED_SCHEMA,
    )


def _log_outcome(key: str, outcome: FileOutcome) -> None:
    if outcome["reason"]:
        logger.warning("%s: %s (%s)", key, outcome["disposition"], outcome["reason"])
    else:
        logger.info("%s: %d rows", key, outcome["rows"])
    if outcome["extra_columns"]:
        logger.info("%s: ignored extra columns %s", key, ", ".join(outcome["extra_columns"]))
