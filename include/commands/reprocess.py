"""`make reprocess`: reprocesses days from the history, with the current catalogs and without new files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from rich.text import Text

from include.commands import delivery
from include.commands.errors import UserError
from include.commands.local_aws import LocalAws
from include.commands.run import run_dag
from include.commands.scheduler import refuse_settings_of_running_airflow

_EXAMPLE = "For example: make reprocess DATES=2024-06-25,2024-06-26"


def reprocess(dates: str, data: Path | None, aws: LocalAws, accept_checks: bool = False) -> int:
    """Run the DAG for the days and print report and KPIs.

    Args:
        dates: listen days such as `2024-06-25,2024-06-26`.
        data: folder with `songs/` or `users/` or both, which is uploaded first.
        aws: local AWS, which must be running.
        accept_checks: whether the data is accepted even if checks fail.

    Returns:
        0 if the run succeeded, 1 if it failed.

    Raises:
        UserError: the days, the folder, local AWS or the DAG cannot be used.
    """
    days = parse_days(dates)
    catalogs = delivery.read_catalogs(data) if data else None
    aws.require_running()
    refuse_settings_of_running_airflow(aws.port)
    aws.connect("reprocess")
    _require_listens(days, aws)
    if catalogs:
        delivery.deliver(catalogs, aws.resources["SOURCE_BUCKET_NAME"], aws.console)
        if (catalogs.root / delivery.STREAMS).exists():
            aws.console.print(Text("Its streams/ was not uploaded: days are reprocessed without new files."))
        delivery.show_other_files(catalogs, aws.resources["SOURCE_BUCKET_NAME"], aws.console)
    conf = {"reprocess_dates": ",".join(days), "accept_checks": accept_checks}
    return run_dag(conf, aws)


def parse_days(dates: str) -> list[str]:
    """Return the distinct days of a list such as `2024-06-25, 2024-06-26`, in order.

    Raises:
        UserError: the list is empty, or an element is not a day in the form YYYY-MM-DD.
    """
    days = dates.replace(",", " ").split()
    if not days:
        raise UserError(f"DATES must name the days to reprocess. {_EXAMPLE}")
    for day in days:
        if not _is_day(day):
            raise UserError(f"DATES has {day!r}, which is not a day in the form YYYY-MM-DD. {_EXAMPLE}")
    return sorted(set(days))


def _is_day(text: str) -> bool:
    try:
        # Python also accepts other forms of ISO 8601, such as 20240625.
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _require_listens(days: Sequence[str], aws: LocalAws) -> None:
    import boto3

    from include.commands import results

    known = results.list_days(boto3.client("s3"), aws.resources["ARCHIVE_BUCKET_NAME"])
    if not known:
        raise UserError(
            "No run has accepted a listen yet, so there is nothing to reprocess. "
            f"First: make run{aws.make_options}"
        )
    if unknown := [day for day in days if day not in known]:
        raise UserError(
            f"There are no listens of {', '.join(unknown)}, so there is nothing to reprocess. "
            f"Listens are of {known[0]} to {known[-1]}. Nothing was uploaded."
        )
