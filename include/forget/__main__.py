"""Command line: ``python -m include.forget USER``, with the pipeline's variables and your AWS credentials."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from helpers.contract.wording import counted
from include.commands.environment import DAG_ID
from include.commands.terminal import ask
from include.forget.command import forget, read_ids
from include.forget.erasure import ForgetError, Places

VARIABLES = ("SOURCE_BUCKET_NAME", "INTERMEDIATE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME", "KPI_TABLE_NAME")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m include.forget",
        description="Remove users' listens from every copy that the pipeline keeps.",
        allow_abbrev=False,
    )
    parser.add_argument("users", nargs="*", metavar="USER", help="user id, or several separated by commas")
    parser.add_argument(
        "--file", type=Path, help="file with one id per line, which keeps ids out of the shell's history"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(argv)
    if missing := [name for name in VARIABLES if not os.environ.get(name)]:
        print(f"Error: set {', '.join(missing)} as in .env.example", file=sys.stderr)
        return 1
    import boto3

    try:
        days = forget(
            boto3.client("s3"),
            boto3.client("dynamodb"),
            Places(*(os.environ[name] for name in VARIABLES)),
            read_ids(options.users, options.file),
            lambda question: options.yes or ask(question),
            print,
        )
    except ForgetError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(
            f"Error: {error}. The stack's output FORGET_USERS_POLICY_ARN is a policy with all rights for "
            "this. Correct that, then give the same command again: it continues where it stopped.",
            file=sys.stderr,
        )
        return 1
    if days:
        conf = json.dumps({"reprocess_dates": ",".join(days)})
        print(f"The KPIs of {counted(len(days), 'day')} still count them until these are reprocessed:")
        print(f"  airflow dags trigger {DAG_ID} --conf '{conf}'")
    return 0


if __name__ == "__main__":
    sys.exit(main())
