"""Local AWS as a background service: started when needed, with the pipeline's resources in it."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from include.local_airflow.environment import CREDENTIAL, HOST, REGION, endpoint_url
from include.local_airflow.errors import UserError
from include.local_airflow.services import Service, get, require_free_port, wait_until_ready

DEFAULT_PORT = 5555
START_TIMEOUT_SECONDS = 60
_SERVICE_PREFIX = "local_aws_"


def require_running(aws_port: int) -> None:
    """Check that local AWS runs.

    Raises:
        UserError: it does not; what it held is gone, so starting it anew would not help.
    """
    if Service(f"{_SERVICE_PREFIX}{aws_port}").process() is None:
        raise UserError(
            f"Local AWS is not running on port {aws_port}, so there is no data of an earlier run. "
            f"First: make run{port_option(aws_port)}"
        )


def port_option(aws_port: int) -> str:
    """Return what a make command needs to find local AWS on the port: nothing on the default port."""
    return "" if aws_port == DEFAULT_PORT else f" AWS_PORT={aws_port}"


def ensure_running(aws_port: int, environment: dict[str, str], command: str, console: Console) -> bool:
    """Start local AWS unless it runs, and wait until it answers.

    Args:
        aws_port: where it listens.
        environment: what it runs in.
        command: the make command that the user gave, for the remedy in an error.
        console: where to say so.

    Returns:
        Whether it was started: then it is empty.

    Raises:
        UserError: the port is taken by something else, or the service did not come up.
    """
    url = endpoint_url(aws_port)
    service = Service(f"{_SERVICE_PREFIX}{aws_port}")
    is_new = service.process() is None
    if is_new:
        require_free_port(aws_port, "local AWS", f"make {command} AWS_PORT={aws_port + 1}")
        service.start("include.local_aws", ["serve", "--host", HOST, "--port", str(aws_port)], environment)
    wait_until_ready([service], lambda: get(f"{url}/moto-api/") is not None, START_TIMEOUT_SECONDS)
    state = f"started, its log is {service.log}" if is_new else "is running already"
    console.print(Text(f"Local AWS at {url}: {state}"), soft_wrap=True)
    return is_new


def deploy(aws_port: int, console: Console) -> dict[str, str]:
    """Bring the pipeline's buckets, table, role and topic up to date.

    Returns:
        The pipeline's environment variables that name them.

    Raises:
        UserError: something was done to the resources that deploying again does not mend.
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
    """Return the shell command after which the AWS CLI and the SDKs talk to local AWS."""
    return (
        f"  export AWS_ENDPOINT_URL={endpoint_url(aws_port)} AWS_DEFAULT_REGION={REGION} \\\n"
        f"         AWS_ACCESS_KEY_ID={CREDENTIAL} AWS_SECRET_ACCESS_KEY={CREDENTIAL}"
    )


def is_local_aws(service: Service) -> bool:
    """Tell whether the service is local AWS, on whichever port."""
    return service.name.startswith(_SERVICE_PREFIX)
