"""Helpers of the browser tests: the servers that a user of the project starts, and their addresses."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_aws_support import wait_for

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
