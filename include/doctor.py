"""`make doctor`: what is missing or wrong in settings, AWS resources and rights, and what to do about it.

It takes the variables of the environment and, where they are not set, those of .env; without either it looks
at the local AWS of `make run`. AWS is asked as Airflow does: as the role of the connection aws_default where
AIRFLOW_CONN_AWS_DEFAULT names one, else as whoever runs it. The rights are those of that identity.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from include.aws_checks import Doctor
from include.findings import Finding, Findings, fine, unreachable, wrong
from include.local_airflow.environment import DAGS_DIR, ROOT, aws_environment, endpoint_url

DOTENV = ROOT / ".env"
BUCKET_VARIABLES = ("SOURCE_BUCKET_NAME", "INTERMEDIATE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME")
PRESETS = ("@once", "@continuous", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")


def read_settings(aws_port: int) -> str:
    """Complete this process's environment from .env or from local AWS; return where the settings come from.

    Raises:
        EndpointConnectionError: there are no settings, and no local AWS on the port either.
    """
    if DOTENV.is_file():
        lines = [line for line in DOTENV.read_text().splitlines() if not line.lstrip().startswith("#")]
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        for name, value in values.items():
            os.environ.setdefault(name.strip(), value.strip())
        return "the environment and .env"
    if any(name in os.environ for name in BUCKET_VARIABLES):
        return "the environment"
    # Needs moto, which Airflow's image has not.
    from include.local_aws.provision import STACK_NAME

    os.environ.update(aws_environment({}, aws_port))
    stacks = boto3.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"]
    os.environ.update({output["Description"]: output["OutputValue"] for output in stacks[0]["Outputs"]})
    return f"the stack in local AWS at {endpoint_url(aws_port)}, since there is no .env"


def examine() -> Findings:
    """Look at the settings and then at what they name."""
    # Importing Airflow, where the settings' errors come from, makes a home for it.
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("AIRFLOW_HOME", home)
        sys.path.insert(0, str(DAGS_DIR))
        from airflow.exceptions import AirflowException

        from helpers.config import PipelineConfig, pipeline_schedule
        from helpers.errors import ConfigurationError

        # Airflow sends to the terminal what it and the AWS clients log.
        for name in ("botocore", "airflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            config = PipelineConfig.from_env()
        except ConfigurationError as error:
            yield wrong(f"settings: {error}", "correct it; nothing else was looked at")
            return
        yield _check_schedule(pipeline_schedule())
        try:
            session = session_of_connection()
        except ClientError as error:
            yield wrong(
                f"role of AIRFLOW_CONN_AWS_DEFAULT: cannot be assumed: {error}",
                "run this as the AirflowPrincipalArn of the stack, and compare role_arn and ExternalId with "
                "the stack's output; AIRFLOW_CONN_AWS_DEFAULT= make doctor looks with your own rights",
            )
            return
        except BotoCoreError as error:
            yield unreachable(error)
            return
        except (AirflowException, ValueError) as error:
            yield wrong(
                f"AIRFLOW_CONN_AWS_DEFAULT: {error}", "take the line from the stack's outputs (README)"
            )
            return
        yield from Doctor(config, session).findings()


def session_of_connection() -> boto3.Session:
    """Return the session by which Airflow's tasks ask AWS: that of the environment's connection.

    Raises:
        ClientError: the connection's role cannot be assumed.
        AirflowException: the connection cannot be read; also as a ValueError.
    """
    if not os.environ.get("AIRFLOW_CONN_AWS_DEFAULT"):
        return boto3.Session()
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from airflow.secrets.environment_variables import EnvironmentVariablesBackend

    from helpers.config import AWS_CONN_ID

    # The hook would pass over a connection that cannot be read.
    EnvironmentVariablesBackend().get_connection(AWS_CONN_ID)
    session: boto3.Session = AwsBaseHook(aws_conn_id=AWS_CONN_ID).get_session()
    return session


def _check_schedule(schedule: str) -> Finding:
    from croniter import croniter  # type: ignore[import-untyped]

    if schedule in PRESETS or croniter.is_valid(schedule):
        return fine(f"settings; schedule {schedule}")
    return wrong(f"PIPELINE_SCHEDULE is {schedule!r}", "set a preset such as @daily, or a cron expression")


def main(arguments: list[str] | None = None) -> int:
    """Print what was found; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m include.doctor", description=__doc__.partition("\n")[0])
    parser.add_argument("--aws-port", type=int, default=5555, help="port of local AWS (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        print(f"Settings are those of {read_settings(options.aws_port)}.")
    except (BotoCoreError, ClientError):
        print(
            f"wrong        no settings: there is no .env, and no local AWS on port {options.aws_port}\n"
            "             -> cp .env.example .env and fill it in, or make run"
        )
        return 1
    problems = warnings = 0
    for finding in examine():
        problems += finding.state == "wrong"
        warnings += finding.state == "warning"
        print(f"{finding.state:<11}  {finding.what}")
        if finding.remedy:
            print(f"{'':<11}  -> {finding.remedy}")
    if problems:
        print(f"{problems} to mend.")
    else:
        print("Runs can succeed; mind the warning." if warnings else "All that could be looked at is fine.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
