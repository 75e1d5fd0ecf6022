"""The differences between Airflow 2 and 3 in the commands, and nothing else.

The Makefile's AIRFLOW chooses the Python environment, and the Airflow that is installed there is the version.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from include.commands.environment import DAG_ID, HOST, LOCAL_DIR, UI_PASSWORD, UI_USER

if TYPE_CHECKING:
    from airflow.listeners.listener import ListenerManager

SCHEDULER = "scheduler"
_IS_JSON = "--header 'Content-Type: application/json'"


class AirflowVersion:
    """A version of Airflow, as the commands start and show it.

    Attributes:
        number: its first number.
        name: its name for people.
        environment: folder of its Python environment.
        make_option: the option of make that selects it.
        home: folder of the database and task logs of `make up`.
        web: Airflow's command that serves the UI and the API.
        tasks_need_web: whether a task that begins before the web service answers fails.
        other_services: arguments of Airflow's command for every other service, by the service's name. The
            scheduler is the last.
        health_path: path at which the web service reports the health of `healthy_parts`.
        healthy_parts: the parts without which no run ends.
        api: the path of the REST API.
        new_run: what the API needs for a new run, besides its parameters.
        skip: what the API needs to end a task as skipped.
        run_page: path of a run's page in the UI, without the id.
    """

    number: ClassVar[int]
    name: ClassVar[str]
    environment: ClassVar[str]
    make_option: ClassVar[str]
    home: ClassVar[Path]
    web: ClassVar[str]
    tasks_need_web: ClassVar[bool]
    other_services: ClassVar[dict[str, list[str]]]
    health_path: ClassVar[str]
    healthy_parts: ClassVar[tuple[str, ...]]
    api: ClassVar[str]
    new_run: ClassVar[dict[str, Any]]
    skip: ClassVar[dict[str, Any]]
    run_page: ClassVar[str]

    def settings(self, home: Path, web_port: int) -> dict[str, str]:
        """Return the settings of a small Airflow on SQLite, whose web service is on the port of this host."""
        raise NotImplementedError

    def prepare(self, home: Path) -> None:
        """Create or update the database and the user of the UI; the process must have the settings."""
        raise NotImplementedError

    def trigger_command(self, address: str) -> str:
        """Return the shell command that triggers a run at the UI's address."""
        raise NotImplementedError

    def authorization(self, address: str) -> str:
        """Return the header that lets the user use the API at the address."""
        raise NotImplementedError

    def listener_manager(self) -> ListenerManager:
        """Return the object that calls the listeners of tasks in this process."""
        raise NotImplementedError


class Airflow2(AirflowVersion):
    """The version of the image."""

    number = 2
    name = "Airflow 2"
    environment = ".venv"
    make_option = ""
    home = LOCAL_DIR / "airflow"
    web = "webserver"
    tasks_need_web = False
    other_services: ClassVar = {"triggerer": ["triggerer", "--skip-serve-logs"], SCHEDULER: ["scheduler"]}
    health_path = "/health"
    healthy_parts = ("metadatabase", "scheduler", "triggerer")
    api = "/api/v1"
    new_run: ClassVar = {}
    skip: ClassVar = {"dry_run": False, "new_state": "skipped"}
    run_page = f"/dags/{DAG_ID}/grid?dag_run_id="

    def settings(self, home: Path, web_port: int) -> dict[str, str]:
        return {
            "AIRFLOW__CORE__EXECUTOR": "include.commands.executor.SqliteLocalExecutor",
            "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.session,"
            "airflow.providers.fab.auth_manager.api.auth.backend.basic_auth",
            # With this feature, SQLite's locks sometimes make a task start only at its second attempt.
            "AIRFLOW__SCHEDULER__SCHEDULE_AFTER_TASK_EXECUTION": "False",
            "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": HOST,
            "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(web_port),
            "AIRFLOW__WEBSERVER__BASE_URL": f"http://localhost:{web_port}",
            "AIRFLOW__WEBSERVER__WORKERS": "1",
            # On a busy machine the one worker may need minutes; by default the webserver then ends itself.
            "AIRFLOW__WEBSERVER__WEB_SERVER_MASTER_TIMEOUT": "600",
            # Browsers open connections in advance. The default worker would wait for minutes on an unused
            # one.
            "AIRFLOW__WEBSERVER__WORKER_CLASS": "gthread",
        }

    def prepare(self, home: Path) -> None:
        user = ["--username", UI_USER, "--password", UI_PASSWORD, "--role", "Admin"]
        person = ["--firstname", "Local", "--lastname", "Admin", "--email", "admin@example.com"]
        _call_airflow(["db", "migrate"], ["users", "create", *user, *person])

    def trigger_command(self, address: str) -> str:
        return (
            f"curl --user {UI_USER}:{UI_PASSWORD} {_IS_JSON} --data '{json.dumps(self.new_run)}' \\\n"
            f"      {address}{self.api}/dags/{DAG_ID}/dagRuns"
        )

    def authorization(self, address: str) -> str:
        return f"Basic {b64encode(f'{UI_USER}:{UI_PASSWORD}'.encode()).decode()}"

    def listener_manager(self) -> ListenerManager:
        from airflow.listeners.listener import get_listener_manager

        return get_listener_manager()


class Airflow3(AirflowVersion):
    """Has a service for the API, which tasks need too, and one that reads the DAGs."""

    number = 3
    name = "Airflow 3"
    environment = ".venv-airflow3"
    make_option = " AIRFLOW=3"
    home = LOCAL_DIR / "airflow3"
    web = "api-server"
    tasks_need_web = True
    # No log servers: the UI reads the logs from the same disk, and they listen on every interface.
    other_services: ClassVar = {
        "triggerer": ["triggerer", "--skip-serve-logs"],
        "dag-processor": ["dag-processor"],
        SCHEDULER: ["scheduler", "--skip-serve-logs"],
    }
    health_path = "/api/v2/monitor/health"
    healthy_parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    api = "/api/v2"
    new_run: ClassVar = {"logical_date": None}
    skip: ClassVar = {"new_state": "skipped"}
    run_page = f"/dags/{DAG_ID}/runs/"

    def settings(self, home: Path, web_port: int) -> dict[str, str]:
        return {
            "AIRFLOW__API__HOST": HOST,
            "AIRFLOW__API__PORT": str(web_port),
            "AIRFLOW__API__BASE_URL": f"http://localhost:{web_port}",
            "AIRFLOW__API__WORKERS": "1",
            # Tasks reach the API under it.
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{web_port}/execution/",
            # The API's first answers take long on a busy machine; a task that waits in vain needs a retry.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            # With it the services sign the tasks' tokens, so all of them need the same one.
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{UI_USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords(home)),
        }

    def prepare(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        # Airflow invents passwords of the users that the file does not name.
        self._passwords(home).write_text(json.dumps({UI_USER: UI_PASSWORD}))
        _call_airflow(["db", "migrate"])

    def trigger_command(self, address: str) -> str:
        user = json.dumps({"username": UI_USER, "password": UI_PASSWORD})
        return (
            f"token=$(curl --silent {_IS_JSON} --data '{user}' \\\n"
            f"""      {address}/auth/token | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')\n"""
            f"""  curl --header "Authorization: Bearer $token" {_IS_JSON} \\\n"""
            f"""      --data '{json.dumps(self.new_run)}' {address}{self.api}/dags/{DAG_ID}/dagRuns"""
        )

    def authorization(self, address: str) -> str:
        import requests  # type: ignore[import-untyped]

        user = {"username": UI_USER, "password": UI_PASSWORD}
        answer = requests.post(f"{address}/auth/token", json=user, timeout=60)
        answer.raise_for_status()
        return f"Bearer {answer.json()['access_token']}"

    def listener_manager(self) -> ListenerManager:
        from airflow.sdk.listener import get_listener_manager  # type: ignore[import-not-found]

        manager: ListenerManager = get_listener_manager()
        return manager

    @staticmethod
    def _passwords(home: Path) -> Path:
        return home / "passwords.json"


VERSIONS = {2: Airflow2(), 3: Airflow3()}
AIRFLOW = VERSIONS[int(version("apache-airflow").split(".")[0])]


def _call_airflow(*commands: Sequence[str]) -> None:
    from airflow.cli.cli_parser import get_parser

    # In this process, because each start of Airflow's command line takes seconds.
    for command in commands:
        arguments = get_parser().parse_args(command)
        arguments.func(arguments)
