"""Task prepare_reprocessing: prepares the input of a run that reprocesses given days without new files."""

from __future__ import annotations

import logging
import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from helpers.aws.s3_objects import list_sizes
from helpers.contract.keys import history_prefix, run_key_of
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
    dates = parse_dates(reprocess_dates)
    without = [day for day in dates if not list_sizes(s3, config.archive_bucket, history_prefix(day))]
    if without:
        raise ReprocessDatesError(
            f"No listens of {', '.join(without)} are in s3://{config.archive_bucket}/listens/, so there is "
            "nothing to reprocess. Trigger a new run with days that have listens."
        )
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


def parse_dates(text: str) -> list[str]:
    """Return the distinct days of a list such as `2024-06-25, 2024-06-26`, in order.

    Raises:
        ReprocessDatesError: an element is not a calendar day in the form YYYY-MM-DD.
    """
    days = set()
    for element in re.split(r"[,\s]+", text.strip(", \t\n")):
        try:
            day = date.fromisoformat(element).isoformat()
            if day != element:
                raise ValueError(element)
            days.add(day)
        except ValueError as error:
            raise ReprocessDatesError(
                f"reprocess_dates has {element!r}, which is not a day in the form YYYY-MM-DD; "
                "give days such as 2024-06-25,2024-06-26."
            ) from error
    return sorted(days)
