"""Helpers of the browser tests: the servers that a user of the project starts, and their addresses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from local_aws_support import REPOSITORY, wait_for

DAG = "music_streaming_pipeline"
RUN_SECONDS = 300
ANSWER_SECONDS = 60
PHONE = {"width": 390, "height": 844}
LAPTOP = {"width": 1366, "height": 768}
DESKTOP = {"width": 1920, "height": 1080}


@dataclass(frozen=True)
class Started:
    """The addresses of the started servers."""

    project: Path
    aws: str
    airflow: str
    dashboard: str

    def api(self, path: str) -> Any:
        """Return the answer of Airflow's REST API about the DAG."""
        request = urllib.request.Request(f"{self.airflow}/api/v1/dags/{DAG}/{path}")
        request.add_header("Authorization", f"Basic {b64encode(b'admin:admin').decode()}")
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return json.loads(answer.read())

    def wait_for_run(self, number: int) -> dict[str, Any]:
        """Wait until the run of that number, counted from 1, has ended and has a note; return it."""

        def ended() -> dict[str, Any] | None:
            runs = self.api("dagRuns?order_by=start_date")["dag_runs"]
            done = len(runs) >= number and runs[number - 1]["state"] in ("success", "failed")
            return runs[number - 1] if done and runs[number - 1]["note"] else None

        run: dict[str, Any] = wait_for(ended, RUN_SECONDS)
        return run


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def user_environment() -> dict[str, str]:
    """Return the environment of a user without an account, and without the variables of an outer `make`."""
    kept = (
        "MAKE",
        "MFLAGS",
        "AWS_",
        "AIRFLOW",
        "DATA",
        "DATES",
        "RUN",
        "PYTHON",
        "WEB_PORT",
        "DASHBOARD_PORT",
    )
    return {name: value for name, value in os.environ.items() if not name.startswith(kept)}


def settled(page: Page) -> Page:
    """Wait until the app has run to its end and has removed all elements of the previous run."""
    expect(page.locator("[data-testid=stApp]")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.locator("[data-stale=true]")).to_have_count(0)
    return page


def chart(page: Page, title: str) -> Locator:
    return page.locator("[data-testid=stVegaLiteChart]").filter(has=page.get_by_text(title, exact=True))


def assert_within_its_edges(drawn: Locator) -> None:
    """Assert that the edge of the chart cuts off no text."""
    # Labels for which there is no room are drawn all the same, but nobody sees them.
    box, texts = drawn.bounding_box(), drawn.locator('svg text:not([opacity="0"])')
    assert box is not None
    for text in texts.all():
        edge = text.bounding_box()
        assert edge is None or edge["x"] + edge["width"] <= box["x"] + box["width"] + 1
        # The box of a rotated axis title is wider than its letters.
        assert edge is None or edge["x"] >= box["x"] - 5


@contextmanager
def running_app(aws: str, **variables: str | None) -> Iterator[str]:
    """Run the app as a user of AWS does, with these variables; `aws` is the address of local AWS."""
    environment = user_environment() | {
        "AWS_ENDPOINT_URL": aws,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "ARCHIVE_BUCKET_NAME": "music-streaming-archive",
    }
    environment = {name: value for name, value in (environment | variables).items() if value is not None}
    port = free_port()
    python = REPOSITORY / ".venv-dashboard" / "bin" / "python"
    command = [python, "-m", "streamlit", "run", "dashboard/app.py", "--server.port", str(port)]
    app = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
    address = f"http://localhost:{port}"
    try:
        wait_for(lambda: _answers(f"{address}/_stcore/health"))
        yield address
    finally:
        app.terminate()
        app.wait(timeout=30)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address):
            return True
    except OSError:
        return False
