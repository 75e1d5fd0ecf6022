"""Task archive_streams_data: puts every source file version in its place and writes the run report."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from helpers.aws import MAX_CONNECTIONS, s3_client
from helpers.config import STREAMS_PREFIX, PipelineConfig
from helpers.errors import ReconciliationError
from helpers.glue_output import read_summary
from helpers.manifest import FileOutcome, Manifest, read_input_manifest, read_manifest, read_report
from helpers.run_key import report_key, run_prefix
from helpers.s3_objects import (
    MISSING,
    PRECONDITION_FAILED,
    ObjectVersion,
    copy_verified,
    error_code,
    list_sizes,
    write_json,
    write_json_once,
)
from helpers.store_kpis_in_dynamodb import StoredKpis

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

QUARANTINE_PREFIX = "quarantine/"


def archive_streams_data(stored: StoredKpis, config: PipelineConfig) -> str:
    """Archive or quarantine the run's files, then write the run report; return the report's key.

    The report is written last: it marks the run as complete.
    """
    s3 = s3_client()
    run_key = stored["run_key"]
    if read_report(s3, config, run_key):
        logger.info("Run %s is complete; nothing to do", run_key)
        return report_key(run_key)
    manifest = read_manifest(s3, config, run_key)
    moved = read_input_manifest(s3, config, run_key)
    summary = read_summary(s3, config, run_key)
    destinations = carry_out_dispositions(s3, config, manifest, moved["outcomes"])
    files = files_report(manifest, moved["outcomes"], destinations)
    report = {
        "run_key": run_key,
        "dag_run_id": manifest["dag_run_id"],
        "frozen_at": manifest["frozen_at"],
        "status": "complete",
        "totals": totals_of(files) | {"new": summary["new"], "repeated": summary["repeated"]},
        "days": {
            day: {
                "rows_read": counts["rows_read"],
                "new": counts["new"],
                "repeated": counts["repeated"],
                "total": counts["total"],
                "version": stored["versions"].get(day),
            }
            for day, counts in summary["days"].items()
        },
        "files": files,
        "ignored_keys": manifest["ignored_keys"],
        "catalogs": {
            name: {key: moved[name][key] for key in ("files", "rows", "notes")}  # type: ignore[literal-required]
            for name in ("songs", "users")
        },
        "reprocess_dates": moved["reprocess_dates"],
        "kpi_items_written": stored["items_written"],
        "kpi_items_deleted": stored["items_deleted"],
    }
    return write_report(s3, config, run_key, report)


def write_report(s3: S3Client, config: PipelineConfig, run_key: str, report: dict[str, Any]) -> str:
    """Write the run report, unless an earlier attempt did; return its key."""
    report["completed_at"] = datetime.now(UTC).isoformat()
    write_json_once(s3, config.archive_bucket, report_key(run_key), report)
    logger.info("Run report: s3://%s/%s", config.archive_bucket, report_key(run_key))
    return report_key(run_key)


def carry_out_dispositions(
    s3: S3Client, config: PipelineConfig, manifest: Manifest, outcomes: list[FileOutcome]
) -> list[str | None]:
    """Copy each file version to its place, verify, delete it from the source; keep rejected rows.

    Returns:
        The key in the archive bucket for each outcome; None for a file that is left for the next run.

    Raises:
        ReconciliationError: a version is neither in the source nor where it belongs, or a copy differs.
    """
    run_key = manifest["run_key"]

    def carry_out(outcome: FileOutcome) -> str | None:
        return _carry_out(s3, config, run_key, manifest["streams"][outcome["index"]], outcome)

    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        destinations = list(pool.map(carry_out, outcomes))
    _keep_rejected_rows(s3, config, manifest, outcomes)
    return destinations


def archive_key(version: ObjectVersion) -> str:
    """Return where a processed file version goes: by its arrival day, named after key and version."""
    return f"streams/{version['last_modified'][:10]}/{_versioned_name(version)}"


def quarantine_key(run_key: str, version: ObjectVersion) -> str:
    """Return where a file version goes that was rejected as a whole."""
    return f"{quarantine_prefix(run_key)}{_versioned_name(version)}"


def quarantine_prefix(run_key: str) -> str:
    """Return the archive prefix of what the run rejected."""
    return f"{QUARANTINE_PREFIX}{run_key}/"


def files_report(
    manifest: Manifest, outcomes: list[FileOutcome], destinations: list[str | None]
) -> list[dict[str, Any]]:
    """Return the report's entry for each stream file."""
    return [
        {**manifest["streams"][outcome["index"]], **_without_index(outcome), "destination": destination}
        for outcome, destination in zip(outcomes, destinations, strict=True)
    ]


def totals_of(files: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the report's totals over its files."""
    dispositions = Counter(file["disposition"] for file in files)
    by_reason: Counter[str] = Counter()
    for file in files:
        by_reason.update(file["rejected_by_reason"])
    return {
        "files": len(files),
        "archived": dispositions["archive"],
        "quarantined": dispositions["quarantine"],
        "left": dispositions["left"],
        **{name: sum(file[name] for file in files) for name in ("rows", "valid", "rejected")},
        "rejected_by_reason": dict(by_reason.most_common()),
    }


def _carry_out(
    s3: S3Client, config: PipelineConfig, run_key: str, version: ObjectVersion, outcome: FileOutcome
) -> str | None:
    if outcome["disposition"] == "left":
        return None
    extra_args: dict[str, Any] = {}
    if outcome["disposition"] == "archive":
        key = archive_key(version)
        extra_args["StorageClass"] = config.archive_storage_class
    else:
        key = quarantine_key(run_key, version)
        reason = {**version, **_without_index(outcome), "run_key": run_key}
        write_json(s3, config.archive_bucket, f"{key}.reason.json", reason)
    taken_to = _taken_before(s3, config, version, key)
    if taken_to is None:
        source = (config.source_bucket, version["key"], version["version_id"])
        copy_verified(s3, source, (config.archive_bucket, key), **extra_args)
        _delete_source(s3, config.source_bucket, version)
    return taken_to or key


def _taken_before(s3: S3Client, config: PipelineConfig, version: ObjectVersion, key: str) -> str | None:
    """Return where an earlier attempt, or another run, put the version before it deleted it from the source.

    Raises:
        ReconciliationError: the version is nowhere, and its bucket keeps no versions.
    """
    if _is_current(s3, config.source_bucket, version):
        return None
    name = _versioned_name(version)
    candidates: dict[str, int] = {}
    for prefix in (key, archive_key(version), QUARANTINE_PREFIX):
        candidates |= list_sizes(s3, config.archive_bucket, prefix)
    for candidate, size in candidates.items():
        if size == version["size"] and candidate.endswith(f"/{name}"):
            return candidate
    if version["version_id"] is None:
        raise ReconciliationError(
            f"s3://{config.source_bucket}/{version['key']} changed or vanished before it was archived, "
            "and its bucket keeps no versions. Its listens are in the history. Switch on versioning."
        )
    return None


def _delete_source(s3: S3Client, bucket: str, version: ObjectVersion) -> None:
    """Delete the version unless a newer one has come.

    Without VersionId: deleting the version itself would bring a superseded one back to life.
    """
    if not _is_current(s3, bucket, version):
        logger.info("s3://%s/%s was replaced or deleted meanwhile; left as it is", bucket, version["key"])
        return
    try:
        s3.delete_object(Bucket=bucket, Key=version["key"], IfMatch=version["etag"])
    except ClientError as error:
        if error_code(error) not in MISSING | PRECONDITION_FAILED:
            raise
        logger.info("s3://%s/%s was replaced or deleted meanwhile; left as it is", bucket, version["key"])


def _is_current(s3: S3Client, bucket: str, version: ObjectVersion) -> bool:
    try:
        found = s3.head_object(Bucket=bucket, Key=version["key"])
    except ClientError as error:
        if error_code(error) in MISSING:
            return False
        raise
    # The same bytes delivered again have the same ETag; a bucket without versioning gives no id.
    same_id = found.get("VersionId", "null") == (version["version_id"] or "null")
    return same_id and found["ETag"] == version["etag"]


def _keep_rejected_rows(
    s3: S3Client, config: PipelineConfig, manifest: Manifest, outcomes: list[FileOutcome]
) -> None:
    run_key = manifest["run_key"]
    prefix = f"{run_prefix(run_key)}rejected/"
    objects = list_sizes(s3, config.intermediate_bucket, prefix)
    if not objects:
        return
    target = f"{quarantine_prefix(run_key)}rejected_rows/"
    for key in objects:
        destination = (config.archive_bucket, target + key.removeprefix(prefix))
        copy_verified(s3, (config.intermediate_bucket, key, None), destination)
    reasons = {
        manifest["streams"][outcome["index"]]["key"]: outcome["rejected_by_reason"]
        for outcome in outcomes
        if outcome["disposition"] == "archive" and outcome["rejected"]
    }
    write_json(s3, config.archive_bucket, f"{target}reasons.json", {"run_key": run_key, "files": reasons})


def _versioned_name(version: ObjectVersion) -> str:
    name, suffix = version["key"].removeprefix(STREAMS_PREFIX), ""
    for ending in (".csv.gz", ".csv"):
        if name.endswith(ending):
            name, suffix = name.removesuffix(ending), ending
            break
    return f"{name}__{version['version_id'] or version['etag'].strip(chr(34))}{suffix}"


def _without_index(outcome: FileOutcome) -> dict[str, Any]:
    return {name: value for name, value in outcome.items() if name != "index"}
