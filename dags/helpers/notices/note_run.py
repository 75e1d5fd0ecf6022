"""Writes the note of a DAG run: the result, in the task that ends the run.

The task leaves the text in XCom, and the plugin `run_note_plugin` puts it on the run, because tasks have no
access to Airflow's database. A note can neither fail a task nor change its outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowSkipException

from helpers.contract.glue_cost import cost_in_words
from helpers.contract.records import NO_VALID_ROWS
from helpers.contract.wording import shortened
from helpers.notices.sentences import as_code, ignored_sentence, waiting_sentence
from helpers.run.checks import notable
from run_note_plugin import HEADING, NOT_ARCHIVED, NOTHING_TO_DO, XCOM_KEY, failed_tasks

if TYPE_CHECKING:
    from airflow.utils.context import Context
    from mypy_boto3_s3 import S3Client

    from helpers.contract.records import Check, RunEnding, RunReport
    from helpers.contract.settings import PipelineConfig

logger = logging.getLogger(__name__)

# A limit of Airflow's database.
MAX_NOTE = 1000
MAX_REASONS = 5
# Longer ones would leave no room for the link to the quarantine.
MAX_CHECK = 200
MAX_REASON = 500


def note_run(context: Context) -> None:
    """Leave the note of the run that this task ends: it failed, was skipped, or wrote the run report.

    A failure to do so is only logged.
    """
    task_instance: Any = context["task_instance"]
    error = context.get("exception")
    failed = [] if error is None or isinstance(error, AirflowSkipException) else [task_instance.task_id]
    try:
        note = _with_report(str(context["run_id"]), failed, context["dag_run"].start_date)
        task_instance.xcom_push(key=XCOM_KEY, value=note)
    except Exception:
        logger.warning("Run %s will have no note of this task", context["run_id"], exc_info=True)


def run_note(
    report: RunReport | None,
    failed: list[str],
    links: list[str],
    more: Sequence[str] = (),
    stopped: Sequence[Check] = (),
    ending: RunEnding | None = None,
) -> str:
    """Return the note's text, Markdown: the reason first, then what to do, then what the run did.

    Args:
        report: the run report; None when there is none.
        failed: tasks that failed.
        links: in Markdown, to pages about the run.
        stopped: the checks, if they stopped the run.
        more: further paragraphs, in Markdown.
        ending: why a task failed, if that was recorded.
    """
    lines = []
    if ending and ending["task_id"] in failed:
        reason = " ".join(ending["reason"].split())
        lines.append(f"Failed: {as_code(shortened(reason, MAX_REASON))}")
        lines.append(f"Next: {ending['next_step']}")
    else:
        lines += _lines_of_checks(stopped if stopped else (report.get("checks", []) if report else []))
    if failed:
        without_kpis = report is not None and report.get("status") == NO_VALID_ROWS
        lines.append(
            failed_tasks(failed)
            + (": no row was valid, so the files are in quarantine." if without_kpis else NOT_ARCHIVED)
        )
    if report:
        lines += _lines_of_report(report)
    elif not failed:
        lines.append(NOTHING_TO_DO)
    lines += more
    note = shortened(f"{HEADING}: " + "\n\n".join(lines), MAX_NOTE)
    for link in links:
        # A truncated link would not work, so only whole links are added.
        if len(note) + 2 + len(link) <= MAX_NOTE:
            note += f"\n\n{link}"
    return note


def _with_report(dag_run_id: str, failed: list[str], started_at: datetime | None) -> str:
    from helpers.contract.keys import run_key_of
    from helpers.contract.settings import PipelineConfig
    from helpers.run.source_files import list_new_files
    from helpers.run.store import RunStore

    try:
        config, run_key = PipelineConfig.from_env(), run_key_of(dag_run_id)
        run = RunStore(run_key, config)
        s3, report = run.s3, run.report()
        stopped = None if report else run.stopped_checks()
        ending = run.ending() if failed else None
        new, ignored = list_new_files(s3, config, report["files"] if report else ())
    except Exception as error:
        logger.warning("The report of run %s could not be read", dag_run_id, exc_info=True)
        return f"{HEADING}: The run report could not be read: {error}"[:MAX_NOTE]
    links = _links(s3, config, run_key, report)
    remarks = _remarks(report, failed, started_at, new, ignored)
    return run_note(report, failed, links, remarks, stopped or (), ending)


def _links(s3: S3Client, config: PipelineConfig, run_key: str, report: RunReport | None) -> list[str]:
    from helpers.contract.keys import report_key
    from helpers.notices.run_links import dashboard_page, quarantine_page, report_page

    if page := dashboard_page(config, run_key):
        # It shows report and quarantine, and runs without a report too.
        return [f"[This run in the dashboard]({page})"]
    if report is None:
        return []
    page = report_page(s3, config, run_key)
    if page is None:
        return [f"The whole report: {as_code(f's3://{config.archive_bucket}/{report_key(run_key)}')}"]
    links = [f"[The whole report]({page})"]
    if report["totals"]["rejected"] or report["totals"]["quarantined"]:
        quarantine = quarantine_page(s3, config, run_key)
        links.insert(0, f"[Quarantined files and rows]({quarantine})")
    return links


def _remarks(
    report: RunReport | None,
    failed: list[str],
    started_at: datetime | None,
    new: list[str],
    ignored: list[str],
) -> list[str]:
    if report is None:
        return [] if failed else list(filter(None, [ignored_sentence(ignored)]))
    if report.get("reprocess_dates"):
        return []
    repeated = started_at is not None and started_at > datetime.fromisoformat(report["completed_at"])
    left = [
        f"{as_code(file['key'])} {file['reason']}"
        for file in report["files"]
        if file["disposition"] == "left"
    ]
    remarks = [
        "The run was complete before it was cleared or repeated, so nothing was done again."
        if repeated
        else "",
        waiting_sentence(new),
        f"Left in streams/: {'; '.join(left[:MAX_REASONS])}" if left else "",
        ignored_sentence(report["ignored_keys"]),
    ]
    return list(filter(None, remarks))


def _lines_of_checks(checks: Sequence[Check]) -> list[str]:
    lines = [
        f"Check {check['verdict']}: {as_code(shortened(check['message'], MAX_CHECK))}"
        for check in notable(checks)
    ]
    return lines[:MAX_REASONS]


def _lines_of_report(report: RunReport) -> list[str]:
    totals, days = report["totals"], sorted(report["days"])
    lines = []
    if report.get("reprocess_dates"):
        lines.append("Days recomputed from the history, without new files.")
    else:
        rejected = ", ".join(
            f"{reason} {rows:,}" for reason, rows in list(totals["rejected_by_reason"].items())[:MAX_REASONS]
        )
        lines += [
            f"Files: {totals['files']:,} = {totals['archived']:,} archived + {totals['quarantined']:,} "
            "quarantined" + (f" + {totals['left']:,} left for the next run" if totals["left"] else ""),
            f"Rows: {totals['rows']:,} = {totals['valid']:,} valid + {totals['rejected']:,} rejected"
            + (f" ({rejected})" if rejected else ""),
        ]
    if "new" in totals and not report.get("reprocess_dates"):
        late = f" ({totals['late']:,} of them late)" if totals.get("late") else ""
        lines.append(f"Valid rows: {totals['new']:,} new{late} + {totals['repeated']:,} repeated")
    if days:
        span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        listens = sum(counts["total"] for counts in report["days"].values())
        lines.append(
            f"Days: {len(days):,} ({span}), {listens:,} listens; KPI items: {report['kpi_items_written']:,} "
            f"written, {report['kpi_items_deleted']:,} deleted"
        )
    if (glue := report.get("glue")) and glue["job_runs"]:
        lines.append(f"Glue: {cost_in_words(glue['dpu_seconds'], glue['estimated_usd'])}")
    return lines
