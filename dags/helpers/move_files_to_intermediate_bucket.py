"""Task move_files_to_intermediate_bucket: the barrier between ingest and the Glue job."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from airflow.exceptions import AirflowException, AirflowSkipException

from helpers.aws.s3_objects import ACCESS_DENIED, copy_object, list_sizes
from helpers.contract.keys import input_prefix, quarantine_prefix, run_key_of
from helpers.contract.records import (
    ALL_LEFT,
    NO_VALID_ROWS,
    FileOutcome,
    InputManifest,
    ListensSummary,
    Manifest,
    MovedInput,
    RunReport,
    ValidatedPart,
)
from helpers.contract.rejections import rejections, why_rejected
from helpers.contract.settings import PipelineConfig
from helpers.contract.wording import counted
from helpers.errors import CatalogError, HandoverError, NoValidRowsError, StreamsDeniedError
from helpers.ingest.catalogs import move_catalogs
from helpers.ingest.id_forms import IdSample
from helpers.run.checks import check_catalogs, check_files
from helpers.run.dispositions import carry_out_dispositions
from helpers.run.enforce_checks import enforce_checks
from helpers.run.report import build_report, write_report
from helpers.run.store import RunStore, read_last_report

logger = logging.getLogger(__name__)

_PARTS_SAMPLED = 10


def move_files_to_intermediate_bucket(
    dag_run_id: str, validated: list[ValidatedPart], config: PipelineConfig, accept_checks: bool = False
) -> MovedInput:
    """Check the parts and the catalogs, then move them to the Glue job's input prefix, the manifest last.

    `accept_checks` records checks that would stop the run and lets the run continue. Files with only a header
    continue like any other, because an hour without listens is normal.

    Raises:
        BadInputError: a catalog is unusable, a check stops the run, or the role may read no file (nothing is
            changed); or no file has a valid row (all files with rows are moved to quarantine first).
        HandoverError: the parts do not add up to the run's manifest.
        AirflowSkipException: every file stays in the source because it changed after it was listed, or cannot
            be read.
    """
    run = RunStore(run_key_of(dag_run_id), config)
    if report := run.report_if_complete():
        if report["status"] in (NO_VALID_ROWS, ALL_LEFT):
            run.delete_temporary_objects()
            raise _why_ended(report, config)
        return MovedInput(run_key=run.run_key, rows=report["totals"]["valid"])
    manifest = run.manifest()
    outcomes = collect_outcomes(run, manifest, validated)
    _require_readable_files(config, manifest, outcomes)
    rows = sum(outcome["valid"] for outcome in outcomes)
    ids = [IdSample(kind, sampled) for kind, sampled in _sampled_ids(run, validated).items()]
    try:
        songs, users = move_catalogs(run.s3, config, manifest, *ids)
    except CatalogError as error:
        # Who corrects the catalogs should learn of the other broken files now, not in the next run.
        also = rejections(
            (manifest["streams"][outcome["index"]]["key"], outcome)
            for outcome in outcomes
            if outcome["disposition"] != "left"
        )
        if not also:
            raise
        raise CatalogError(f"{error} Stream files to correct as well: {also}.") from error
    if not rows:
        _end_unless_headers_only(run, manifest, outcomes)
    last_report = read_last_report(run.s3, config)
    checks = [
        *check_files(manifest, outcomes, config, last_report),
        *check_catalogs(manifest, {"songs": songs, "users": users}, config, last_report),
        *(sample.check() for sample in ids),
    ]
    input_manifest = InputManifest(
        run_key=run.run_key,
        frozen_at=manifest["frozen_at"],
        listens=ListensSummary(objects=_move_listens(run, validated), rows=rows),
        songs=songs,
        users=users,
        outcomes=outcomes,
        reprocess_dates=[],
        checks=enforce_checks(run, checks, accept_checks),
        accept_checks=accept_checks,
        newest_day_before=max(last_report["days"], default=None) if last_report else None,
        frozen_at_before=last_report["frozen_at"] if last_report else None,
    )
    run.write_input_manifest(input_manifest)
    logger.info(
        "Moved %s, %s and %s",
        counted(rows, "listen"),
        counted(songs["rows"], "song"),
        counted(users["rows"], "user"),
    )
    return MovedInput(run_key=run.run_key, rows=rows)


def _sampled_ids(run: RunStore, validated: Sequence[ValidatedPart]) -> dict[str, set[str]]:
    sampled: dict[str, set[str]] = {"track": set(), "user": set()}
    for part in [part for part in validated if part["valid"]][:_PARTS_SAMPLED]:
        ids = run.read_part("ids", part["part"]) or {}
        for kind, of_kind in sampled.items():
            of_kind.update(ids.get(f"{kind}_id", []))
    return sampled


def collect_outcomes(run: RunStore, manifest: Manifest, validated: list[ValidatedPart]) -> list[FileOutcome]:
    """Return the outcome of every listed file, in the manifest's order.

    Raises:
        HandoverError: a file is missing or appears twice, or its rows do not add up.
    """
    outcomes: list[FileOutcome] = []
    for part in validated:
        outcomes += run.read_part("validated", part["part"]) or []
    outcomes.sort(key=lambda outcome: outcome["index"])
    problem = _mismatch(manifest, validated, outcomes)
    if problem:
        raise HandoverError(
            f"{problem}. Nothing was moved; clear list_stream_files and its downstream tasks."
        )
    return outcomes


def _mismatch(manifest: Manifest, validated: list[ValidatedPart], outcomes: list[FileOutcome]) -> str | None:
    if [outcome["index"] for outcome in outcomes] != list(range(len(manifest["streams"]))):
        return f"The parts have {len(outcomes)} files, the run's manifest has {len(manifest['streams'])}"
    for outcome in outcomes:
        key = manifest["streams"][outcome["index"]]["key"]
        if outcome["rows"] != outcome["valid"] + outcome["rejected"]:
            counts = f"{outcome['valid']} valid + {outcome['rejected']} rejected"
            return f"{key}: {outcome['rows']} rows, but {counts}"
        lines = outcome["lines"]
        if (
            lines
            and lines["total"] != lines["header"] + lines["blank"] + outcome["rows"] + lines["continuation"]
        ):
            return f"{key}: {outcome['rows']} rows do not account for its lines, {lines}"
    counted_rows = sum(part["valid"] for part in validated)
    written_rows = sum(outcome["valid"] for outcome in outcomes)
    if counted_rows != written_rows:
        return f"The tasks counted {counted_rows} valid rows, their objects have {written_rows}"
    return None


def _move_listens(run: RunStore, validated: list[ValidatedPart]) -> list[str]:
    bucket, prefix = run.config.intermediate_bucket, input_prefix(run.run_key)
    objects: list[str] = []
    for part in validated:
        if part["valid"]:
            name = f"listens/part-{part['part']:05d}.parquet"
            source = run.part_key("validated", part["part"], "parquet")
            copy_object(run.s3, {"Bucket": bucket, "Key": source}, (bucket, prefix + name))
            objects.append(name)
    sizes = list_sizes(run.s3, bucket, prefix)
    missing = [name for name in objects if not sizes.get(prefix + name)]
    if missing:
        raise HandoverError(f"Copies are missing under {prefix}: {missing}")
    return objects


def _require_readable_files(config: PipelineConfig, manifest: Manifest, outcomes: list[FileOutcome]) -> None:
    denied = [outcome for outcome in outcomes if (outcome["reason"] or "").startswith(ACCESS_DENIED)]
    if denied and all(outcome["disposition"] == "left" for outcome in outcomes):
        first = manifest["streams"][denied[0]["index"]]["key"]
        raise StreamsDeniedError(
            f"No stream file could be read: access to {len(denied):,} of {counted(len(outcomes), 'file')} is "
            f"denied, first s3://{config.source_bucket}/{first}. Nothing was moved. Check the role of the "
            "connection aws_default, the files' ACL and their KMS key, then clear "
            "extract_and_combine_streams and its downstream tasks."
        )


def _end_unless_headers_only(run: RunStore, manifest: Manifest, outcomes: list[FileOutcome]) -> None:
    outcomes = [
        outcome | {"disposition": "quarantine", "reason": f"no valid row: {why_rejected(outcome)}"}
        if outcome["disposition"] == "archive" and outcome["rows"]
        else outcome
        for outcome in outcomes
    ]
    dispositions = {outcome["disposition"] for outcome in outcomes}
    if dispositions <= {"archive", "left"} and "archive" in dispositions:
        return
    destinations = carry_out_dispositions(run, manifest, outcomes)
    status = NO_VALID_ROWS if "quarantine" in dispositions else ALL_LEFT
    report = build_report(manifest, outcomes, destinations, status)
    write_report(run, report)
    run.delete_temporary_objects()
    raise _why_ended(report, run.config)


def _why_ended(report: RunReport, config: PipelineConfig) -> AirflowException:
    files = report["files"]
    reasons = rejections((file["key"], file) for file in files)
    if report["status"] == ALL_LEFT:
        return AirflowSkipException(
            f"No stream file was taken, {counted(len(files), 'file')} left in s3://{config.source_bucket} "
            f"({reasons})."
        )
    none = "The only stream file has no" if len(files) == 1 else f"None of {len(files):,} stream files has a"
    quarantine = f"s3://{config.archive_bucket}/{quarantine_prefix(report['run_key'])}"
    return NoValidRowsError(
        f"{none} valid row: {reasons}. Correct the files and upload them again; a new run takes them. "
        f"{counted(report['totals']['quarantined'], 'file')} went to {quarantine} with the reasons; KPIs are "
        "unchanged."
    )
