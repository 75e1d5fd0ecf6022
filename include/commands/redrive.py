"""`make redrive`: bring the files and rows that a run quarantined in local AWS back, corrected."""

from __future__ import annotations

from rich.text import Text

from include.commands.environment import LOCAL_DIR
from include.commands.errors import UserError
from include.commands.local_aws import LocalAws


def redrive(run_key: str, aws: LocalAws) -> int:
    """Fetch the rejected files and rows of the run, or put the corrected ones back.

    Without a run key, list the runs that rejected something.

    Raises:
        UserError: local AWS is not running, or its quarantine has nothing of this run.
    """
    aws.require_running()
    aws.connect("redrive")

    import boto3

    from include import redrive

    s3, archive_bucket = boto3.client("s3"), aws.resources["ARCHIVE_BUCKET_NAME"]
    if not run_key:
        _list_runs(redrive.list_runs(s3, archive_bucket), aws)
        return 0
    folder = LOCAL_DIR / "quarantine" / run_key
    actions = set()
    try:
        for outcome in redrive.redrive(
            s3, archive_bucket, aws.resources["SOURCE_BUCKET_NAME"], run_key, folder
        ):
            actions.add(outcome.action)
            aws.console.print(Text(outcome.text), soft_wrap=True)
    except redrive.RedriveError as error:
        raise UserError(str(error)) from error
    if redrive.Action.FETCHED in actions:
        aws.console.print(Text(f"Fetched into {folder}. {redrive.HOW_TO_CORRECT}"), soft_wrap=True)
    if redrive.Action.PUT_BACK in actions:
        aws.console.print(f"make run{aws.make_options} takes the corrected files and adds no sample data.")
    return 0


def _list_runs(runs: dict[str, tuple[int, int]], aws: LocalAws) -> None:
    if not runs:
        aws.console.print("Nothing is in quarantine.")
    for run_key, (quarantined, put_back) in runs.items():
        command = f"make redrive RUN={run_key}{aws.make_options}"
        line = f"{command}   {quarantined} in quarantine, {put_back} put back"
        aws.console.print(Text(line), soft_wrap=True)
