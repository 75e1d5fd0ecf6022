"""The GitHub Actions workflow runs .ci/run on both Pythons, with no more rights than it needs."""

import os
import re
import tomllib
from typing import Any

import pytest
import yaml

from local_aws_support import REPOSITORY

FILE = REPOSITORY / ".github" / "workflows" / "ci.yml"


@pytest.fixture
def workflow() -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def test_workflow_runs_the_projects_own_check(workflow: dict[Any, Any]) -> None:
    commands = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]

    assert commands == [".ci/run"]
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)


def test_workflow_runs_on_every_python_that_the_project_takes(workflow: dict[Any, Any]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    versions = workflow["jobs"]["check"]["strategy"]["matrix"]["python"]

    assert project["requires-python"] == ">=3.11,<3.13"
    assert versions == ["3.11", "3.12"]


def test_packages_are_cached_by_every_lock_of_the_project(workflow: dict[Any, Any]) -> None:
    [paths] = [
        step["with"]["cache-dependency-path"].split()
        for step in workflow["jobs"]["check"]["steps"]
        if "cache-dependency-path" in step.get("with", {})
    ]

    locks = [*REPOSITORY.glob("requirements-lock.txt"), *REPOSITORY.glob("[a-z]*/requirements-lock.txt")]
    assert sorted(paths) == sorted(str(lock.relative_to(REPOSITORY)) for lock in locks)


def test_workflow_may_only_read(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())


def test_actions_are_pinned_to_a_commit_and_say_which_version_it_is() -> None:
    used = re.findall(r"uses: (.+)", FILE.read_text())

    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
