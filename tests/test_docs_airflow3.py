"""The patches of docs/airflow3.md apply to this version; `make test-containers` runs what they make."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from local_aws_support import REPOSITORY
from tests.containers.conftest import COMPOSE, pins, switch

CHANGED = ("Dockerfile", "requirements.txt", "docker-compose.override.yml")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files that the switch changes, before it; a project that has made it stays testable."""
    for name in CHANGED:
        shutil.copy(REPOSITORY / name, tmp_path)
    switch(tmp_path, 2)
    return tmp_path


def test_switch_changes_three_files_and_can_be_undone(project: Path) -> None:
    before = {name: (project / name).read_text() for name in CHANGED}

    switch(project, 3)
    switched = {name: (project / name).read_text() for name in CHANGED}
    switch(project, 2)

    assert {name for name in CHANGED if switched[name] != before[name]} == set(CHANGED)
    assert {name: (project / name).read_text() for name in CHANGED} == before


def test_switched_requirements_are_what_the_tests_of_airflow_3_ran_with(project: Path) -> None:
    switch(project, 3)

    locked = pins(REPOSITORY / "requirements-airflow3-lock.txt")
    assert pins(project / "requirements.txt").items() <= locked.items()


def test_switched_override_extends_services_that_airflow_3_has(project: Path) -> None:
    switch(project, 3)

    override = yaml.safe_load((project / "docker-compose.override.yml").read_text())["services"]
    extended = {name for name, service in override.items() if "image" not in service}
    services = yaml.safe_load((COMPOSE / "airflow3.yml").read_text())["services"]
    assert extended == services.keys() - {"db-migration"}
