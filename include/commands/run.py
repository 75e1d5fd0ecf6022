"""`make run`: delivers files, runs the pipeline once and shows the results."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from helpers.contract.rejections import rejections
from include.commands import delivery, tables
from include.commands.airflow_version import AIRFLOW
from include.commands.command_settings import require_valid
from include.commands.environment import (
    DAG_ID,
    LOCAL_DIR,
    LOGS_DIR,
    airflow_environment,
    replace_environment,
)
from include.commands.local_aws import LocalAws
from include.commands.scheduler import airflow_on, refuse_settings_of_running_airflow
from include.commands.terminal import output_to, spinner

if TYPE_CHECKING:
    from include.commands.pipeline_run import Outcome
    from include.commands.scheduler import Airflow

STATE_STYLES = {"success": "green", "failed": "red", "retry": "yellow", "upstream failed": "red"}


def run(data: Path | None, aws: LocalAws, accept_checks: bool = False) -> int:
    """Deliver the folder (sample data if None), run the DAG to its end and print report and KPIs.

    Sample data is not added to waiting stream files, such as those of `make redrive`, or to other catalogs. A
    folder with its own catalogs is not added to sample data.

    Returns:
        0 if the run succeeded or had nothing to do, 1 if it failed.

    Raises:
        UserError: the folder, the port or the DAG cannot be used, or local AWS holds the sample.
    """
    folder = delivery.read_delivery(data) if data else None
    refuse_settings_of_running_airflow(aws.port)
    aws.connect("run")
    bucket = aws.resources["SOURCE_BUCKET_NAME"]
    if folder:
        delivery.require_apart_from_sample(folder, aws)
        delivery.deliver(folder, bucket, aws.console)
        delivery.show_other_files(folder, bucket, aws.console)
    else:
        delivery.deliver_sample_unless_others(bucket, aws.console)
    return run_dag({"accept_checks": accept_checks}, aws)


def run_dag(conf: Mapping[str, Any], aws: LocalAws, is_last: bool = True) -> int:
    """Run the DAG to its end with these parameters and print report and KPIs; return the exit status.

    If `make up` runs on the same local AWS, its Airflow runs the DAG: a second one could write the same days.

    Args:
        conf: the run's parameters, as in the trigger form of the UI.
        aws: local AWS, with its resources.
        is_last: whether the command ends with this run, so that its next steps are shown if it succeeds.
    """
    bucket, console = aws.resources["SOURCE_BUCKET_NAME"], aws.console
    log = LOGS_DIR / f"run-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
    if airflow := airflow_on(aws.port):
        outcome, log_of_run = _run_under_scheduler(airflow, conf, aws)
    else:
        console.print(Text(f"Airflow runs the DAG; its log is {log}"), soft_wrap=True)
        replace_environment(
            airflow_environment(os.environ, aws.port, aws.resources, Path(_airflow_home().name))
            # The shell's values may be meant for a scheduler.
            | {"SENSOR_TIMEOUT_MINUTES": "0", "PIPELINE_SCHEDULE": ""}
        )
        with output_to(log):
            require_valid()
        outcome, log_of_run = _run_with_progress(conf, log, console), str(log)
    # Airflow's logging is set up by now, so the AWS clients' messages go to the log as well.
    with output_to(log):
        report = _show_results(outcome, aws)
        waiting, ignored = delivery.waiting_line(bucket), delivery.ignored_line(bucket)
        day = _day_to_look_at(report, aws)
    if outcome.state == "failed" or (outcome.state == "success" and report is None):
        console.print()
        for line in failure_lines(outcome, report):
            console.print(Text.assemble(("Failed: ", "bold red"), line), soft_wrap=True)
        _show_quarantine(report, aws)
        console.print(
            Text(
                "\nEach command starts a new run: where a message says to clear a task or to trigger a run, "
                "fix the cause and give the command again; for accept_checks, with ACCEPT_CHECKS=yes. "
                f"{waiting} A corrected file replaces a waiting one of the same name.\n"
                f"The whole log: {log_of_run}"
            ),
            soft_wrap=True,
        )
        console.print(Text(f"\n{next_steps(aws, day)}"), soft_wrap=True)
        return 1
    if outcome.state == "skipped":
        _show_why_skipped(report, bucket, ignored, console)
    else:
        console.print(Text(f"\nThe run {outcome.run_id} ended well.", style="green"))
    _show_quarantine(report, aws)
    if is_last:
        console.print(Text(f"\n{next_steps(aws, day)}"), soft_wrap=True)
    return 0


@cache
def _airflow_home() -> tempfile.TemporaryDirectory[str]:
    """Return this process's Airflow home, which exists until the process ends.

    Airflow reads its settings when it is imported, so all runs of the process have the same home.
    """
    return tempfile.TemporaryDirectory(dir=LOCAL_DIR, prefix="airflow-run-")


def _run_with_progress(conf: Mapping[str, Any], log: Path, console: Console) -> Outcome:
    with output_to(log), spinner(console, "Airflow is starting") as shown:
        from include.commands.pipeline_run import run_pipeline

        return run_pipeline(
            lambda label: shown.update(text=Text(label)), partial(_show_end_of_task, console), conf
        )


def _run_under_scheduler(airflow: Airflow, conf: Mapping[str, Any], aws: LocalAws) -> tuple[Outcome, str]:
    """Run the DAG under the Airflow of `make up`; return how it ended and its address in the UI."""
    from include.commands.scheduled_run import RunOfScheduler

    def on_way_made(run_id: str) -> None:
        line = f"The run {run_id} waited for files. It ends as skipped, so that this one can begin."
        aws.console.print(Text(line), soft_wrap=True)

    run = RunOfScheduler(airflow, conf)
    aws.console.print(Text(f"Airflow of make up runs the DAG: {run.url}"), soft_wrap=True)
    with spinner(aws.console, "The run begins") as shown:
        outcome = run.follow(
            lambda label: shown.update(text=Text(label)), partial(_show_end_of_task, aws.console), on_way_made
        )
    if outcome.errors:
        import boto3

        from include.commands import results

        reason = results.read_reason(boto3.client("s3"), aws.resources["ARCHIVE_BUCKET_NAME"], outcome.run_id)
        outcome = replace(outcome, errors=dict.fromkeys(outcome.errors, reason or "see its log in the UI"))
    return outcome, run.url


def _show_end_of_task(console: Console, label: str, state: str, seconds: float | None) -> None:
    line = Text(f"  {label:<44} ").append(state, STATE_STYLES.get(state, ""))
    if seconds is not None:
        line.append(f"{seconds:{22 - len(state)}.1f} s")
    console.print(line)


def _show_results(outcome: Outcome, aws: LocalAws) -> dict[str, Any] | None:
    import boto3

    from include.commands import results

    report = results.read_report(boto3.client("s3"), aws.resources["ARCHIVE_BUCKET_NAME"], outcome.run_id)
    if report is None:
        return None
    aws.console.print(tables.report_tables(report))
    days = tables.shown_days(report)
    if days and outcome.state == "success":
        table = boto3.resource("dynamodb").Table(aws.resources["KPI_TABLE_NAME"])
        items = {day: results.read_day(table, day) for day in days}
        aws.console.print(tables.kpi_tables(items, len(report["days"]) - len(days)))
    return report


def _show_why_skipped(report: Mapping[str, Any] | None, bucket: str, ignored: str, console: Console) -> None:
    if report is None:
        why = (
            f"there was nothing to do. Stream files are .csv or .csv.gz and come to s3://{bucket}/streams/. "
            f"Put some into the streams/ folder of your DATA and run again. {ignored}"
        )
    else:
        why = f"every stream file was left in s3://{bucket}/streams/; the table above says why."
    console.print(Text.assemble(("\nSkipped: ", "yellow"), why.rstrip()), soft_wrap=True)


def failure_lines(outcome: Outcome, report: Mapping[str, Any] | None) -> list[str]:
    """Return a line for each error, with the tasks that it failed.

    Args:
        outcome: how the run ended.
        report: its report, whose tables were printed before and need no repetition; None without one.
    """
    printed = rejections((file["key"], file) for file in report["files"]) if report else ""
    tasks_by_error: dict[str, list[str]] = {}
    for task, error in outcome.errors.items():
        short = error.replace(f": {printed}.", " (the reasons are above).") if printed else error
        tasks_by_error.setdefault(short, []).append(task)
    if not tasks_by_error:
        tasks_by_error["the run ended without a report"] = [DAG_ID]
    return [f"{', '.join(tasks)}: {error}" for error, tasks in tasks_by_error.items()]


def _day_to_look_at(report: Mapping[str, Any] | None, aws: LocalAws) -> str | None:
    """Return the newest day with KPIs, preferably one of this run; None if the table is empty."""
    from include.kpis.table import open_table, read_bounds

    bounds = read_bounds(open_table(aws.resources["KPI_TABLE_NAME"]))
    if bounds is None:
        return None
    return max(report["days"], default=str(bounds[1])) if report else str(bounds[1])


def _show_quarantine(report: Mapping[str, Any] | None, aws: LocalAws) -> None:
    quarantined = tables.quarantine_line(report) if report else None
    if report and quarantined:
        command = f"make redrive RUN={report['run_key']}{aws.make_options}"
        aws.console.print(
            Text(f"\n{quarantined}. To correct it and bring it back: {command}"), soft_wrap=True
        )


def next_steps(aws: LocalAws, day: str | None) -> str:
    """Return the next commands; those with queries can be pasted.

    Args:
        aws: local AWS, with its resources.
        day: a day that has KPIs; None if there is none.
    """
    options = aws.make_options
    commands = {
        f"make dashboard{options}": "shows KPIs and runs in the browser",
        f"make up{options}": "starts the same pipeline under a scheduler, with Airflow's UI",
        "make down": "stops everything; what local AWS holds is in memory and gone then",
        f"make run DATA=folder{options}": "takes your own streams/ songs/ users/ CSV files; "
        "after the sample, make down first",
    }
    lines = ["Local AWS keeps running. Next:"]
    width = max(map(len, commands))
    lines += [f"  {command:<{width}}  {meaning}" for command, meaning in commands.items()]
    queries = [f"  {AIRFLOW.environment}/bin/python -m include.kpis day {day}"] * bool(day)
    if shutil.which("aws"):
        queries.append(f"  aws s3 ls --recursive s3://{aws.resources['ARCHIVE_BUCKET_NAME']}/")
    if queries:
        lines += ["To look into it from this terminal:", aws.client_settings, *queries]
    return "\n".join(lines)
