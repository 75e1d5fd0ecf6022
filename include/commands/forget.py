"""`make forget`: remove users from everything that local AWS holds, and reprocess their days."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from include.commands import local_aws
from include.commands.errors import UserError
from include.commands.reprocess import reprocess_in_batches
from include.commands.terminal import ask


def forget(users: str, file: Path | None, aws_port: int, console: Console, yes: bool = False) -> int:
    """Forget the users and reprocess the days of their listens; return the exit status.

    Args:
        users: user ids, separated by commas.
        file: file with further ids, one per line.
        aws_port: port of local AWS, which must be running.
        console: prints the progress.
        yes: whether to remove without asking.

    Raises:
        UserError: local AWS is not running, no user is named, or the user does not agree.
    """
    from include.forget.__main__ import VARIABLES
    from include.forget.command import forget as forget_users
    from include.forget.command import read_ids
    from include.forget.erasure import ForgetError, Places

    local_aws.require_running(aws_port)
    resources, _ = local_aws.connect(aws_port, "forget", console)

    import boto3

    try:
        days = forget_users(
            boto3.client("s3"),
            boto3.client("dynamodb"),
            Places(*(resources[name] for name in VARIABLES)),
            read_ids([users], file),
            lambda question: yes or ask(question),
            lambda line: console.print(Text(line), soft_wrap=True),
        )
    except ForgetError as error:
        raise UserError(str(error).replace("--yes answers it", "YES=yes answers it")) from error
    if not days:
        return 0
    console.print(Text(f"Reprocessing {', '.join(days)}, whose KPIs still count them"), soft_wrap=True)
    return reprocess_in_batches(days, aws_port, resources, console)
