"""The run's manifest, its frozen list of files, and the report that marks the run as complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from helpers.config import PipelineConfig
from helpers.errors import ReconciliationError
from helpers.run_key import input_prefix, manifest_key, report_key
from helpers.s3_objects import ObjectVersion, read_json

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Manifest(TypedDict):
    """What a run works on; `parts` holds indexes into `streams`."""

    run_key: str
    dag_run_id: str
    frozen_at: str
    streams: list[ObjectVersion]
    songs: list[ObjectVersion]
    users: list[ObjectVersion]
    ignored_keys: list[str]
    parts: list[list[int]]


class Part(TypedDict):
    """A reference to one part of the run's stream files."""

    run_key: str
    part: int


class FileOutcome(TypedDict):
    """What became of one stream file; rows = valid + rejected."""

    index: int
    rows: int
    valid: int
    rejected: int
    rejected_by_reason: dict[str, int]
    extra_columns: list[str]
    # archive: taken over; quarantine: rejected as a whole; left: changed since listed, for the next run
    disposition: str
    reason: str | None
    sample_of_rejected_rows: NotRequired[list[dict[str, Any]]]


class CatalogSummary(TypedDict):
    """One catalog as the run used it; `notes` counts what had to be passed over."""

    objects: list[str]
    rows: int
    files: list[str]
    notes: dict[str, int]


class ListensSummary(TypedDict):
    """The validated listens that the Glue job is to read."""

    objects: list[str]
    rows: int


class InputManifest(TypedDict):
    """Written last under the run's input prefix: says what the Glue job reads and where each file goes.

    `reprocess_dates` are days to compute without new listens.
    """

    run_key: str
    frozen_at: str
    listens: ListensSummary
    songs: CatalogSummary
    users: CatalogSummary
    outcomes: list[FileOutcome]
    reprocess_dates: list[str]


class MovedInput(TypedDict):
    """A reference to the run's input, with the number of validated listens in it."""

    run_key: str
    rows: int


def read_input_manifest(s3: S3Client, config: PipelineConfig, run_key: str) -> InputManifest:
    """Return the manifest of the run's moved input.

    Raises:
        ReconciliationError: there is none.
    """
    key = f"{input_prefix(run_key)}manifest.json"
    manifest: InputManifest | None = read_json(s3, config.intermediate_bucket, key)
    if manifest is None:
        raise ReconciliationError(
            f"The input manifest s3://{config.intermediate_bucket}/{key} does not exist; "
            "clear the task before trigger_glue_job and what follows it."
        )
    return manifest


def read_manifest(s3: S3Client, config: PipelineConfig, run_key: str) -> Manifest:
    """Return the run's manifest.

    Raises:
        ReconciliationError: there is none.
    """
    key = manifest_key(run_key)
    manifest: Manifest | None = read_json(s3, config.archive_bucket, key)
    if manifest is None:
        raise ReconciliationError(
            f"The run's manifest s3://{config.archive_bucket}/{key} does not exist; "
            "clear the task list_stream_files and what follows it."
        )
    return manifest


def read_report(s3: S3Client, config: PipelineConfig, run_key: str) -> dict[str, Any] | None:
    """Return the run's report, or None while the run is not complete."""
    report: dict[str, Any] | None = read_json(s3, config.archive_bucket, report_key(run_key))
    return report
