"""`make run`: deliver files, run the pipeline once, show what came out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from include.local_airflow import delivery, local_aws, tables
from include.local_airflow.environment import (
    DAG_ID,
    LOCAL_DIR,
    LOGS_DIR,
    airflow_environment,
    aws_environment,
    endpoint_url,
    replace_environment,
)
from include.local_airflow.terminal import output_to, spinner

if TYPE_CHECKING:
    from include.local_airflow.pipeline_run import Outcome

STATE_STYLES = {"success": "green", "failed": "red", "retry": "yellow", "upstream failed": "red"}


def run(data: Path | None, aws_port: int, console: Console) -> int:
    """Deliver the folder (sample data if None), run the DAG to its end and print report and KPIs.

    Sample data does not join stream files that wait already, such as those that `make redrive` put back.

    Returns:
        0 when the run ended well or had nothing to do, 1 when it failed.

    Raises:
        UserError: the folder, the port or the DAG is not as it must be.
    """
    folder = delivery.read_delivery(data) if data else None
    environment = aws_environment(os.environ, aws_port)
    local_aws.ensure_running(aws_port, environment, "run", console)
    replace_environment(environment)
    resources = local_aws.deploy(aws_port, console)
    bucket = resources["SOURCE_BUCKET_NAME"]
    if folder:
        delivery.deliver(folder, bucket, console)
    else:
        delivery.deliver_sample_unless_others_wait(bucket, console)
    return run_dag({}, aws_port, resources, console)


def run_dag(conf: Mapping[str, str], aws_port: int, resources: Mapping[str, str], console: Console) -> int:
    """Run the DAG to its end with these parameters and print report and KPIs; return the exit status."""
    bucket = resources["SOURCE_BUCKET_NAME"]
    log = LOGS_DIR / f"run-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
    console.print(Text(f"Airflow runs the DAG; its log is {log}"), soft_wrap=True)
    with tempfile.TemporaryDirectory(dir=LOCAL_DIR, prefix="airflow-run-") as home:
        replace_environment(
            airflow_environment(os.environ, aws_port, resources, Path(home)) | {"SENSOR_TIMEOUT_MINUTES": "0"}
        )
        outcome = _run_with_progress(conf, log, console)
        # Airflow's logging is set up by now: what the AWS clients say goes to the log, too.
        with output_to(log):
            report = _show_results(outcome, resources, console)
            waiting = delivery.waiting_line(bucket)
    # What the user needs most comes last: the error, or how to go on.
    if outcome.state == "failed" or (outcome.state == "success" and report is None):
        _show_what_next(aws_port, resources, report, console)
        _show_failure(outcome, log, console)
        console.print(
            Text(
                "Each command runs the DAG anew: where a message says to clear a task or to trigger a run, "
                f"mend the cause and give the command again. {waiting}"
            ),
            soft_wrap=True,
        )
        return 1
    if outcome.state == "skipped":
        console.print(
            f"\n[yellow]Skipped:[/] there was nothing to do. Stream files are .csv or .csv.gz and come to "
            f"s3://{bucket}/streams/. Put some into the streams/ folder of your DATA and run again.",
            soft_wrap=True,
        )
    else:
        console.print(Text(f"\nThe run {outcome.run_id} ended well.", style="green"))
    _show_what_next(aws_port, resources, report, console)
    return 0


def _run_with_progress(conf: Mapping[str, str], log: Path, console: Console) -> Outcome:
    with output_to(log), spinner(console, "Airflow is starting") as shown:
        from include.local_airflow.pipeline_run import run_pipeline

        def on_start(label: str) -> None:
            shown.update(text=Text(label))

        def on_end(label: str, state: str, seconds: float | None) -> None:
            line = Text(f"  {label:<44} ").append(state, STATE_STYLES.get(state, ""))
            if seconds is not None:
                line.append(f"{seconds:{22 - len(state)}.1f} s")
            console.print(line)

        return run_pipeline(on_start, on_end, conf)


def _show_results(outcome: Outcome, resources: Mapping[str, str], console: Console) -> dict[str, Any] | None:
    import boto3

    from include.local_airflow import results

    report = results.read_report(boto3.client("s3"), resources["ARCHIVE_BUCKET_NAME"], outcome.run_id)
    if report is None:
        return None
    console.print(tables.report_tables(report))
    days = tables.shown_days(report)
    if days and outcome.state == "success":
        table = boto3.resource("dynamodb").Table(resources["KPI_TABLE_NAME"])
        items = {day: results.read_day(table, day) for day in days}
        console.print(tables.kpi_tables(items, len(report["days"]) - len(days)))
    return report


def _show_failure(outcome: Outcome, log: Path, console: Console) -> None:
    tasks_by_error: dict[str, list[str]] = {}
    for task, error in outcome.errors.items():
        tasks_by_error.setdefault(error, []).append(task)
    if not tasks_by_error:
        tasks_by_error["the run ended without a report of what it did"] = [DAG_ID]
    console.print()
    for error, tasks in tasks_by_error.items():
        console.print(Text.assemble(("Failed: ", "bold red"), f"{', '.join(tasks)}: {error}"), soft_wrap=True)
    console.print(Text(f"The whole log: {log}"), soft_wrap=True)


def _show_what_next(
    aws_port: int, resources: Mapping[str, str], report: Mapping[str, Any] | None, console: Console
) -> None:
    from include.sample_data import FIRST_DAY

    day = max(report["days"], default=FIRST_DAY) if report else FIRST_DAY
    port = local_aws.port_option(aws_port)
    quarantined = tables.quarantine_line(report) if report else None
    if report and quarantined:
        command = f"make redrive RUN={report['run_key']}{port}"
        console.print(Text(f"\n{quarantined}. To correct it and bring it back: {command}"), soft_wrap=True)
    console.print(
        Text(
            f"""
Local AWS keeps running. To look at it with any client:
{local_aws.client_settings(aws_port)}
  aws s3 ls --recursive s3://{resources["ARCHIVE_BUCKET_NAME"]}/
  aws --endpoint-url {endpoint_url(aws_port)} dynamodb query --table-name {resources["KPI_TABLE_NAME"]} \\
      --key-condition-expression '#d = :d' --expression-attribute-names '{{"#d": "date"}}' \\
      --expression-attribute-values '{{":d": {{"S": "{day}"}}}}'
Then:
  {"make run DATA=folder" + port:<36} adds your own streams/ songs/ users/ CSV files
  {"make up" + port:<36} starts the same pipeline under a scheduler, with Airflow's UI
  {"make down":<36} stops everything; what local AWS holds is in memory and gone then"""
        ),
        soft_wrap=True,
    )
