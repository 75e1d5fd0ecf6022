"""The project's image and the services of `astro dev start`, built from packages of Debian and PyPI."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from include.commands.airflow_version import VERSIONS, AirflowVersion
from include.commands.environment import LOCAL_DIR, ROOT
from include.commands.services import get, port_is_taken
from tests.containers.engine import Engine, python_prefix

IMAGES, COMPOSE = (Path(__file__).parent / name for name in ("images", "compose"))
DEBIAN = "localhost/music-streaming-pipeline/debian:12"
PROJECT = "music-streaming-pipeline-test"
PROJECT_IMAGE = f"localhost/{PROJECT}/airflow:latest"
# Measurements and all logs are kept for the reader, in a folder for each version of Airflow.
RESULTS = LOCAL_DIR / "test-containers"
TIMEOUT_SECONDS = 900
NOT_PYTHON = """*
!bin/python3.12
!lib/libpython3.12.so*
!lib/python3.12
lib/python3.12/config-*
lib/python3.12/site-packages
lib/python3.12/test
**/__pycache__
"""


@dataclass(frozen=True)
class Runtime:
    """A version of Airflow in a stand-in of its Astro Runtime.

    Attributes:
        version: the version.
        requirements: the file that pins Airflow.
        lock: the file with the versions of all its packages.
        further: packages that the runtime has besides Airflow, for Postgres and the UI.
    """

    version: AirflowVersion
    requirements: str
    lock: str
    further: str

    @property
    def results(self) -> Path:
        """The folder for measurements and logs."""
        return RESULTS / f"airflow{self.version.number}"

    def airflow(self, folder: Path) -> str:
        """Return the release of Airflow that the project in the folder has."""
        return pins(folder / self.requirements)["apache-airflow"]

    def authorization(self, address: str) -> str:
        """Return the header that Airflow's API wants; the Astro CLI lets everybody use Airflow 3."""
        if self.version.number == 2:
            return self.version.authorization(address)
        return f"Bearer {requests.get(f'{address}/auth/token', timeout=60).json()['access_token']}"


RUNTIMES = (
    Runtime(
        VERSIONS[2],
        "requirements-dev.txt",
        "requirements-lock.txt",
        "apache-airflow-providers-fab psycopg2-binary==2.9.10",
    ),
    Runtime(
        VERSIONS[3],
        "requirements-airflow3.txt",
        "requirements-airflow3-lock.txt",
        "asyncpg==0.32.0 psycopg[binary]==3.3.9",
    ),
)


@dataclass(frozen=True)
class Stack:
    """All services, running.

    Attributes:
        compose: runs podman-compose with its arguments and returns its output.
        web_address: address of Airflow's UI.
        folder: the copy of the project that is mounted.
        runtime: the version of Airflow.
    """

    compose: Callable[..., str]
    web_address: str
    folder: Path
    runtime: Runtime

    def api(self, method: str, path: str, **arguments: Any) -> Any:
        """Call Airflow's REST API and return its answer."""
        response = requests.request(
            method,
            f"{self.web_address}{self.runtime.version.api}/{path}",
            headers={"Authorization": self.runtime.authorization(self.web_address)},
            timeout=60,
            **arguments,
        )
        response.raise_for_status()
        return response.json()

    def health(self) -> dict[str, str]:
        """Return the state of each part of Airflow; empty while the web service does not answer."""
        answer = get(self.web_address + self.runtime.version.health_path)
        parts = self.runtime.version.healthy_parts
        return {part: json.loads(answer)[part]["status"] for part in parts} if answer else {}

    @property
    def is_healthy(self) -> bool:
        """Whether every part of Airflow is healthy."""
        return set(self.health().values()) == {"healthy"}


@pytest.fixture(scope="session", params=RUNTIMES, ids=[runtime.version.name for runtime in RUNTIMES])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    chosen: Runtime = request.param
    return chosen


@pytest.fixture(scope="session")
def figures(runtime: Runtime) -> Iterator[dict[str, Any]]:
    """The measurements of the tests; `make test-containers` shows them."""
    shutil.rmtree(runtime.results, ignore_errors=True)
    runtime.results.mkdir(parents=True)
    figures: dict[str, Any] = {}
    yield figures
    (runtime.results / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def folder(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of the project with .env.example copied, switched to the version of Airflow."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    # A fresh clone has no files that git ignores.
    ignored = shutil.ignore_patterns(".git", ".venv*", ".local", ".*_cache", ".hypothesis", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=ignored)
    (folder / "plugins").mkdir(exist_ok=True)
    shutil.copy(folder / ".env.example", folder / ".env")
    switch(folder, runtime.version.number)
    # The containers that mount it run as another user.
    folder.parent.chmod(0o755)
    folder.parent.parent.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def stand_ins(
    engine: Engine, runtime: Runtime, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Images under the names that the project requests from a registry, by the image that they replace."""
    override = yaml.safe_load((folder / "docker-compose.override.yml").read_text())
    compose = yaml.safe_load((COMPOSE / "common.yml").read_text())
    names = {
        "astro-runtime": (folder / "Dockerfile").read_text().split()[1],
        "python": f"docker.io/library/{override['services']['local-aws']['image']}",
        "postgres": compose["services"]["postgres"]["image"],
    }
    build = tmp_path_factory.mktemp("build")
    if not engine.has(DEBIAN):
        engine.run("mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", "bookworm",
                   str(build / "debian.tar"))  # fmt: skip
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", build)
        engine.build(DEBIAN, IMAGES / "debian.Dockerfile", build)
        (build / "debian.tar").unlink()
    (build / "ignored").write_text(NOT_PYTHON)
    from_debian = f"--build-arg=DEBIAN={DEBIAN}"
    engine.build(names["python"], IMAGES / "python.Dockerfile", build, from_debian)
    engine.build(names["postgres"], IMAGES / "postgres.Dockerfile", build, from_debian)
    engine.build(
        names["astro-runtime"], IMAGES / "astro-runtime.Dockerfile", python_prefix(), from_debian,
        f"--ignorefile={build / 'ignored'}",
        f"--build-context=lock={folder}",
        f"--build-arg=LOCK={runtime.lock}",
        f"--build-arg=PACKAGES=apache-airflow=={runtime.airflow(folder)} {runtime.further}",
    )  # fmt: skip
    return names


@pytest.fixture(scope="session")
def image(engine: Engine, folder: Path, stand_ins: dict[str, str], figures: dict[str, Any]) -> str:
    """The project's image, built as `astro dev start` and `astro deploy` build it."""
    begin = time.monotonic()
    # Packages that requirements.txt does not pin are today's; no earlier build is reused.
    engine.build(PROJECT_IMAGE, folder / "Dockerfile", folder, "--no-cache")
    figures["build of the project's image, seconds"] = round(time.monotonic() - begin)
    figures["image sizes, MB"] = {
        name: round(engine.size(image) / 1e6)
        for name, image in {"project": PROJECT_IMAGE, **stand_ins}.items()
    }
    return PROJECT_IMAGE


@pytest.fixture(scope="session")
def stack(
    engine: Engine, runtime: Runtime, folder: Path, image: str, figures: dict[str, Any]
) -> Iterator[Stack]:
    """The services that the Astro CLI starts, with docker-compose.override.yml, until all are healthy."""
    ports = yaml.safe_load((folder / ".astro" / "config.yaml").read_text())
    web_port, postgres_port = ports["webserver"]["port"], ports["postgres"]["port"]
    override = yaml.safe_load((folder / "docker-compose.override.yml").read_text())
    published = [port.split(":")[1] for port in override["services"]["local-aws"]["ports"]]
    for port in map(int, (web_port, postgres_port, *published)):
        if port_is_taken(port):
            raise RuntimeError(f"Port {port}, on which the containers listen, is taken: end what has it.")
    for file in COMPOSE.iterdir():
        shutil.copy(file, folder)
    variables = {"PROJECT_IMAGE": image, "WEB_PORT": str(web_port), "POSTGRES_PORT": str(postgres_port)}
    compose = partial(
        engine.run, "podman-compose", "-p", PROJECT, "--in-pod", "false", "-f", "common.yml",
        "-f", f"airflow{runtime.version.number}.yml", "-f", "docker-compose.override.yml",
        folder=folder, variables=variables,
    )  # fmt: skip
    stack = Stack(compose, f"http://localhost:{web_port}", folder, runtime)
    compose("down", "--volumes")
    begin = time.monotonic()
    try:
        compose("up", "--detach")
        wait_until(lambda: get(stack.web_address) is not None, "Airflow's UI")
        figures["first page after up, seconds"] = round(time.monotonic() - begin)
        wait_until(lambda: stack.is_healthy, "Airflow's services")
        _load_settings(engine, folder)
        wait_until(lambda: is_healthy(engine, "local-aws"), "local AWS")
        figures["local AWS after up, seconds"] = round(time.monotonic() - begin)
        yield stack
    finally:
        (runtime.results / "services.log").write_text(compose("logs", "--no-color"))
        compose("down", "--volumes")


def _load_settings(engine: Engine, folder: Path) -> None:
    """Load airflow_settings.yaml into Airflow; the Astro CLI does this once the UI answers."""
    settings = yaml.safe_load((folder / "airflow_settings.yaml").read_text())["airflow"]
    assert settings.keys() == {"connections"}
    for connection in settings["connections"]:
        assert connection.keys() == {"conn_id", "conn_type"}
        engine.run(
            "podman", "exec", f"{PROJECT}_scheduler_1",
            "airflow", "connections", "add", connection["conn_id"], "--conn-type", connection["conn_type"],
        )  # fmt: skip


def switch(folder: Path, number: int) -> None:
    """Make the switch of docs/airflow3.md in the folder, or take it back, if it has the other Airflow."""
    apply = ["git", "apply", str(ROOT / "docs" / "airflow3.md")]
    undo = [*apply, "--reverse"]
    is_switched = subprocess.run([*undo, "--check"], cwd=folder, capture_output=True).returncode == 0
    if is_switched != (number == 3):
        subprocess.run(undo if is_switched else apply, cwd=folder, check=True)


def pins(requirements: Path) -> dict[str, str]:
    """Return the versions that a file of requirements pins, by name."""
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,]*\])?==([^\s;]+)", requirements.read_text(), re.MULTILINE))


def is_healthy(engine: Engine, service: str) -> bool:
    """Ask the health check of the service."""
    try:
        engine.run("podman", "healthcheck", "run", f"{PROJECT}_{service}_1")
    except RuntimeError:
        return False
    return True


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's value as soon as it is true.

    Raises:
        TimeoutError: it was not true within `TIMEOUT_SECONDS`.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {TIMEOUT_SECONDS} seconds for {what}; {RESULTS} has the logs.")
        time.sleep(1)
    return result
