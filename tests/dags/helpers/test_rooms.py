"""The map in `helpers` is right: tasks import rooms, rooms import no task, and the contract stands alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import helpers
from local_aws_support import REPOSITORY

DAGS = REPOSITORY / "dags"
HELPERS = DAGS / "helpers"
ROOMS = {path.parent.name for path in HELPERS.glob("*/__init__.py")}
TASKS = {path.stem for path in HELPERS.glob("*.py")} - {"__init__", "errors"}
MODULES = sorted(path.relative_to(HELPERS).as_posix() for path in HELPERS.rglob("*.py"))
IN_CONTRACT = [path for path in MODULES if path.startswith("contract/")]


def imported(path: str, at_module_level: bool = False) -> set[str]:
    """Return the names of the modules that a module imports, below `helpers` without that prefix."""
    tree = ast.parse((HELPERS / path).read_text())
    names: set[str] = set()
    for node in tree.body if at_module_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "helpers":
            names |= {f"helpers.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return names


@pytest.mark.parametrize("path", MODULES)
def test_only_the_dag_imports_a_task(path: str) -> None:
    others = TASKS - {Path(path).stem} if "/" not in path else TASKS

    assert imported(path) & {f"helpers.{task}" for task in others} == set()


@pytest.mark.parametrize("path", IN_CONTRACT)
def test_contract_imports_the_standard_library_and_itself(path: str) -> None:
    foreign = {
        name
        for name in imported(path, at_module_level=True)
        if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith("helpers.contract.")
    }

    assert foreign == set()


def test_contract_is_read_without_airflow_boto3_and_pandas() -> None:
    names = ", ".join(f"helpers.contract.{Path(path).stem}" for path in IN_CONTRACT)
    code = (
        f"import sys; sys.path.insert(0, {str(DAGS)!r}); import {names}\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'airflow', 'boto3', 'pandas', 'pyarrow'})"
    )

    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert process.stdout == "set()\n"


def test_map_names_every_task_and_room() -> None:
    named = {line.split("`")[1] for line in str(helpers.__doc__).splitlines() if line.startswith("- `")}

    assert named == TASKS | ROOMS
