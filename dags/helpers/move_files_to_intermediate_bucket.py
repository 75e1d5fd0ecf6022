"""Task move_files_to_intermediate_bucket: the barrier between ingest and the Glue job."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.exceptions import AirflowSkipException

from helpers.archive_streams_data import carry_out_dispositions, files_report, totals_of, write_report
from helpers.aws import s3_client
from helpers.catalogs import write_songs, write_users
from helpers.config import PipelineConfig
from helpers.delete_intermediate_bucket_files import delete_run_objects
from helpers.errors import BadInputError, ReconciliationError
from helpers.manifest import (
    CatalogSummary,
    FileOutcome,
    InputManifest,
    ListensSummary,
    Manifest,
    MovedInput,
    read_manifest,
    read_report,
)
from helpers.run_key import input_prefix, part_key, run_key_of
from helpers.s3_objects import copy_object, list_sizes, read_json, write_json
from helpers.validate_csv_files import ValidatedPart

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

NO_VALID_ROWS = "no_valid_rows"


def move_files_to_intermediate_bucket(
    dag_run_id: str, validated: list[ValidatedPart], config: PipelineConfig
) -> MovedInput:
    """Check the parts and the catalogs, then put together what the Glue job reads, its manifest last.

    Raises:
        BadInputError: a catalog cannot be used (nothing is touched), or no file has a valid row (all files
            are moved to quarantine first).
        ReconciliationError: the parts do not add up to the run's manifest.
        AirflowSkipException: every file changed after it was listed; the next run takes them.
    """
    s3 = s3_client()
    run_key = run_key_of(dag_run_id)
    if report := read_report(s3, config, run_key):
        if report["status"] == NO_VALID_ROWS:
            delete_run_objects(s3, config, run_key)
            raise _no_valid_rows(report["files"], run_key, config)
        logger.info("Run %s is complete; nothing to do", run_key)
        return MovedInput(run_key=run_key, rows=report["totals"]["valid"])
    manifest = read_manifest(s3, config, run_key)
    outcomes = collect_outcomes(s3, config, manifest, validated)
    rows = sum(outcome["valid"] for outcome in outcomes)
    songs, users = move_catalogs(s3, config, manifest)
    if not rows:
        _end_without_valid_rows(s3, config, manifest, outcomes)
    input_manifest = InputManifest(
        run_key=run_key,
        frozen_at=manifest["frozen_at"],
        listens=ListensSummary(objects=_move_listens(s3, config, manifest, validated), rows=rows),
        songs=songs,
        users=users,
        outcomes=outcomes,
        reprocess_dates=[],
    )
    write_json(s3, config.intermediate_bucket, f"{input_prefix(run_key)}manifest.json", input_manifest)
    logger.info("Moved %d listens, %d songs and %d users", rows, songs["rows"], users["rows"])
    return MovedInput(run_key=run_key, rows=rows)


def move_catalogs(
    s3: S3Client, config: PipelineConfig, manifest: Manifest
) -> tuple[CatalogSummary, CatalogSummary]:
    """Move the frozen song and user catalogs, as typed Parquet, to where the Glue job reads.

    Raises:
        BadInputError: a catalog cannot be used; names file, column and reason.
    """
    prefix = input_prefix(manifest["run_key"])
    songs = write_songs(s3, config, manifest["songs"], prefix)
    return songs, write_users(s3, config, manifest["users"], prefix)


def collect_outcomes(
    s3: S3Client, config: PipelineConfig, manifest: Manifest, validated: list[ValidatedPart]
) -> list[FileOutcome]:
    """Return the outcome of every listed file, in the manifest's order.

    Raises:
        ReconciliationError: a file is missing or there twice, or rows do not add up.
    """
    outcomes: list[FileOutcome] = []
    for part in validated:
        key = part_key(manifest["run_key"], "validated", part["part"], "json")
        outcomes += read_json(s3, config.intermediate_bucket, key) or []
    outcomes.sort(key=lambda outcome: outcome["index"])
    problem = _mismatch(manifest, validated, outcomes)
    if problem:
        raise ReconciliationError(
            f"{problem}. Nothing was moved; clear extract_and_combine_streams and what follows it."
        )
    return outcomes


def _mismatch(manifest: Manifest, validated: list[ValidatedPart], outcomes: list[FileOutcome]) -> str | None:
    if [outcome["index"] for outcome in outcomes] != list(range(len(manifest["streams"]))):
        return f"The parts tell of {len(outcomes)} files, the run's manifest of {len(manifest['streams'])}"
    for outcome in outcomes:
        if outcome["rows"] != outcome["valid"] + outcome["rejected"]:
            key = manifest["streams"][outcome["index"]]["key"]
            counts = f"{outcome['valid']} valid + {outcome['rejected']} rejected"
            return f"{key}: {outcome['rows']} rows, but {counts}"
    told, written = sum(part["valid"] for part in validated), sum(outcome["valid"] for outcome in outcomes)
    return f"The tasks counted {told} valid rows, their objects say {written}" if told != written else None


def _move_listens(
    s3: S3Client, config: PipelineConfig, manifest: Manifest, validated: list[ValidatedPart]
) -> list[str]:
    bucket, run_key = config.intermediate_bucket, manifest["run_key"]
    objects: list[str] = []
    for part in validated:
        if part["valid"]:
            name = f"listens/part-{part['part']:05d}.parquet"
            source = part_key(run_key, "validated", part["part"], "parquet")
            copy_object(s3, (bucket, source, None), (bucket, input_prefix(run_key) + name))
            objects.append(name)
    sizes = list_sizes(s3, bucket, input_prefix(run_key))
    missing = [name for name in objects if not sizes.get(input_prefix(run_key) + name)]
    if missing:
        raise ReconciliationError(f"Copies are missing under {input_prefix(run_key)}: {missing}")
    return objects


def _end_without_valid_rows(
    s3: S3Client, config: PipelineConfig, manifest: Manifest, outcomes: list[FileOutcome]
) -> None:
    if all(outcome["disposition"] == "left" for outcome in outcomes):
        raise AirflowSkipException("Every stream file changed after it was listed; the next run takes them.")
    outcomes = [
        outcome | {"disposition": "quarantine", "reason": outcome["reason"] or "no valid row"}
        if outcome["disposition"] == "archive"
        else outcome
        for outcome in outcomes
    ]
    destinations = carry_out_dispositions(s3, config, manifest, outcomes)
    files = files_report(manifest, outcomes, destinations)
    report = {
        "run_key": manifest["run_key"],
        "dag_run_id": manifest["dag_run_id"],
        "frozen_at": manifest["frozen_at"],
        "status": NO_VALID_ROWS,
        "totals": totals_of(files),
        "days": {},
        "files": files,
        "ignored_keys": manifest["ignored_keys"],
    }
    write_report(s3, config, manifest["run_key"], report)
    delete_run_objects(s3, config, manifest["run_key"])
    raise _no_valid_rows(files, manifest["run_key"], config)


def _no_valid_rows(files: list[dict[str, object]], run_key: str, config: PipelineConfig) -> BadInputError:
    reasons = "; ".join(f"{file['key']}: {file['reason']}" for file in files[:5] if file["reason"])
    return BadInputError(
        f"None of {len(files)} stream files has a valid row ({reasons}). They were moved to "
        f"s3://{config.archive_bucket}/quarantine/{run_key}/ with the reasons; KPIs are unchanged. "
        "Correct the files and upload them again; a new run takes them."
    )
