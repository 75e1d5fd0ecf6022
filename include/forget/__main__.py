"""Command line: ``python -m include.forget USER``, with the pipeline's variables and your AWS credentials."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.contract.wording import counted
from include.aws_command import run_on_aws
from include.commands.environment import DAG_ID
from include.commands.terminal import ask
from include.forget.command import forget, read_ids
from include.forget.erasure import Places

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

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
    parser.add_argument(
        "--refuse", action="store_true", help="from now on, refuse files that bring these users back"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(argv)

    def work(s3: S3Client, dynamodb: DynamoDBClient, *names: str) -> None:
        ids = read_ids(options.users, options.file)
        days = forget(
            s3,
            dynamodb,
            Places(*names),
            ids,
            lambda question: options.yes or ask(question),
            print,
            options.refuse,
        )
        if days:
            conf = json.dumps({"reprocess_dates": ",".join(days)})
            print(f"The KPIs of {counted(len(days), 'day')} still count them until these are reprocessed:")
            print(f"  airflow dags trigger {DAG_ID} --conf '{conf}'")

    return run_on_aws(VARIABLES, "FORGET_USERS_POLICY_ARN", work)


if __name__ == "__main__":
    sys.exit(main())
