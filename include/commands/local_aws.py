"""Local AWS as a background service: started when needed, with the pipeline's resources."""

from __future__ import annotations

import os

from rich.console import Console
from rich.text import Text

from include.commands import command_settings
from include.commands.airflow_version import AIRFLOW
from include.commands.environment import (
    CREDENTIAL,
    HOST,
    REGION,
    aws_environment,
    endpoint_url,
    replace_environment,
)
from include.commands.errors import UserError
from include.commands.services import Service, get, require_free_port, wait_until_ready

DEFAULT_PORT = 5555
START_TIMEOUT_SECONDS = 60
_SERVICE_PREFIX = "local_aws_"


def require_running(aws_port: int) -> None:
    """Check that local AWS is running.

    Raises:
        UserError: it is not. Its data is gone, so starting it again would not help.
    """
    if Service(f"{_SERVICE_PREFIX}{aws_port}").process() is None:
        raise UserError(
            f"Local AWS is not running on port {aws_port}, so there is no data of an earlier run. "
            f"First: make run{make_options(aws_port)}"
        )


def make_options(aws_port: int) -> str:
    """Return the options of make for local AWS on the port and this Airflow; empty for the defaults."""
    port = "" if aws_port == DEFAULT_PORT else f" AWS_PORT={aws_port}"
    return port + AIRFLOW.make_option


def ensure_running(aws_port: int, environment: dict[str, str], command: str, console: Console) -> bool:
    """Start local AWS if it is not running, and wait until it answers.

    Args:
        aws_port: port of local AWS.
        environment: its environment variables.
        command: the make command that the user gave, for the remedy in an error.
        console: prints the state.

    Returns:
        Whether it was started, and is thus empty.

    Raises:
        UserError: another program uses the port, the service did not start, or a given setting is read only
            when it starts.
    """
    url = endpoint_url(aws_port)
    service = Service(f"{_SERVICE_PREFIX}{aws_port}")
    is_new = service.process() is None
    if is_new:
        require_free_port(aws_port, "local AWS", f"make {command}{make_options(aws_port + 1)}")
        service.start("include.local_aws", ["serve", "--host", HOST, "--port", str(aws_port)], environment)
    else:
        command_settings.refuse_late(command_settings.OF_LOCAL_AWS, "Local AWS", environment)
    wait_until_ready([service], lambda: get(f"{url}/moto-api/") is not None, START_TIMEOUT_SECONDS)
    state = f"started, its log is {service.log}" if is_new else "is running already"
    console.print(Text(f"Local AWS at {url}: {state}"), soft_wrap=True)
    return is_new


def connect(aws_port: int, command: str, console: Console) -> tuple[dict[str, str], bool]:
    """Start local AWS unless it runs, make it the AWS of this process, and bring its resources up to date.

    Args:
        aws_port: port of local AWS.
        command: the make command that the user gave.
        console: prints the state.

    Returns:
        The pipeline's environment variables that name the resources, and whether local AWS is new and empty.

    Raises:
        UserError: as `ensure_running` and `deploy`.
    """
    environment = aws_environment(os.environ, aws_port)
    is_new = ensure_running(aws_port, environment, command, console)
    replace_environment(environment)
    return deploy(aws_port, console), is_new


def deploy(aws_port: int, console: Console) -> dict[str, str]:
    """Create or update the pipeline's buckets, table, role and topic.

    Returns:
        The pipeline's environment variables that name them.

    Raises:
        UserError: a change by hand that another deployment does not fix.
    """
    from botocore.exceptions import ClientError

    from include.local_aws.provision import provision

    try:
        resources = provision(endpoint_url(aws_port))
    except ClientError as error:
        raise UserError(
            f"The resources in local AWS cannot be brought up to date: {error}. Was a bucket or the table "
            "deleted? make down, then the same command again, gives a new local AWS."
        ) from error
    buckets = [resources[f"{kind}_BUCKET_NAME"] for kind in ("SOURCE", "INTERMEDIATE", "ARCHIVE")]
    console.print(
        f"Resources: buckets {', '.join(buckets)}; table {resources['KPI_TABLE_NAME']}", soft_wrap=True
    )
    return resources


def client_settings(aws_port: int) -> str:
    """Return the shell command that makes the AWS CLI and the SDKs use local AWS."""
    return (
        f"  export AWS_ENDPOINT_URL={endpoint_url(aws_port)} AWS_DEFAULT_REGION={REGION} \\\n"
        f"         AWS_ACCESS_KEY_ID={CREDENTIAL} AWS_SECRET_ACCESS_KEY={CREDENTIAL}"
    )


def is_local_aws(service: Service) -> bool:
    """Return whether the service is local AWS, on any port."""
    return service.name.startswith(_SERVICE_PREFIX)
