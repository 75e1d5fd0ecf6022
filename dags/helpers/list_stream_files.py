"""Task list_stream_files: fixes the list of file versions that the run works on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.exceptions import AirflowSkipException
from rich.filesize import decimal

from helpers.aws.s3_objects import list_current_versions
from helpers.contract.keys import run_key_of
from helpers.contract.names import (
    STREAMS_PREFIX,
    is_csv,
)
from helpers.contract.records import SKIPPED, Manifest, Part
from helpers.contract.settings import PipelineConfig
from helpers.contract.wording import counted
from helpers.notices.record_ending import record_ending
from helpers.notices.sentences import ignored_sentence
from helpers.run.source_files import list_catalogs
from helpers.run.store import RunStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

PART_BYTES = 256 * 1024**2
PART_FILES = 1000
# Airflow maps over at most `core.max_map_length` parts (default: 1,024). Larger runs get larger parts.
MAX_PARTS = 1000


def list_stream_files(dag_run_id: str, config: PipelineConfig) -> list[Part]:
    """Write the run's manifest, unless an earlier attempt wrote it, and its pieces; return their references.

    Raises:
        AirflowSkipException: there is no stream file.
        CatalogError: there is no song or no user catalog.
    """
    run = RunStore(run_key_of(dag_run_id), config)
    try:
        manifest = run.manifest_made_once(lambda: freeze(run.s3, dag_run_id, config))
    except AirflowSkipException as skip:
        record_ending(dag_run_id, "list_stream_files", SKIPPED, str(skip))
        raise
    logger.info(
        "Run %s works on %s (%s) in %s",
        run.run_key,
        counted(len(manifest["streams"]), "stream file"),
        decimal(sum(version["size"] for version in manifest["streams"])),
        counted(len(manifest["parts"]), "part"),
    )
    # A complete run's temporary objects were deleted; a cleared task must not write some again.
    if not run.report_if_complete():
        run.write_listed_parts(manifest)
    return [Part(run_key=run.run_key, part=part) for part in range(len(manifest["parts"]))]


def freeze(s3: S3Client, dag_run_id: str, config: PipelineConfig) -> Manifest:
    """List the current versions of the stream files and catalogs as a manifest."""
    frozen_at = datetime.now(UTC).isoformat()
    listed = list_current_versions(s3, config.source_bucket, STREAMS_PREFIX)
    streams = [version for version in listed if is_csv(version["key"])]
    ignored = [version["key"] for version in listed if not is_csv(version["key"])]
    if not streams:
        raise AirflowSkipException(
            f"No CSV file under s3://{config.source_bucket}/{STREAMS_PREFIX}: nothing to do. "
            f"{ignored_sentence(ignored)}".rstrip()
        )
    songs, users = list_catalogs(s3, config)
    return Manifest(
        run_key=run_key_of(dag_run_id),
        dag_run_id=dag_run_id,
        frozen_at=frozen_at,
        streams=streams,
        songs=songs,
        users=users,
        ignored_keys=ignored,
        parts=group_into_parts([version["size"] for version in streams]),
    )


def group_into_parts(sizes: Sequence[int], part_bytes: int = PART_BYTES) -> list[list[int]]:
    """Group files, given by their sizes in bytes, into parts: lists of consecutive indexes.

    A part holds about `part_bytes` and at most `PART_FILES` files; a larger file is its own part.
    """
    part_bytes = max(part_bytes, 2 * sum(sizes) // MAX_PARTS)
    part_files = max(PART_FILES, 2 * len(sizes) // MAX_PARTS)
    parts: list[list[int]] = []
    bytes_in_part = 0
    for index, size in enumerate(sizes):
        if not parts or bytes_in_part + size > part_bytes or len(parts[-1]) == part_files:
            parts.append([])
            bytes_in_part = 0
        parts[-1].append(index)
        bytes_in_part += size
    return parts
