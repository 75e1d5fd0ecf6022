"""`make forget`: remove users from everything that local AWS holds, and reprocess their days."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from include.commands.errors import UserError
from include.commands.local_aws import LocalAws
from include.commands.reprocess import reprocess_in_batches
from include.commands.terminal import ask


def forget(users: str, file: Path | None, aws: LocalAws, yes: bool = False, refuse: bool = False) -> int:
    """Forget the users and reprocess the days of their listens; return the exit status.

    Args:
        users: user ids, separated by commas.
        file: file with further ids, one per line.
        aws: local AWS, which must be running.
        yes: whether to remove without asking.
        refuse: whether later files with listens of the users are refused.

    Raises:
        UserError: local AWS is not running, no user is named, or the user does not agree.
    """
    from include.forget.__main__ import VARIABLES
    from include.forget.command import forget as forget_users
    from include.forget.command import read_ids
    from include.forget.erasure import ForgetError, Places

    aws.require_running()
    aws.connect("forget")

    import boto3

    try:
        days = forget_users(
            boto3.client("s3"),
            boto3.client("dynamodb"),
            Places(*(aws.resources[name] for name in VARIABLES)),
            read_ids([users], file),
            lambda question: yes or ask(question),
            lambda line: aws.console.print(Text(line), soft_wrap=True),
            refuse,
        )
    except ForgetError as error:
        raise UserError(str(error).replace("--yes answers it", "YES=yes answers it")) from error
    if not days:
        return 0
    aws.console.print(Text(f"Reprocessing {', '.join(days)}, whose KPIs still count them"), soft_wrap=True)
    return reprocess_in_batches(days, aws)
