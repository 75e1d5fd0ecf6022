"""Helpers of the browser tests: the servers that a user of the project starts, and their addresses."""

from __future__ import annotations

import json
import os
import shutil
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
COPIED = ("Makefile", "dags", "plugins", "include", "glue_script", "dashboard")
LOCKS = ("requirements-lock.txt", "requirements-airflow3-lock.txt", "requirements-uv.txt")
SHARED = (".venv", ".venv-airflow3", ".venv-dashboard")
RUN_SECONDS = 300
ANSWER_SECONDS = 60
PHONE = {"width": 390, "height": 844}
LAPTOP = {"width": 1366, "height": 768}
DESKTOP = {"width": 1920, "height": 1080}


@dataclass(frozen=True)
class Started:
    """The addresses of the started servers, and the first number of Airflow's version."""

    project: Path
    aws: str
    airflow: str
    dashboard: str
    version: int

    def api(self, path: str) -> Any:
        """Return the answer of Airflow's REST API about the DAG."""
        if self.version == 2:
            authorization = f"Basic {b64encode(b'admin:admin').decode()}"
        else:
            user = json.dumps({"username": "admin", "password": "admin"}).encode()
            token = self._answer("auth/token", {"Content-Type": "application/json"}, user)["access_token"]
            authorization = f"Bearer {token}"
        api = f"api/v{1 if self.version == 2 else 2}"
        return self._answer(f"{api}/dags/{DAG}/{path}", {"Authorization": authorization})

    def _answer(self, path: str, headers: dict[str, str], body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{self.airflow}/{path}", body, headers)
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return json.loads(answer.read())

    def wait_for_run(self, number: int) -> dict[str, Any]:
        """Wait until the run of that number, counted from 1, has ended and has a note; return it."""

        def ended() -> dict[str, Any] | None:
            # Airflow 3 sorts a run that waits for its start before all others.
            runs = [run for run in self.api("dagRuns?order_by=start_date")["dag_runs"] if run["start_date"]]
            done = len(runs) >= number and runs[number - 1]["state"] in ("success", "failed")
            return runs[number - 1] if done and runs[number - 1]["note"] else None

        run: dict[str, Any] = wait_for(ended, RUN_SECONDS)
        return run


@contextmanager
def started_project(project: Path, version: int = 2) -> Iterator[Started]:
    """Copy the project into this folder and start it as a user does, with this version of Airflow."""
    project.mkdir()
    for name in COPIED + LOCKS:
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, project / name)
    for name in SHARED:
        (project / name).symlink_to(REPOSITORY / name)
    aws_port, web_port, dashboard_port = free_port(), free_port(), free_port()
    ports = [f"AWS_PORT={aws_port}", f"WEB_PORT={web_port}", f"DASHBOARD_PORT={dashboard_port}"]

    def make(command: str, *options: str) -> None:
        done = subprocess.run(
            ["make", command, *options], cwd=project, env=user_environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        make("up", f"AIRFLOW={version}", *ports)
        make("dashboard", f"AIRFLOW={version}", *ports)
        yield Started(
            project,
            aws=f"http://127.0.0.1:{aws_port}",
            airflow=f"http://localhost:{web_port}",
            dashboard=f"http://localhost:{dashboard_port}",
            version=version,
        )
    finally:
        make("down")


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
