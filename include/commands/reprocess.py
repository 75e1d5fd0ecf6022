"""`make reprocess`: reprocesses days from the history, with the current catalogs and without new files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from helpers.contract.days import DaysError, NamedDays, UnknownDaysError, parse_days, shortened_days
from helpers.contract.wording import counted
from include.commands import delivery
from include.commands.errors import UserError
from include.commands.local_aws import LocalAws
from include.commands.run import run_dag
from include.commands.scheduler import refuse_settings_of_running_airflow

# A failure, or the two hours of a Glue job, then concern a month and not a year.
MAX_DAYS_PER_RUN = 31


def reprocess(dates: str, data: Path | None, aws: LocalAws, accept_checks: bool = False) -> int:
    """Run the DAG for the days, in batches if they are many, and print reports and KPIs.

    Args:
        dates: listen days such as `2024-06-25,2024-07-01..2024-07-31`.
        data: folder with `songs/` or `users/` or both, which is uploaded first.
        aws: local AWS, which must be running.
        accept_checks: whether the data is accepted even if checks fail.

    Returns:
        0 if the runs succeeded, 1 if one failed; no later one is started then.

    Raises:
        UserError: the days, the folder, local AWS or the DAG cannot be used.
    """
    named = named_days(dates, "make reprocess")
    catalogs = delivery.read_catalogs(data) if data else None
    aws.require_running()
    refuse_settings_of_running_airflow(aws.port)
    aws.connect("reprocess")
    days = _days_with_listens(named, aws)
    if catalogs:
        delivery.deliver(catalogs, aws.resources["SOURCE_BUCKET_NAME"], aws.console)
        if (catalogs.root / delivery.STREAMS).exists():
            aws.console.print(Text("Its streams/ was not uploaded: days are reprocessed without new files."))
        delivery.show_other_files(catalogs, aws.resources["SOURCE_BUCKET_NAME"], aws.console)
    return reprocess_in_batches(days, aws, accept_checks)


def reprocess_in_batches(days: Sequence[str], aws: LocalAws, accept_checks: bool = False) -> int:
    """Run the DAG for up to `MAX_DAYS_PER_RUN` of the days at a time, in order; return the exit status."""
    batches = [days[start : start + MAX_DAYS_PER_RUN] for start in range(0, len(days), MAX_DAYS_PER_RUN)]
    for number, batch in enumerate(batches, 1):
        if len(batches) > 1:
            within = f"{batch[0]} to {batch[-1]}, {counted(len(batch), 'day')}"
            aws.console.print(Text(f"\nRun {number} of {len(batches)}: {within}", style="bold"))
        conf = {"reprocess_dates": ",".join(batch), "accept_checks": accept_checks}
        status = run_dag(conf, aws, is_last=number == len(batches))
        if status:
            if len(batches) > 1:
                left = shortened_days(days[MAX_DAYS_PER_RUN * (number - 1) :])
                command = f"make reprocess DATES={left}{aws.make_options}"
                aws.console.print(Text(f"For the days that are left: {command}"), soft_wrap=True)
            return status
    return 0


def named_days(dates: str, command: str) -> NamedDays:
    """Read the variable DATES of the make command.

    Raises:
        UserError: it does not name days.
    """
    example = f"For example: {command} DATES=2024-06-25,2024-07-01..2024-07-31"
    if not dates.strip(", \t\n"):
        raise UserError(f"DATES must name days. {example}")
    try:
        return parse_days(dates)
    except DaysError as error:
        raise UserError(f"DATES {error}. {example}") from error


def _days_with_listens(named: NamedDays, aws: LocalAws) -> list[str]:
    import boto3

    from helpers.aws.history import list_days

    known = list_days(boto3.client("s3"), aws.resources["ARCHIVE_BUCKET_NAME"])
    if not known:
        raise UserError(
            "No run has accepted a listen yet, so there is nothing to reprocess. "
            f"First: make run{aws.make_options}"
        )
    try:
        return named.among(known)
    except UnknownDaysError as error:
        raise UserError(
            f"There are no listens of {error}, so there is nothing to reprocess. "
            f"Listens are of {known[0]} to {known[-1]}. Nothing was uploaded."
        ) from error
