"""The delivered files in the source bucket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from helpers.aws.s3_objects import list_current_versions
from helpers.contract.names import (
    SONG_COLUMNS,
    SONGS_PREFIX,
    STREAMS_PREFIX,
    USER_COLUMNS,
    USERS_PREFIX,
    is_csv,
)
from helpers.contract.records import ObjectVersion
from helpers.contract.settings import PipelineConfig
from helpers.errors import CatalogError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def list_new_files(
    s3: S3Client, config: PipelineConfig, taken: Iterable[Mapping[str, Any]]
) -> tuple[list[str], list[str]]:
    """Return the keys of the stream files that are not among `taken`, and of the files that no run takes.

    `taken` are file versions as a run lists or reports them. A file that was replaced since then counts as
    new.
    """
    known = {(version["key"], version["etag"], version["last_modified"]) for version in taken}
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=config.source_bucket, Prefix=STREAMS_PREFIX)
    present = [
        (entry["Key"], entry["ETag"], entry["LastModified"].isoformat())
        for page in pages
        for entry in page.get("Contents", [])
    ]
    new = [key for key, *version in present if is_csv(key) and (key, *version) not in known]
    return new, [key for key, *_ in present if not is_csv(key)]


def list_catalogs(s3: S3Client, config: PipelineConfig) -> tuple[list[ObjectVersion], list[ObjectVersion]]:
    """List the current versions of the song catalog's files, and of the user catalog's.

    Raises:
        CatalogError: one of them, or both, have none.
    """
    songs, users = (
        [v for v in list_current_versions(s3, config.source_bucket, prefix) if is_csv(v["key"])]
        for prefix in (SONGS_PREFIX, USERS_PREFIX)
    )
    missing = [
        f"No CSV file under s3://{config.source_bucket}/{prefix}: upload the catalog (columns "
        f"{', '.join(columns)})"
        for prefix, columns, versions in (
            (SONGS_PREFIX, SONG_COLUMNS, songs),
            (USERS_PREFIX, USER_COLUMNS, users),
        )
        if not versions
    ]
    if missing:
        raise CatalogError(f"{'. '.join(missing)} and clear this task to continue. Nothing was moved.")
    return songs, users
