"""Callback of a DAG run that ended: leaves a note on the run that says what it did.

Airflow runs it beside the tasks, where its database can be written, and logs what goes wrong in it: a note
can neither fail a run nor hold it up.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState

if TYPE_CHECKING:
    from airflow.utils.context import Context

logger = logging.getLogger(__name__)

HEADING = "**Run report**"
# Of Airflow's database.
MAX_NOTE = 1000
MAX_REASONS = 5


def note_run(context: Context) -> None:
    """Put a note on the DAG run of the context, unless a person has put one there."""
    dag_run: Any = context["dag_run"]
    failed = [
        task_instance.task_id
        for task_instance in dag_run.get_task_instances()
        if task_instance.state == TaskInstanceState.FAILED
    ]
    note = _with_report(dag_run.run_id, list(dict.fromkeys(failed)))
    with create_session() as session:
        # Anew: whatever used a session meanwhile has detached the one of the context.
        (stored,) = DagRun.find(dag_id=dag_run.dag_id, run_id=dag_run.run_id, session=session)
        if stored.note and not stored.note.startswith(HEADING):
            logger.info("Run %s has a note of its own, which stays", dag_run.run_id)
        else:
            stored.note = note


def run_note(report: dict[str, Any] | None, failed: list[str], links: list[str]) -> str:
    """Return the note's text, Markdown.

    Args:
        report: the run report; None when there is none.
        failed: tasks that failed.
        links: in Markdown, to what the run left behind.
    """
    lines = [HEADING]
    if failed:
        without_kpis = (report or {}).get("status") == "no_valid_rows"
        lines.append(
            f"Red: {', '.join(failed)}. The end of the task's log says why and what to do"
            + (
                ": no row was valid, so the files are in quarantine."
                if without_kpis
                else "; mostly: mend the cause, then clear the task and what follows it. Nothing is archived "
                "before the KPIs are stored."
            )
        )
    if report:
        lines += _lines_of_report(report)
    elif not failed:
        lines.append("Nothing to do: no stream file came in time. The next run takes what comes.")
    note = "\n\n".join(lines)[:MAX_NOTE]
    for link in links:
        # A link that is cut off leads nowhere.
        if len(note) + 2 + len(link) <= MAX_NOTE:
            note += f"\n\n{link}"
    return note


def _with_report(dag_run_id: str, failed: list[str]) -> str:
    from helpers.aws import s3_client
    from helpers.config import PipelineConfig
    from helpers.manifest import read_report
    from helpers.run_key import report_key, run_key_of
    from helpers.run_links import object_url, prefix_url

    try:
        config, s3, run_key = PipelineConfig.from_env(), s3_client(), run_key_of(dag_run_id)
        report = read_report(s3, config, run_key)
    except Exception as error:
        logger.warning("The report of run %s could not be read", dag_run_id, exc_info=True)
        return f"{HEADING}\n\nThe run report could not be read: {error}"[:MAX_NOTE]
    links = []
    if report:
        address = object_url(s3, config.archive_bucket, report_key(run_key))
        links.append(f"[The whole report]({address})")
        if report["totals"]["rejected"] or report["totals"]["quarantined"]:
            address = prefix_url(s3, config.archive_bucket, f"quarantine/{run_key}/")
            links.append(f"[What was put into quarantine]({address})")
    return run_note(report, failed, links)


def _lines_of_report(report: dict[str, Any]) -> list[str]:
    totals, days = report["totals"], sorted(report["days"])
    lines = []
    if report.get("reprocess_dates"):
        lines.append("Days computed again from the history, without new files.")
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
        lines.append(f"Valid rows: {totals['new']:,} new + {totals['repeated']:,} repeated")
    if days:
        span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        listens = sum(counts["total"] for counts in report["days"].values())
        lines.append(
            f"Days: {len(days):,} ({span}), {listens:,} listens; KPI items: {report['kpi_items_written']:,} "
            f"written, {report['kpi_items_deleted']:,} deleted"
        )
    return lines
