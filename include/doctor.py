"""`make doctor`: finds problems of settings, AWS resources and rights, with a remedy for each.

It reads the variables of the environment and, for those not set, of .env. Without either, it examines the
local AWS of `make run`. It calls AWS as Airflow does: with the role of the connection aws_default if
AIRFLOW_CONN_AWS_DEFAULT names one, otherwise as the current user. It reports the rights of that identity.
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
from include.commands.command_settings import is_schedule
from include.commands.environment import DAGS_DIR, ROOT, aws_environment, endpoint_url, read_port
from include.commands.errors import UserError
from include.findings import Finding, Findings, fine, unreachable, wrong

DOTENV = ROOT / ".env"
BUCKET_VARIABLES = ("SOURCE_BUCKET_NAME", "INTERMEDIATE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME")


def read_settings(aws_port: int) -> str:
    """Complete this process's environment from .env or local AWS; return the source of the settings.

    Raises:
        EndpointConnectionError: there are no settings, and local AWS does not answer on the port.
    """
    if DOTENV.is_file():
        lines = [line for line in DOTENV.read_text().splitlines() if not line.lstrip().startswith("#")]
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        for name, value in values.items():
            os.environ.setdefault(name.strip(), value.strip())
        return "the environment and .env"
    if any(name in os.environ for name in BUCKET_VARIABLES):
        return "the environment"
    # Imported late: it needs moto, which Airflow's image does not have.
    from include.local_aws.provision import STACK_NAME

    os.environ.update(aws_environment({}, aws_port))
    stacks = boto3.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"]
    os.environ.update({output["Description"]: output["OutputValue"] for output in stacks[0]["Outputs"]})
    return f"the stack in local AWS at {endpoint_url(aws_port)}, since there is no .env"


def examine() -> Findings:
    """Check the settings, then the resources that they name."""
    # The errors of the settings derive from Airflow's, whose import creates a home folder.
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("AIRFLOW_HOME", home)
        sys.path.insert(0, str(DAGS_DIR))
        from airflow.exceptions import AirflowException

        from helpers.contract.settings import PipelineConfig, pipeline_schedule
        from helpers.errors import ConfigurationError

        # Airflow would print its log and that of the AWS clients to the terminal.
        for name in ("botocore", "airflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            config = PipelineConfig.from_env()
        except ConfigurationError as error:
            yield wrong(f"settings: {error}", "correct it; nothing else was checked")
            return
        yield _check_schedule(pipeline_schedule())
        try:
            session = session_of_connection()
        except ClientError as error:
            yield wrong(
                f"role of AIRFLOW_CONN_AWS_DEFAULT: cannot be assumed: {error}",
                "run this as the AirflowPrincipalArn of the stack, and compare role_arn and ExternalId with "
                "the stack's output; AIRFLOW_CONN_AWS_DEFAULT= make doctor uses your own rights",
            )
            return
        except BotoCoreError as error:
            yield unreachable(error)
            return
        except (AirflowException, ValueError) as error:
            yield wrong(
                f"AIRFLOW_CONN_AWS_DEFAULT: {error}",
                "take the line from the stack's outputs (docs/deploy.md)",
            )
            return
        yield from Doctor(config, session).findings()


def session_of_connection() -> boto3.Session:
    """Return the session that Airflow's tasks use for AWS: that of the environment's connection.

    Raises:
        ClientError: the connection's role cannot be assumed.
        AirflowException: the connection cannot be read; some causes raise ValueError instead.
    """
    if not os.environ.get("AIRFLOW_CONN_AWS_DEFAULT"):
        return boto3.Session()
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from airflow.secrets.environment_variables import EnvironmentVariablesBackend

    from helpers.contract.settings import AWS_CONN_ID

    # The hook would ignore a connection that cannot be read.
    EnvironmentVariablesBackend().get_connection(AWS_CONN_ID)
    session: boto3.Session = AwsBaseHook(aws_conn_id=AWS_CONN_ID).get_session()
    return session


def _check_schedule(schedule: str) -> Finding:
    if is_schedule(schedule):
        return fine(f"settings; schedule {schedule}")
    return wrong(f"PIPELINE_SCHEDULE is {schedule!r}", "set a preset such as @daily, or a cron expression")


def main(arguments: list[str] | None = None) -> int:
    """Print the findings; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m include.doctor", description=__doc__.partition("\n")[0])
    parser.add_argument("--aws-port", type=read_port, default=5555, help="port of local AWS (%(default)s)")
    try:
        options = parser.parse_args(arguments)
    except UserError as error:
        print(error)
        return 1
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
        print(f"{problems} to fix.")
    else:
        print(
            "Runs can succeed; see the warning." if warnings else "Everything that could be checked is fine."
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
