"""The project's image and the services of `astro dev start`, built from packages of Debian and PyPI."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from include.commands.environment import LOCAL_DIR, ROOT, UI_PASSWORD, UI_USER
from include.commands.services import get, port_is_taken
from tests.containers.engine import Engine, python_prefix

IMAGES = Path(__file__).parent / "images"
DEBIAN = "localhost/music-streaming-pipeline/debian:12"
PROJECT = "music-streaming-pipeline-test"
PROJECT_IMAGE = f"localhost/{PROJECT}/airflow:latest"
# Measurements and all logs are kept for the reader.
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
class Stack:
    """All services, running.

    Attributes:
        compose: runs podman-compose with its arguments and returns its output.
        web_address: address of Airflow's UI.
        folder: the copy of the project that is mounted.
    """

    compose: Callable[..., str]
    web_address: str
    folder: Path

    def api(self, method: str, path: str, **arguments: Any) -> Any:
        """Call Airflow's REST API and return its answer, JSON or text."""
        response = requests.request(
            method, f"{self.web_address}/api/v1/{path}", auth=(UI_USER, UI_PASSWORD), timeout=60, **arguments
        )
        response.raise_for_status()
        return response.json() if "json" in response.headers["Content-Type"] else response.text


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[str, Any]]:
    """The measurements of the tests; `make test-containers` shows them."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    figures: dict[str, Any] = {}
    yield figures
    (RESULTS / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project in the state of a fresh clone with .env.example copied."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    # A fresh clone has no files that git ignores.
    ignored = shutil.ignore_patterns(".git", ".venv*", ".local", ".*_cache", ".hypothesis", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=ignored)
    (folder / "plugins").mkdir(exist_ok=True)
    shutil.copy(folder / ".env.example", folder / ".env")
    # The containers that mount it run as another user.
    folder.parent.chmod(0o755)
    folder.parent.parent.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def stand_ins(engine: Engine, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Images under the names that the project requests from a registry, by the image that they replace."""
    override = yaml.safe_load((folder / "docker-compose.override.yml").read_text())
    compose = yaml.safe_load((Path(__file__).parent / "docker-compose.yml").read_text())
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
    runtime = (from_debian, f"--ignorefile={build / 'ignored'}", f"--build-context=lock={folder}")
    engine.build(names["astro-runtime"], IMAGES / "astro-runtime.Dockerfile", python_prefix(), *runtime)
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
def stack(engine: Engine, folder: Path, image: str, figures: dict[str, Any]) -> Iterator[Stack]:
    """The services that the Astro CLI starts, with docker-compose.override.yml, until all are healthy."""
    ports = yaml.safe_load((folder / ".astro" / "config.yaml").read_text())
    web_port, postgres_port = ports["webserver"]["port"], ports["postgres"]["port"]
    override = yaml.safe_load((folder / "docker-compose.override.yml").read_text())
    published = [port.split(":")[1] for port in override["services"]["local-aws"]["ports"]]
    for port in map(int, (web_port, postgres_port, *published)):
        if port_is_taken(port):
            raise RuntimeError(f"Port {port}, on which the containers listen, is taken: end what has it.")
    shutil.copy(Path(__file__).parent / "docker-compose.yml", folder)
    variables = {"PROJECT_IMAGE": image, "WEB_PORT": str(web_port), "POSTGRES_PORT": str(postgres_port)}
    files = ("-f", "docker-compose.yml", "-f", "docker-compose.override.yml")
    compose = partial(
        engine.run, "podman-compose", "-p", PROJECT, "--in-pod", "false", *files,
        folder=folder, variables=variables,
    )  # fmt: skip
    stack = Stack(compose, f"http://localhost:{web_port}", folder)
    compose("down", "--volumes")
    begin = time.monotonic()
    try:
        compose("up", "--detach")
        wait_until(lambda: get(f"{stack.web_address}/login/") is not None, "Airflow's UI")
        figures["first page after up, seconds"] = round(time.monotonic() - begin)
        _load_settings(engine, folder)
        wait_until(lambda: is_healthy(engine, "local-aws"), "local AWS")
        figures["local AWS after up, seconds"] = round(time.monotonic() - begin)
        yield stack
    finally:
        (RESULTS / "services.log").write_text(compose("logs", "--no-color"))
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
