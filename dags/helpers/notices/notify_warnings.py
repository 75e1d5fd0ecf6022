"""Sends the warnings of a successful run to the SNS topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.contract.keys import report_key
from helpers.contract.records import RunReport
from helpers.contract.settings import PipelineConfig
from helpers.contract.wording import counted
from helpers.notices.notify_failure import MAX_SUBJECT, publish
from helpers.notices.run_links import report_page
from helpers.run.checks import notable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def notify_warnings(s3: S3Client, config: PipelineConfig, report: RunReport) -> None:
    """Publish one message about the checks that did not simply pass; do nothing if all passed."""
    if notable(report.get("checks", [])):
        run_key = report["run_key"]
        stored = f"s3://{config.archive_bucket}/{report_key(run_key)}"
        publish(*warning_message(report, report_page(s3, config, run_key) or stored))


def warning_message(report: RunReport, link: str) -> tuple[str, str]:
    """Return subject and text of the message; `link` is where to read the run report."""
    checks = notable(report["checks"])
    totals = report["totals"]
    if totals["quarantined"] or totals["rejected"]:
        next_step = f"make redrive RUN={report['run_key']} (without make: python -m include.redrive "
        next_step += f"{report['run_key']}) fetches the quarantined files and puts the corrected ones back."
    else:
        next_step = "Correct the faults named above. Later runs check their files and catalogs again."
    lines = (
        *(f"Check:  {check['verdict']}: {check['message']}" for check in checks),
        f"Next:   {next_step}",
        f"Run:    {report['dag_run_id']} ended well; its KPIs are stored.",
        f"Report: {link}",
    )
    count = counted(len(checks), "check")
    return f"music_streaming_pipeline: {count} to look at"[:MAX_SUBJECT], "\n".join(lines)
