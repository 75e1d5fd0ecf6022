"""`make dashboard`: runs the dashboard, which has its own environment, on local AWS."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from include.commands.environment import HOST, ROOT
from include.commands.errors import UserError
from include.commands.local_aws import LocalAws
from include.commands.services import (
    Service,
    free_port_after,
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


def dashboard(aws: LocalAws, port: int) -> int:
    """Start the dashboard, and local AWS if needed, and wait until it answers.

    Raises:
        UserError: a port is taken, or a service did not start.
    """
    if service_on(aws.port, port).process():
        aws.console.print("The dashboard is up already.")
        _show_address(port, aws.console)
        return 0
    require_port(aws.port, port, f"make dashboard{aws.make_options}")
    is_new = aws.connect("dashboard")
    start(aws, port)
    _show_address(port, aws.console)
    if is_new:
        aws.console.print(f"Local AWS is new and empty. To fill it: make run{aws.make_options}")
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
        require_free_port(port, "the dashboard", f"{command} DASHBOARD_PORT={free_port_after(port)}")


def start(aws: LocalAws, port: int) -> None:
    """Start the dashboard unless it runs, and wait until it answers.

    Args:
        aws: local AWS, with its resources.
        port: port of the dashboard.

    Raises:
        UserError: its Python environment is missing, or it did not start.
    """
    # Only here, because it imports boto3, for which `make down` does not wait.
    from include.kpis.next_commands import MAKE_OPTIONS_VARIABLE

    service = service_on(aws.port, port)
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
    options = {MAKE_OPTIONS_VARIABLE: aws.make_options}
    service.start("streamlit", arguments, aws.environment | options, python=PYTHON)
    try:
        wait_until_ready(
            [service], lambda: get(f"http://{HOST}:{port}/_stcore/health") is not None, START_TIMEOUT_SECONDS
        )
    except UserError:
        stop([service])
        raise


def _show_address(port: int, console: Console) -> None:
    console.print(Text(f"Dashboard:     {address(port)}\nStop all:      make down"), soft_wrap=True)
