"""Task store_kpis_in_dynamodb: adds the run's listens to the history and writes the days' KPI items."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import TYPE_CHECKING

from helpers.aws.clients import MAX_CONNECTIONS, dynamodb_client
from helpers.aws.kpi_table import DayTotals, delete_day, read_totals, write_day
from helpers.aws.s3_objects import copy_object, delete_objects
from helpers.contract.keys import output_prefix, run_key_of, summary_key
from helpers.contract.names import ALL_GENRES
from helpers.contract.records import DayCounts, GlueSummary, Stamp, StoredKpis
from helpers.contract.settings import PipelineConfig
from helpers.contract.wording import counted
from helpers.errors import GlueOutputError
from helpers.run.checks import DAYS_COMPARED, WEEKS_COMPARED, check_days, check_kpis
from helpers.run.enforce_checks import enforce_checks
from helpers.run.erasures import erased_listens, refuse_if_users_were_forgotten
from helpers.run.glue_output import (
    RUN_GLUE_AGAIN,
    check_summary,
    history_copies,
    history_problem,
    read_kpi_records,
    read_summary,
)
from helpers.run.kpi_items import day_versions, to_items
from helpers.run.sql_files import keep_catalogs, to_parquet, write_kpis
from helpers.run.store import RunStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

logger = logging.getLogger(__name__)


def store_kpis_in_dynamodb(dag_run_id: str, config: PipelineConfig) -> StoredKpis:
    """Check the Glue job's output, add the new listens to the history, write the KPI items.

    Raises:
        BadInputError: a check of the KPIs stops the run, or an item exceeds DynamoDB's size limit; nothing
            was written.
        ReconciliationError: counts or objects disagree, an item cannot be stored, another run interfered, or
            users were forgotten meanwhile; the message says what to do.
    """
    run, dynamodb = RunStore(run_key_of(dag_run_id), config), dynamodb_client()
    if report := run.report_if_complete():
        days = report["days"]
        versions = {day: version for day in days if (version := days[day]["version"]) is not None}
        return StoredKpis(
            run_key=run.run_key,
            items_written=report["kpi_items_written"],
            items_deleted=report["kpi_items_deleted"],
            versions=versions,
            checks=[],
        )
    summary = read_summary(run)
    moved = run.input_manifest()
    check_summary(run, summary, moved["listens"]["rows"])
    versions = day_versions(summary)
    records = read_kpi_records(run, summary)
    try:
        items = to_items(records, summary, moved["frozen_at"], versions)
        files = {day: to_parquet(day, items[day]) for day in items}
        _check_day_totals(run, dynamodb, summary, versions)
    except GlueOutputError:
        # The output's sizes and counts are consistent, so a cleared trigger_glue_job would adopt it again.
        # Without its summary it cannot.
        delete_objects(run.s3, config.intermediate_bucket, [summary_key(run.run_key)])
        raise
    # The message of a stopped run also lists earlier findings, such as ids in another form.
    noticed = moved["checks"]
    checks = [*noticed, *check_kpis(records, config)]
    checks = enforce_checks(run, checks, moved["accept_checks"])[len(noticed) :]
    if not moved["reprocess_dates"]:
        totals = {day: counts["total"] for day, counts in summary["days"].items()}
        usual = _same_weekdays(dynamodb, config.kpi_table, sorted(totals)[-DAYS_COMPARED:])
        checks += check_days(totals, usual, moved["frozen_at"], moved["newest_day_before"])
    refuse_if_users_were_forgotten(run, moved["frozen_at"])
    add_to_history(run, summary)
    written = deleted = 0
    for day in sorted(items):
        day_written, day_deleted = write_day(dynamodb, config.kpi_table, day, items[day])
        if day_written:
            write_kpis(run, day, files[day], versions[day], moved["frozen_at"])
        written, deleted = written + day_written, deleted + day_deleted
        logger.info("%s: %s written, %d deleted", day, counted(day_written, "item"), day_deleted)
    # The history of such a day has objects, but no listens, because all its users were forgotten.
    for day in sorted(summary["days"].keys() - items):
        stamp = Stamp(
            run_key=run.run_key,
            computed_at=summary["computed_at"],
            version=versions[day],
            catalogs_frozen_at=moved["frozen_at"],
        )
        write_kpis(run, day, to_parquet(day, []), stamp["version"], stamp["catalogs_frozen_at"])
        deleted += delete_day(dynamodb, config.kpi_table, day, stamp)
    if written:
        keep_catalogs(run, moved)
    return StoredKpis(
        run_key=run.run_key, items_written=written, items_deleted=deleted, versions=versions, checks=checks
    )


def add_to_history(run: RunStore, summary: GlueSummary) -> None:
    """Copy the run's new listens to the history and check that no other run changed it meanwhile.

    Raises:
        GlueOutputError: the history is not exactly what Glue read plus the run's own objects.
    """

    def copy(name: str, key: str) -> None:
        copy_object(
            run.s3,
            {"Bucket": run.config.intermediate_bucket, "Key": output_prefix(run.run_key) + name},
            (run.config.archive_bucket, key),
        )

    copies = history_copies(summary)
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        # The list raises the first error of a copy.
        list(pool.map(copy, copies.keys(), copies.values()))
    problem = history_problem(run, summary, added=True)
    if problem:
        raise GlueOutputError(f"Run {run.run_key}: {problem}. {RUN_GLUE_AGAIN}")


def _check_day_totals(
    run: RunStore, dynamodb: DynamoDBClient, summary: GlueSummary, versions: dict[str, int]
) -> None:
    """Check each day: if the table reflects the history that Glue read, old total + added = new total.

    In any other case neither the total nor the number of objects is smaller than before, because the history
    only grows. Listens that were erased, because their users were forgotten, are not missing.
    """
    for day, counts in summary["days"].items():
        stored = read_totals(dynamodb, run.config.kpi_table, day, consistent=True)
        if stored is None or _has_grown(counts, versions[day], stored):
            continue
        erased = erased_listens(run, day, stored.frozen_at)
        if _has_grown(counts, versions[day], stored._replace(listens=stored.listens - erased)):
            continue
        is_reflected = stored.version == len(counts["history_objects"])
        if not is_reflected and history_problem(run, summary, added=False):
            # Another run changed the history after Glue had read it; `add_to_history` says so.
            continue
        without = f", of which {erased} were erased since" if erased else ""
        raise GlueOutputError(
            f"{day}: the table has {stored.listens} listens{without} of {stored.version} history objects and "
            f"the run adds {counts['added']}, but the Glue job counts {counts['total']} of {versions[day]}. "
            f"The table is unchanged. {RUN_GLUE_AGAIN} If the message comes again, the item ({day}, "
            f"{ALL_GENRES}) was changed by hand, or the history lost listens: restore it or put archived "
            "files back (docs/recovery.md), or delete the item first to accept its loss."
        )


def _has_grown(counts: DayCounts, version: int, stored: DayTotals) -> bool:
    """Return whether the day as Glue counts it, with that version, follows from the stored one."""
    if stored.version == len(counts["history_objects"]):
        return stored.listens + counts["added"] == counts["total"]
    return stored.listens <= counts["total"] and stored.version <= version


def _same_weekdays(dynamodb: DynamoDBClient, table: str, days: Iterable[str]) -> dict[str, list[int]]:
    """Return, for each day, the table's listen counts of the same weekday in earlier weeks."""
    usual: dict[str, list[int]] = {}
    for day in days:
        usual[day] = []
        for weeks in range(1, WEEKS_COMPARED + 1):
            before = (date.fromisoformat(day) - timedelta(weeks=weeks)).isoformat()
            if stored := read_totals(dynamodb, table, before):
                usual[day].append(stored.listens)
    return usual
