"""Task list_stream_files: freezes, once for a run, which file versions it works on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.exceptions import AirflowSkipException

from helpers.aws import s3_client
from helpers.config import (
    SONG_COLUMNS,
    SONGS_PREFIX,
    STREAMS_PREFIX,
    USER_COLUMNS,
    USERS_PREFIX,
    PipelineConfig,
)
from helpers.errors import BadInputError
from helpers.manifest import Manifest, Part
from helpers.run_key import manifest_key, run_key_of
from helpers.s3_objects import ObjectVersion, list_current_versions, read_json, write_json_once

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

PART_BYTES = 256 * 1024**2
PART_FILES = 1000
# Airflow refuses to map over more than `core.max_map_length` (1,024) parts; larger runs get larger parts.
MAX_PARTS = 1000
CSV_SUFFIXES = (".csv", ".csv.gz")


def list_stream_files(dag_run_id: str, config: PipelineConfig) -> list[Part]:
    """Write the run's manifest, unless an earlier attempt did, and return references to its parts.

    Raises:
        AirflowSkipException: there is no stream file.
        BadInputError: there is no song or no user catalog.
    """
    s3 = s3_client()
    run_key = run_key_of(dag_run_id)
    key = manifest_key(run_key)
    manifest: Manifest | None = read_json(s3, config.archive_bucket, key)
    if manifest is None:
        manifest = write_json_once(s3, config.archive_bucket, key, freeze(s3, dag_run_id, config))
    logger.info(
        "Run %s works on %d stream files (%d bytes) in %d parts",
        run_key,
        len(manifest["streams"]),
        sum(version["size"] for version in manifest["streams"]),
        len(manifest["parts"]),
    )
    return [Part(run_key=run_key, part=part) for part in range(len(manifest["parts"]))]


def freeze(s3: S3Client, dag_run_id: str, config: PipelineConfig) -> Manifest:
    """List the current versions of stream files and catalogs as a manifest."""
    frozen_at = datetime.now(UTC).isoformat()
    listed = list_current_versions(s3, config.source_bucket, STREAMS_PREFIX)
    streams = [version for version in listed if version["key"].endswith(CSV_SUFFIXES)]
    if not streams:
        raise AirflowSkipException(
            f"No CSV file under s3://{config.source_bucket}/{STREAMS_PREFIX}: nothing to do."
        )
    return Manifest(
        run_key=run_key_of(dag_run_id),
        dag_run_id=dag_run_id,
        frozen_at=frozen_at,
        streams=streams,
        songs=list_catalog(s3, config, SONGS_PREFIX, SONG_COLUMNS),
        users=list_catalog(s3, config, USERS_PREFIX, USER_COLUMNS),
        ignored_keys=[version["key"] for version in listed if not version["key"].endswith(CSV_SUFFIXES)],
        parts=group_into_parts([version["size"] for version in streams]),
    )


def group_into_parts(sizes: Sequence[int], part_bytes: int = PART_BYTES) -> list[list[int]]:
    """Group files, given by their sizes in bytes, into parts: lists of indexes in order.

    A part holds about `part_bytes` and at most `PART_FILES` files; a larger file is a part of its own.
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


def list_catalog(
    s3: S3Client, config: PipelineConfig, prefix: str, columns: Sequence[str]
) -> list[ObjectVersion]:
    """List the current versions of a catalog's files.

    Raises:
        BadInputError: there is none.
    """
    versions = [
        version
        for version in list_current_versions(s3, config.source_bucket, prefix)
        if version["key"].endswith(CSV_SUFFIXES)
    ]
    if not versions:
        raise BadInputError(
            f"No CSV file under s3://{config.source_bucket}/{prefix}: upload the catalog "
            f"(columns {', '.join(columns)}) and clear this task to go on. Nothing was moved."
        )
    return versions
