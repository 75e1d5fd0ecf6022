"""Task prepare_reprocessing: the input of a run that computes given days again, without new files."""

from __future__ import annotations

import logging
import re
from datetime import UTC, date, datetime

from helpers.aws import s3_client
from helpers.config import SONG_COLUMNS, SONGS_PREFIX, USER_COLUMNS, USERS_PREFIX, PipelineConfig
from helpers.errors import BadInputError
from helpers.list_stream_files import list_catalog
from helpers.manifest import InputManifest, ListensSummary, Manifest, MovedInput, read_report
from helpers.move_files_to_intermediate_bucket import move_catalogs
from helpers.run_key import history_prefix, input_prefix, manifest_key, run_key_of
from helpers.s3_objects import list_sizes, read_json, write_json, write_json_once

logger = logging.getLogger(__name__)


def prepare_reprocessing(dag_run_id: str, reprocess_dates: str, config: PipelineConfig) -> MovedInput:
    """Freeze and move today's catalogs for a run that computes `reprocess_dates` again from the history.

    Raises:
        BadInputError: a date is none or has no history, or a catalog cannot be used; nothing is touched.
    """
    s3 = s3_client()
    run_key = run_key_of(dag_run_id)
    if read_report(s3, config, run_key):
        logger.info("Run %s is complete; nothing to do", run_key)
        return MovedInput(run_key=run_key, rows=0)
    dates = parse_dates(reprocess_dates)
    without = [day for day in dates if not list_sizes(s3, config.archive_bucket, history_prefix(day))]
    if without:
        raise BadInputError(
            f"No listens of {', '.join(without)} are in s3://{config.archive_bucket}/listens/, so there is "
            "nothing to compute again. Trigger a new run with days that have listens."
        )
    manifest: Manifest | None = read_json(s3, config.archive_bucket, manifest_key(run_key))
    if manifest is None:
        frozen = Manifest(
            run_key=run_key,
            dag_run_id=dag_run_id,
            frozen_at=datetime.now(UTC).isoformat(),
            streams=[],
            songs=list_catalog(s3, config, SONGS_PREFIX, SONG_COLUMNS),
            users=list_catalog(s3, config, USERS_PREFIX, USER_COLUMNS),
            ignored_keys=[],
            parts=[],
        )
        manifest = write_json_once(s3, config.archive_bucket, manifest_key(run_key), frozen)
    songs, users = move_catalogs(s3, config, manifest)
    input_manifest = InputManifest(
        run_key=run_key,
        frozen_at=manifest["frozen_at"],
        listens=ListensSummary(objects=[], rows=0),
        songs=songs,
        users=users,
        outcomes=[],
        reprocess_dates=dates,
    )
    write_json(s3, config.intermediate_bucket, f"{input_prefix(run_key)}manifest.json", input_manifest)
    logger.info("Days to compute again: %s", ", ".join(dates))
    return MovedInput(run_key=run_key, rows=0)


def parse_dates(text: str) -> list[str]:
    """Return the distinct days of a list such as `2024-06-25, 2024-06-26`, in order.

    Raises:
        BadInputError: an element is not a calendar day in the form YYYY-MM-DD.
    """
    days = set()
    for element in re.split(r"[,\s]+", text.strip(", \t\n")):
        try:
            day = date.fromisoformat(element).isoformat()
            if day != element:
                raise ValueError(element)
            days.add(day)
        except ValueError as error:
            raise BadInputError(
                f"reprocess_dates has {element!r}, which is not a day in the form YYYY-MM-DD; "
                "give days such as 2024-06-25,2024-06-26."
            ) from error
    return sorted(days)
