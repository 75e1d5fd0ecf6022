"""Task prepare_reprocessing: prepares the input of a run that reprocesses given days without new files."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from helpers.aws.history import list_days
from helpers.contract.days import DaysError, UnknownDaysError, parse_days
from helpers.contract.keys import HISTORY_PREFIX, run_key_of
from helpers.contract.records import InputManifest, ListensSummary, Manifest, MovedInput
from helpers.contract.settings import PipelineConfig
from helpers.errors import ReprocessDatesError
from helpers.ingest.catalogs import move_catalogs
from helpers.ingest.id_forms import IdSample
from helpers.run.checks import check_catalogs
from helpers.run.enforce_checks import enforce_checks
from helpers.run.source_files import list_catalogs
from helpers.run.store import RunStore, read_last_report

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)


def prepare_reprocessing(
    dag_run_id: str, reprocess_dates: str, config: PipelineConfig, accept_checks: bool = False
) -> MovedInput:
    """Freeze and move the current catalogs for a run that reprocesses `reprocess_dates` from the history.

    Raises:
        BadInputError: a date is invalid or has no history, a catalog is unusable, or a check of the catalogs
            stops the run; nothing is changed.
    """
    run = RunStore(run_key_of(dag_run_id), config)
    s3, run_key = run.s3, run.run_key
    if run.report_if_complete():
        return MovedInput(run_key=run_key, rows=0)
    dates = _days_with_history(s3, config.archive_bucket, reprocess_dates)
    manifest = run.manifest_made_once(lambda: freeze_catalogs(s3, dag_run_id, config))
    songs, users = move_catalogs(s3, config, manifest, IdSample("track", ()), IdSample("user", ()))
    last_report = read_last_report(s3, config)
    checks = check_catalogs(manifest, {"songs": songs, "users": users}, config, last_report)
    input_manifest = InputManifest(
        run_key=run_key,
        frozen_at=manifest["frozen_at"],
        listens=ListensSummary(objects=[], rows=0),
        songs=songs,
        users=users,
        outcomes=[],
        reprocess_dates=dates,
        checks=enforce_checks(run, checks, accept_checks),
        accept_checks=accept_checks,
        newest_day_before=None,
        frozen_at_before=None,
    )
    run.write_input_manifest(input_manifest)
    logger.info("Days to reprocess: %s", ", ".join(dates))
    return MovedInput(run_key=run_key, rows=0)


def freeze_catalogs(s3: S3Client, dag_run_id: str, config: PipelineConfig) -> Manifest:
    """List the current versions of the catalogs as a manifest without stream files."""
    songs, users = list_catalogs(s3, config)
    return Manifest(
        run_key=run_key_of(dag_run_id),
        dag_run_id=dag_run_id,
        frozen_at=datetime.now(UTC).isoformat(),
        streams=[],
        songs=songs,
        users=users,
        ignored_keys=[],
        parts=[],
    )


def _days_with_history(s3: S3Client, archive_bucket: str, reprocess_dates: str) -> list[str]:
    """Return the named days in order; a range means those of its days that have history.

    Raises:
        ReprocessDatesError: the text does not name days, or a day has no history, or all days of ranges.
    """
    try:
        return parse_days(reprocess_dates).among(list_days(s3, archive_bucket))
    except DaysError as error:
        raise ReprocessDatesError(
            f"reprocess_dates {error}; give days or ranges such as 2024-06-25,2024-07-01..2024-07-31."
        ) from error
    except UnknownDaysError as error:
        raise ReprocessDatesError(
            f"No listens of {error} are in s3://{archive_bucket}/{HISTORY_PREFIX}, so there is nothing to "
            "reprocess. Trigger a new run with days that have listens."
        ) from error
