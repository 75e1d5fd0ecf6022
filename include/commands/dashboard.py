"""`make dashboard`: runs the dashboard, which has its own environment, on local AWS."""

from __future__ import annotations

import os

from rich.console import Console
from rich.text import Text

from include.commands import local_aws
from include.commands.environment import HOST, ROOT, aws_environment
from include.commands.errors import UserError
from include.commands.services import Service, get, require_free_port, stop, wait_until_ready
from include.kpis.next_commands import MAKE_OPTIONS_VARIABLE

DEFAULT_PORT = 8501
SERVICE_PREFIX = "dashboard_"
START_TIMEOUT_SECONDS = 60
PYTHON = ROOT / ".venv-dashboard" / "bin" / "python"


def dashboard(aws_port: int, port: int, console: Console) -> int:
    """Start the dashboard, and local AWS if needed, and wait until it answers.

    Raises:
        UserError: a port is taken, or a service did not start.
    """
    service = Service(f"{SERVICE_PREFIX}{port}_on_aws_{aws_port}")
    if service.process():
        console.print("The dashboard is up already.")
        _show_address(port, console)
        return 0
    if port == aws_port:
        raise UserError(f"Local AWS and the dashboard cannot both use port {port}.")
    remedy = f"make dashboard{local_aws.make_options(aws_port)} DASHBOARD_PORT={port + 1}"
    require_free_port(port, "the dashboard", remedy)
    environment = aws_environment(os.environ, aws_port)
    is_new = local_aws.ensure_running(aws_port, environment, "dashboard", console)
    environment |= local_aws.deploy(aws_port, console)
    environment[MAKE_OPTIONS_VARIABLE] = local_aws.make_options(aws_port)
    arguments = [
        "run",
        str(ROOT / "dashboard" / "app.py"),
        "--server.port",
        str(port),
        "--server.address",
        HOST,
    ]
    service.start("streamlit", arguments, environment, python=PYTHON)
    try:
        wait_until_ready(
            [service], lambda: get(f"http://{HOST}:{port}/_stcore/health") is not None, START_TIMEOUT_SECONDS
        )
    except UserError:
        stop([service])
        raise
    _show_address(port, console)
    if is_new:
        console.print(f"Local AWS is new and empty. To fill it: make run{local_aws.make_options(aws_port)}")
    return 0


def _show_address(port: int, console: Console) -> None:
    console.print(Text(f"Dashboard:     http://localhost:{port}\nStop all:      make down"), soft_wrap=True)
