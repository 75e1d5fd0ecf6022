"""`make dashboard`: runs the dashboard, which has its own environment, on local AWS."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from include.commands import local_aws
from include.commands.environment import HOST, ROOT, aws_environment
from include.commands.errors import UserError
from include.commands.services import (
    Service,
    get,
    recorded_services,
    require_free_port,
    stop,
    wait_until_ready,
)

DEFAULT_PORT = 8501
SERVICE_PREFIX = "dashboard_"
START_TIMEOUT_SECONDS = 60
PYTHON = ROOT / ".venv-dashboard" / "bin" / "python"


def dashboard(aws_port: int, port: int, console: Console) -> int:
    """Start the dashboard, and local AWS if needed, and wait until it answers.

    Raises:
        UserError: a port is taken, or a service did not start.
    """
    if service_on(aws_port, port).process():
        console.print("The dashboard is up already.")
        _show_address(port, console)
        return 0
    require_port(aws_port, port, f"make dashboard{local_aws.make_options(aws_port)}")
    environment = aws_environment(os.environ, aws_port)
    is_new = local_aws.ensure_running(aws_port, environment, "dashboard", console)
    start(aws_port, port, environment | local_aws.deploy(aws_port, console))
    _show_address(port, console)
    if is_new:
        console.print(f"Local AWS is new and empty. To fill it: make run{local_aws.make_options(aws_port)}")
    return 0


def address(port: int) -> str:
    """Return the address of the dashboard on the port."""
    return f"http://localhost:{port}"


def service_on(aws_port: int, port: int) -> Service:
    """Return the service of the dashboard on the port that shows the local AWS on `aws_port`."""
    return Service(f"{SERVICE_PREFIX}{port}_on_aws_{aws_port}")


def running_port(aws_port: int) -> int | None:
    """Return the port of a running dashboard that shows the local AWS, or None."""
    suffix = f"_on_aws_{aws_port}"
    for service in recorded_services():
        port = service.name.removeprefix(SERVICE_PREFIX).removesuffix(suffix)
        if service.name == f"{SERVICE_PREFIX}{port}{suffix}" and service.process():
            return int(port)
    return None


def require_port(aws_port: int, port: int, command: str) -> None:
    """Check that the dashboard can use the port, or runs on it already.

    Raises:
        UserError: it cannot; the remedy is the make command with another port.
    """
    if port == aws_port:
        raise UserError(f"Local AWS and the dashboard cannot both use port {port}.")
    if service_on(aws_port, port).process() is None:
        require_free_port(port, "the dashboard", f"{command} DASHBOARD_PORT={port + 1}")


def start(aws_port: int, port: int, environment: Mapping[str, str]) -> None:
    """Start the dashboard unless it runs, and wait until it answers.

    Args:
        aws_port: port of local AWS.
        port: port of the dashboard.
        environment: variables with access to local AWS and the names of its resources.

    Raises:
        UserError: its Python environment is missing, or it did not start.
    """
    # Only here, because it imports boto3, for which `make down` does not wait.
    from include.kpis.next_commands import MAKE_OPTIONS_VARIABLE

    service = service_on(aws_port, port)
    if service.process():
        return
    if not PYTHON.exists():
        raise UserError(
            f"The dashboard's Python {PYTHON} is missing. First: make dashboard, which installs it"
        )
    arguments = [
        "run",
        str(ROOT / "dashboard" / "app.py"),
        "--server.port",
        str(port),
        "--server.address",
        HOST,
    ]
    options = {MAKE_OPTIONS_VARIABLE: local_aws.make_options(aws_port)}
    service.start("streamlit", arguments, {**environment, **options}, python=PYTHON)
    try:
        wait_until_ready(
            [service], lambda: get(f"http://{HOST}:{port}/_stcore/health") is not None, START_TIMEOUT_SECONDS
        )
    except UserError:
        stop([service])
        raise


def _show_address(port: int, console: Console) -> None:
    console.print(Text(f"Dashboard:     {address(port)}\nStop all:      make down"), soft_wrap=True)
