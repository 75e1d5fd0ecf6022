"""Airflow's real services as separate processes, with only the deployed parts of the project."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from airflow import __version__

from include.commands.airflow_version import AIRFLOW
from include.commands.environment import DAG_ID, HOST, ROOT, UI_PASSWORD, UI_USER
from include.commands.services import get

IS_AIRFLOW_2 = __version__.startswith("2.")
# The log servers are switched off, because they listen on fixed ports.
SERVICES = {name: [name, "--skip-serve-logs"] for name in ("scheduler", "triggerer")}
# Enough for a machine that is busy with other tests.
TIMEOUT_SECONDS = 600


class AirflowServices:
    """A scheduler, a triggerer and whatever else this version of Airflow needs to run DAGs.

    They see the given folders of DAGs and plugins and nothing else of the project: their working directory is
    an empty folder, and there is no PYTHONPATH.
    """

    def __init__(
        self, environment: Mapping[str, str], folder: Path, dags_folder: Path, plugins_folder: Path
    ) -> None:
        """Start the services.

        Args:
            environment: variables of an Airflow that runs the pipeline, with the connection `aws_default`.
                The schedule is `@once` unless they name another.
            folder: an empty folder for Airflow's home and the services' logs.
            dags_folder: Airflow's folder of DAGs.
            plugins_folder: Airflow's folder of plugins.
        """
        self.home, self._cwd, self._logs = (folder / name for name in ("home", "empty", "logs"))
        for path in (self.home / "config", self._cwd, self._logs):
            path.mkdir(parents=True)
        self._environment = {"PIPELINE_SCHEDULE": "@once", **environment} | {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins_folder),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        }
        del self._environment["PYTHONPATH"]
        # Stored as a user would, so the services must read it from Airflow's database.
        connection = self._environment.pop("AIRFLOW_CONN_AWS_DEFAULT")
        port = _free_port()
        self._address = f"http://{HOST}:{port}"
        if IS_AIRFLOW_2:
            # On the path of every service, like plugins; Airflow's own executor does not accept SQLite.
            shutil.copy(ROOT / "include" / "commands" / "executor.py", self.home / "config")
            self._environment["AIRFLOW__CORE__EXECUTOR"] = "executor.SqliteLocalExecutor"
        else:
            self._environment |= AIRFLOW.settings(self.home, port)
            (self.home / "passwords.json").write_text(json.dumps({UI_USER: UI_PASSWORD}))
        self._command("db", "migrate")
        self._command("connections", "add", "aws_default", "--conn-json", connection)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        if not IS_AIRFLOW_2:
            self._start("api-server", ["api-server"])
            self._start("dag-processor", ["dag-processor"])
        self._start("triggerer", SERVICES["triggerer"])
        if not IS_AIRFLOW_2:
            # A task that begins earlier fails, and is retried only after half a minute.
            self.wait_until(lambda: get(f"{self._address}/api/v2/version"), "the API")
        self._start("scheduler", SERVICES["scheduler"])

    def trigger(self) -> str:
        """Trigger a run by the API of Airflow 3, as its user; return the run's id."""
        user = {"username": UI_USER, "password": UI_PASSWORD}
        token = self._post("/auth/token", user)["access_token"]
        run = self._post(f"/api/v2/dags/{DAG_ID}/dagRuns", {"logical_date": None}, token)
        return str(run["dag_run_id"])

    def _post(self, path: str, body: Mapping[str, Any], token: str = "") -> Any:
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        request = urllib.request.Request(self._address + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def kill(self, name: str) -> None:
        """Kill the service and all its children, as if their machine had failed, and start it again."""
        process = psutil.Process(self._processes[name].pid)
        for member in (process, *process.children(recursive=True)):
            _signal(member.kill)
        self._processes[name].wait()
        self._start(name, SERVICES[name])

    def wait_for_task(self, task_id: str, state: str) -> None:
        """Wait until the task is in this state, which may be a short one."""
        query = "SELECT 1 FROM task_instance WHERE task_id = ? AND state = ?"
        self.wait_until(lambda: self.rows(query, task_id, state), f"{task_id} {state}", poll_seconds=0.02)

    def _command(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            cwd=self._cwd,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"airflow {arguments} ended with {done.returncode}:\n{done.stdout[-4000:]}")

    def wait_for_run(self, run_id: str | None = None) -> str:
        """Wait until this run, or the one scheduled run, of the pipeline's DAG has ended; return its state.

        Raises:
            RuntimeError: Airflow cannot import a DAG file; the message gives its error.
            TimeoutError: a service ended or the time is up; the message has the services' output.
        """
        query = (
            "SELECT state FROM dag_run WHERE state IN ('success', 'failed') AND run_id = coalesce(?, run_id)"
        )
        self.wait_until(lambda: self.rows(query, run_id) or self.import_errors(), "the end of the run")
        if errors := self.import_errors():
            raise RuntimeError(f"Airflow cannot read a DAG: {errors}")
        [(state,)] = self.rows(query, run_id)
        return str(state)

    def import_errors(self) -> list[str]:
        """Return Airflow's import errors."""
        return [text for (text,) in self.rows("SELECT stacktrace FROM import_error")]

    def task_states(self) -> dict[str, str]:
        """Return the states of the run's tasks."""
        return dict(self.rows("SELECT task_id, state FROM task_instance"))

    def note(self, run_id: str | None = None) -> str:
        """Return the note on this run, or on the one run; empty if there is none."""
        of_run = "JOIN dag_run ON id = dag_run_id WHERE run_id = coalesce(?, run_id)"
        query = f"SELECT content FROM dag_run_note {of_run}"
        return "".join(note for (note,) in self.rows(query, run_id))

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query on Airflow's database."""
        with sqlite3.connect(f"file:{self.home / 'airflow.db'}?mode=ro", uri=True, timeout=30) as database:
            return database.execute(query, parameters).fetchall()

    def logs(self) -> dict[str, str]:
        """Return each service's output."""
        return {path.stem: path.read_text(errors="replace") for path in self._logs.iterdir()}

    def task_logs(self, task_id: str) -> dict[str, str]:
        """Return the logs of the task's attempts and their triggers, by file name."""
        paths = sorted((self.home / "logs").glob(f"*/run_id=*/task_id={task_id}/*.log"))
        return {path.name: path.read_text(errors="replace") for path in paths}

    def close(self) -> None:
        """End the services and all their children."""
        everything: list[psutil.Process] = []
        for process in self._processes.values():
            if process.poll() is None:
                parent = psutil.Process(process.pid)
                everything += [parent, *parent.children(recursive=True)]
        for member in everything:
            _signal(member.terminate)
        _, alive = psutil.wait_procs(everything, timeout=5)
        for member in alive:
            _signal(member.kill)

    def _start(self, name: str, arguments: list[str]) -> None:
        with (self._logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *arguments],
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until(self, condition: Callable[[], Any], what: str, poll_seconds: float = 0.5) -> None:
        """Wait until the condition holds.

        Raises:
            TimeoutError: a service ended or the time is up; the message has the services' output.
        """
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            gone = [name for name, process in self._processes.items() if process.poll() is not None]
            if gone or time.monotonic() > deadline:
                tails = {name: log[-3000:] for name, log in self.logs().items()}
                why = f"{', '.join(gone)} ended" if gone else f"{TIMEOUT_SECONDS} seconds are over"
                raise TimeoutError(
                    f"Waited for {what}, but {why}. Tasks: {json.dumps(self.task_states())}\n"
                    + "\n".join(f"===== {name}\n{tail}" for name, tail in tails.items())
                )
            time.sleep(poll_seconds)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        send()
