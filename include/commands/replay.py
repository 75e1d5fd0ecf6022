"""`make replay`: put files that local AWS archived back into the source."""

from __future__ import annotations

from rich.text import Text

from helpers.contract.wording import counted
from include.commands.errors import UserError
from include.commands.local_aws import LocalAws
from include.commands.reprocess import named_days
from include.commands.terminal import ask


def replay(dates: str, run_key: str, aws: LocalAws, yes: bool = False) -> int:
    """Put the archived files of listen days, or of a run, back into the source; return the exit status.

    Args:
        dates: listen days such as `2024-06-25,2024-07-01..2024-07-31`.
        run_key: a run, instead of days.
        aws: local AWS, which must be running.
        yes: whether to copy without asking.

    Raises:
        UserError: both or none are given, local AWS is not running, or a file cannot be put back.
    """
    if dates and run_key:
        raise UserError("Name the days, DATES=2024-06-25, or a run, RUN=run_key, and not both.")
    chosen = run_key or named_days(dates, "make replay")
    aws.require_running()
    aws.connect("replay")

    import boto3

    from include.replay import VARIABLES, Places, ReplayError
    from include.replay import replay as put_back

    try:
        files = put_back(
            boto3.client("s3"),
            boto3.client("dynamodb"),
            Places(*(aws.resources[name] for name in VARIABLES)),
            chosen,
            lambda question: yes or ask(question),
            lambda line: aws.console.print(Text(line), soft_wrap=True),
        )
    except ReplayError as error:
        raise UserError(str(error).replace("--yes answers it", "YES=yes answers it")) from error
    command = f"make run{aws.make_options}"
    aws.console.print(
        Text(f"{command} takes {counted(files, 'file')} and adds no sample data."), soft_wrap=True
    )
    return 0
