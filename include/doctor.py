"""`make doctor`: what is missing or wrong in settings, AWS resources and rights, and what to do about it.

It takes the variables of the environment and, where they are not set, those of .env; without either it looks
at the local AWS of `make run`. AWS is asked as whoever runs it: the rights are those of that identity.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from include.aws_checks import Doctor, Finding, Findings, fine, unreachable, wrong
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
        from helpers.config import PipelineConfig, pipeline_schedule
        from helpers.errors import ConfigurationError

        # Airflow sends to the terminal what the AWS clients log.
        logging.getLogger("botocore").setLevel(logging.WARNING)
        try:
            config = PipelineConfig.from_env()
        except ConfigurationError as error:
            yield wrong(f"settings: {error}", "correct it; nothing else was looked at")
            return
        yield _check_schedule(pipeline_schedule())
    try:
        doctor = Doctor(config)
    except BotoCoreError as error:
        yield unreachable(error)
        return
    yield from doctor.findings()


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
    problems = 0
    for finding in examine():
        problems += finding.state == "wrong"
        print(f"{finding.state:<11}  {finding.what}")
        if finding.remedy:
            print(f"{'':<11}  -> {finding.remedy}")
    print(f"{problems} to mend." if problems else "All that could be looked at is fine.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
