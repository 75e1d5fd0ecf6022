"""`make redrive`: bring the files and rows that a run quarantined in local AWS back, corrected."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from include.commands import local_aws
from include.commands.environment import LOCAL_DIR
from include.commands.errors import UserError


def redrive(run_key: str, aws_port: int, console: Console) -> int:
    """Fetch the rejected files and rows of the run, or put the corrected ones back.

    Without a run key, list the runs that rejected something.

    Raises:
        UserError: local AWS is not running, or its quarantine has nothing of this run.
    """
    local_aws.require_running(aws_port)
    resources, _ = local_aws.connect(aws_port, "redrive", console)

    import boto3

    from include import redrive

    s3, archive_bucket = boto3.client("s3"), resources["ARCHIVE_BUCKET_NAME"]
    options = local_aws.make_options(aws_port)
    if not run_key:
        _list_runs(redrive.list_runs(s3, archive_bucket), options, console)
        return 0
    folder = LOCAL_DIR / "quarantine" / run_key
    actions = set()
    try:
        for outcome in redrive.redrive(s3, archive_bucket, resources["SOURCE_BUCKET_NAME"], run_key, folder):
            actions.add(outcome.action)
            console.print(Text(outcome.text), soft_wrap=True)
    except redrive.RedriveError as error:
        raise UserError(str(error)) from error
    if redrive.Action.FETCHED in actions:
        console.print(Text(f"Fetched into {folder}. {redrive.HOW_TO_CORRECT}"), soft_wrap=True)
    if redrive.Action.PUT_BACK in actions:
        console.print(f"make run{options} takes the corrected files and adds no sample data.")
    return 0


def _list_runs(runs: dict[str, tuple[int, int]], options: str, console: Console) -> None:
    if not runs:
        console.print("Nothing is in quarantine.")
    for run_key, (quarantined, put_back) in runs.items():
        console.print(
            Text(f"make redrive RUN={run_key}{options}   {quarantined} in quarantine, {put_back} put back"),
            soft_wrap=True,
        )
