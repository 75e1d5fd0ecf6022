"""Parquet copies in the archive bucket for queries by SQL: the KPI items by day, and the current catalogs."""

from __future__ import annotations

import io
import logging
from typing import Any

import pyarrow as pa
from botocore.exceptions import ClientError
from pyarrow import parquet as pq

from helpers.aws.s3_objects import CONFLICT, PRECONDITION_FAILED, copy_object, error_code, head_object
from helpers.contract.keys import catalog_copy_key, input_prefix, kpis_key
from helpers.contract.records import InputManifest
from helpers.errors import GlueOutputError, RetryableError
from helpers.run.glue_output import RUN_GLUE_AGAIN
from helpers.run.kpi_schema import KPIS_SCHEMA
from helpers.run.store import RunStore

logger = logging.getLogger(__name__)


def to_parquet(day: str, items: list[dict[str, Any]]) -> bytes:
    """Return the day's items as a Parquet file.

    Raises:
        GlueOutputError: a value does not fit its column.
    """
    file = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_pylist(items, schema=KPIS_SCHEMA), file, compression="zstd")
    except pa.ArrowException as error:
        raise GlueOutputError(
            f"The KPI items of {day} do not fit the columns of their Parquet file: {error}. No item was "
            f"written. {RUN_GLUE_AGAIN}"
        ) from error
    return file.getvalue()


def write_kpis(run: RunStore, day: str, file: bytes, version: int, catalogs_frozen_at: str) -> None:
    """Write the day's Parquet file, which holds the items that the KPI table has.

    The file of a newer computation is left unchanged. As in the table, a larger version is newer, and with
    equal versions newer catalogs are.

    Raises:
        RetryableError: an older computation writes the day at the same time.
    """
    s3, bucket, key = run.s3, run.config.archive_bucket, kpis_key(day)
    stamp = version, catalogs_frozen_at
    found = head_object(s3, bucket, key)
    if found and _stamp_of(found) > stamp:
        logger.warning("%s holds a newer computation than version %d: left unchanged", key, version)
        return
    condition: Any = {"IfMatch": found["ETag"]} if found else {"IfNoneMatch": "*"}
    metadata = {"version": str(version), "catalogs-frozen-at": catalogs_frozen_at}
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=file, Metadata=metadata, **condition)
    except ClientError as error:
        if error_code(error) not in PRECONDITION_FAILED | CONFLICT:
            raise
        # The SDK repeats a request after a lost response, and then meets its own object. A newer one stays.
        found = head_object(s3, bucket, key)
        if not found or _stamp_of(found) < stamp:
            raise RetryableError(f"s3://{bucket}/{key} was written by another attempt meanwhile") from error


def keep_catalogs(run: RunStore, moved: InputManifest) -> None:
    """Copy the catalogs of the run's input, and replace those of an earlier run."""
    for name, catalog in (("songs", moved["songs"]), ("users", moved["users"])):
        for file in catalog["objects"]:
            copy_object(
                run.s3,
                {"Bucket": run.config.intermediate_bucket, "Key": input_prefix(run.run_key) + file},
                (run.config.archive_bucket, catalog_copy_key(name, file)),
            )


def _stamp_of(found: Any) -> tuple[int, str]:
    metadata = found["Metadata"]
    return int(metadata.get("version", 0)), metadata.get("catalogs-frozen-at", "")
