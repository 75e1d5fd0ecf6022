"""`make dashboard`: the dashboard, in an environment of its own, on local AWS."""

from __future__ import annotations

import os

from rich.console import Console
from rich.text import Text

from include.local_airflow import local_aws
from include.local_airflow.environment import HOST, ROOT, aws_environment
from include.local_airflow.errors import UserError
from include.local_airflow.services import Service, get, require_free_port, stop, wait_until_ready

DEFAULT_PORT = 8501
SERVICE_PREFIX = "dashboard_"
START_TIMEOUT_SECONDS = 60
PYTHON = ROOT / ".venv-dashboard" / "bin" / "python"


def dashboard(aws_port: int, port: int, console: Console) -> int:
    """Start the dashboard, and local AWS unless it runs, and wait until it answers.

    Raises:
        UserError: a port is taken, or something did not come up.
    """
    service = Service(f"{SERVICE_PREFIX}{port}_on_aws_{aws_port}")
    if service.process():
        console.print("The dashboard is up already.")
        _show_address(port, console)
        return 0
    if port == aws_port:
        raise UserError(f"Local AWS and the dashboard cannot both have port {port}.")
    remedy = f"make dashboard{local_aws.port_option(aws_port)} DASHBOARD_PORT={port + 1}"
    require_free_port(port, "the dashboard", remedy)
    environment = aws_environment(os.environ, aws_port)
    is_new = local_aws.ensure_running(aws_port, environment, "dashboard", console)
    environment |= local_aws.deploy(aws_port, console)
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
        console.print(f"Local AWS is new and empty. To fill it: make run{local_aws.port_option(aws_port)}")
    return 0


def _show_address(port: int, console: Console) -> None:
    console.print(Text(f"Dashboard:     http://localhost:{port}\nStop all:      make down"), soft_wrap=True)
