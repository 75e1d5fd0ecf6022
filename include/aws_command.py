"""Runs a command that changes data on AWS: with the resources of the environment, and with remedies."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from botocore.exceptions import BotoCoreError, ClientError

from include.commands.errors import UserError


def run_on_aws(variables: Sequence[str], policy: str, work: Callable[..., None]) -> int:
    """Do the work of a command; print why it failed; return the exit status.

    Args:
        variables: environment variables that name the pipeline's resources.
        policy: output of the stack that names a policy with all rights for the work.
        work: takes the clients of S3 and DynamoDB, and the values of the variables. It may be repeated.
    """
    if missing := [name for name in variables if not os.environ.get(name)]:
        print(f"Error: set {', '.join(missing)} as in .env.example", file=sys.stderr)
        return 1
    import boto3

    try:
        work(boto3.client("s3"), boto3.client("dynamodb"), *(os.environ[name] for name in variables))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(
            f"Error: {error}. The stack's output {policy} is a policy with all rights for this. Correct "
            "that, then give the same command again: it continues where it stopped.",
            file=sys.stderr,
        )
        return 1
    return 0
