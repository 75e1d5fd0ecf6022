"""Local AWS as a background service: started when needed, with the pipeline's resources."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

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
from include.commands.services import Service, free_port_after, get, require_free_port, wait_until_ready

DEFAULT_PORT = 5555
START_TIMEOUT_SECONDS = 60
_SERVICE_PREFIX = "local_aws_"


@dataclass
class LocalAws:
    """Local AWS on a port, and the console that shows what is done with it.

    Attributes:
        port: its port.
        console: the console.
        resources: the pipeline's environment variables that name its resources; empty until `deploy`.
    """

    port: int
    console: Console
    resources: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its address."""
        return endpoint_url(self.port)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of this process, with this AWS in place of any other, and with its resources."""
        return aws_environment(os.environ, self.port) | self.resources

    @property
    def make_options(self) -> str:
        """The options of make for this port and this Airflow; empty for the defaults."""
        return make_options(self.port)

    @property
    def options_of_another(self) -> str:
        """The options of make for another local AWS, on a free port."""
        return make_options(free_port_after(self.port))

    @property
    def client_settings(self) -> str:
        """The shell command that makes the AWS CLI and the SDKs use it."""
        return (
            f"  export AWS_ENDPOINT_URL={self.url} AWS_DEFAULT_REGION={REGION} \\\n"
            f"         AWS_ACCESS_KEY_ID={CREDENTIAL} AWS_SECRET_ACCESS_KEY={CREDENTIAL}"
        )

    def require_running(self) -> None:
        """Check that it is running.

        Raises:
            UserError: it is not. Its data is gone, so starting it again would not help.
        """
        if self._service.process() is None:
            raise UserError(
                f"Local AWS is not running on port {self.port}, so there is no data of an earlier run. "
                f"First: make run{self.make_options}"
            )

    def connect(self, command: str) -> bool:
        """Start it unless it runs, make it the AWS of this process, and bring its resources up to date.

        Args:
            command: the make command that the user gave.

        Returns:
            Whether it was started, and is thus empty.

        Raises:
            UserError: as `ensure_running` and `deploy`.
        """
        is_new = self.ensure_running(command)
        replace_environment(self.environment)
        self.deploy()
        return is_new

    def ensure_running(self, command: str) -> bool:
        """Start it if it is not running, and wait until it answers.

        Args:
            command: the make command that the user gave, for the remedy in an error.

        Returns:
            Whether it was started, and is thus empty.

        Raises:
            UserError: another program uses the port, the service did not start, or a given setting is read
                only when it starts.
        """
        is_new = self._service.process() is None
        if is_new:
            require_free_port(self.port, "local AWS", f"make {command}{self.options_of_another}")
            serve = ["serve", "--host", HOST, "--port", str(self.port)]
            self._service.start("include.local_aws", serve, self.environment)
        else:
            command_settings.refuse_late(command_settings.OF_LOCAL_AWS, "Local AWS", self.environment)
        wait_until_ready(
            [self._service], lambda: get(f"{self.url}/moto-api/") is not None, START_TIMEOUT_SECONDS
        )
        state = f"started, its log is {self._service.log}" if is_new else "is running already"
        self.console.print(Text(f"Local AWS at {self.url}: {state}"), soft_wrap=True)
        return is_new

    def deploy(self) -> None:
        """Create or update the pipeline's buckets, table, role and topic, and the queue that was asked for.

        Raises:
            UserError: a change by hand that another deployment does not fix.
        """
        from botocore.exceptions import ClientError

        from include.local_aws.provision import provision

        try:
            self.resources = provision(self.url, _stack_parameters())
        except ClientError as error:
            raise UserError(
                f"The resources in local AWS cannot be brought up to date: {error}. Was a bucket or the "
                "table deleted? make down, then the same command again, gives a new local AWS."
            ) from error
        buckets = [self.resources[f"{kind}_BUCKET_NAME"] for kind in ("SOURCE", "INTERMEDIATE", "ARCHIVE")]
        table = self.resources["KPI_TABLE_NAME"]
        self.console.print(f"Resources: buckets {', '.join(buckets)}; table {table}", soft_wrap=True)

    @property
    def _service(self) -> Service:
        return Service(f"{_SERVICE_PREFIX}{self.port}")


def _stack_parameters() -> dict[str, str]:
    """Return the parameters of the stack that were given on make's command line."""
    is_given = "STREAMS_QUEUE" in command_settings.given(os.environ)
    return {"StreamsQueueParameter": os.environ["STREAMS_QUEUE"]} if is_given else {}


def make_options(aws_port: int) -> str:
    """Return the options of make for local AWS on the port and this Airflow; empty for the defaults."""
    port = "" if aws_port == DEFAULT_PORT else f" AWS_PORT={aws_port}"
    return port + AIRFLOW.make_option


def is_local_aws(service: Service) -> bool:
    """Return whether the service is local AWS, on any port."""
    return service.name.startswith(_SERVICE_PREFIX)
