"""Moves each source file version to the archive or to quarantine, or leaves it for the next run."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from helpers.aws.clients import MAX_CONNECTIONS
from helpers.aws.s3_objects import (
    MISSING,
    PRECONDITION_FAILED,
    copy_verified,
    error_code,
    head_object,
    list_objects,
    list_sizes,
    write_json,
)
from helpers.contract.keys import (
    QUARANTINE_PREFIX,
    archive_key,
    quarantine_key,
    rejected_rows_prefix,
    rejected_rows_reasons_key,
    run_prefix,
    versioned_name,
)
from helpers.contract.records import FileOutcome, Manifest, ObjectVersion
from helpers.errors import SourceFileVanishedError
from helpers.run.report import without_index
from helpers.run.store import RunStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)


def carry_out_dispositions(
    run: RunStore, manifest: Manifest, outcomes: list[FileOutcome]
) -> list[str | None]:
    """Copy each file version to its destination, verify the copy, delete the source; keep rejected rows.

    Returns:
        The archive bucket's key for each outcome; None for a file that is left for the next run.

    Raises:
        ReconciliationError: a version is neither in the source nor at its destination, or a copy differs.
    """

    def carry_out(outcome: FileOutcome) -> str | None:
        return _carry_out(run, manifest["streams"][outcome["index"]], outcome)

    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        destinations = list(pool.map(carry_out, outcomes))
    _keep_rejected_rows(run, manifest, outcomes)
    return destinations


def _carry_out(run: RunStore, version: ObjectVersion, outcome: FileOutcome) -> str | None:
    s3, config = run.s3, run.config
    if outcome["disposition"] == "left":
        return None
    arguments: dict[str, Any] = {}
    if outcome["disposition"] == "archive":
        key = archive_key(version)
        arguments["StorageClass"] = config.archive_storage_class
    else:
        key = quarantine_key(run.run_key, version)
        reason = {**version, **without_index(outcome), "run_key": run.run_key}
        write_json(s3, config.archive_bucket, f"{key}.reason.json", reason)
    # One look at the source serves both decisions. Deletion is tied to the ETag that was seen.
    is_current = _is_current(s3, config.source_bucket, version)
    if not is_current and (taken_to := _taken_before(run, version, key)):
        return taken_to
    destination = (config.archive_bucket, key)
    copy_verified(s3, config.source_bucket, version, destination, outcome.get("sha256"), **arguments)
    if is_current:
        _delete_source(s3, config.source_bucket, version)
    else:
        _log_newer_file(config.source_bucket, version)
    return key


def _taken_before(run: RunStore, version: ObjectVersion, key: str) -> str | None:
    """Return where an earlier attempt or another run put the version, which is not current in the source.

    Raises:
        SourceFileVanishedError: the version is nowhere, and its bucket keeps no versions.
    """
    s3, config = run.s3, run.config
    name = versioned_name(version)
    candidates: dict[str, int] = {}
    for prefix in (key, archive_key(version), QUARANTINE_PREFIX):
        candidates |= list_sizes(s3, config.archive_bucket, prefix)
    for candidate, size in candidates.items():
        if size == version["size"] and candidate.endswith(f"/{name}"):
            return candidate
    if version["version_id"] is None:
        raise SourceFileVanishedError(
            f"s3://{config.source_bucket}/{version['key']} changed or vanished before it was archived, "
            "and its bucket keeps no versions. Its listens are in the history. Switch on versioning."
        )
    return None


def _delete_source(s3: S3Client, bucket: str, version: ObjectVersion) -> None:
    """Delete the version unless one of other bytes has come.

    The call has no VersionId: deleting the version itself would make the version before it current again.
    """
    try:
        s3.delete_object(Bucket=bucket, Key=version["key"], IfMatch=version["etag"])
    except ClientError as error:
        if error_code(error) not in MISSING | PRECONDITION_FAILED:
            raise
        _log_newer_file(bucket, version)


def _log_newer_file(bucket: str, version: ObjectVersion) -> None:
    logger.info("s3://%s/%s was replaced or deleted meanwhile; left as it is", bucket, version["key"])


def _is_current(s3: S3Client, bucket: str, version: ObjectVersion) -> bool:
    found = head_object(s3, bucket, version["key"])
    if found is None:
        return False
    # Identical bytes that are delivered again have the same ETag; a bucket without versioning has no id.
    same_id = found.get("VersionId", "null") == (version["version_id"] or "null")
    return same_id and found["ETag"] == version["etag"]


def _keep_rejected_rows(run: RunStore, manifest: Manifest, outcomes: list[FileOutcome]) -> None:
    s3, config, run_key = run.s3, run.config, run.run_key
    prefix = f"{run_prefix(run_key)}rejected/"
    objects = list_objects(s3, config.intermediate_bucket, prefix)
    if not objects:
        return
    target = rejected_rows_prefix(run_key)
    for rows in objects:
        destination = (config.archive_bucket, target + rows["key"].removeprefix(prefix))
        copy_verified(s3, config.intermediate_bucket, rows, destination)
    rejected = {
        manifest["streams"][outcome["index"]]["key"]: outcome
        for outcome in outcomes
        if outcome["disposition"] == "archive" and outcome["rejected"]
    }
    reasons = {
        "run_key": run_key,
        "files": {key: outcome["rejected_by_reason"] for key, outcome in rejected.items()},
        "examples": {key: outcome.get("rejected_examples", {}) for key, outcome in rejected.items()},
    }
    write_json(s3, config.archive_bucket, rejected_rows_reasons_key(run_key), reasons)
