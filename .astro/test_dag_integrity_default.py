"""The test of `astro dev parse`: every DAG file can be imported without any configuration.

The Astro CLI calls this file by its name, inside the project's image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from airflow.models import DagBag

PROJECT = Path(__file__).resolve().parents[1]
EXCEPTIONS_FILE = PROJECT / ".astro" / "dag_integrity_exceptions.txt"
# These variables give locations and do not configure the pipeline. Airflow reads the AIRFLOW__ ones itself.
NEEDED_VARIABLES = ("AIRFLOW_HOME", "HOME", "PATH", "TMPDIR")


@pytest.fixture(scope="module")
def dag_bag() -> Iterator[DagBag]:
    """Parse `dags/` without the variables of `.env`, which the CLI passes to this test if the file exists."""
    bare = {
        name: value
        for name, value in os.environ.items()
        if name in NEEDED_VARIABLES or name.startswith("AIRFLOW__")
    }
    bare["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    with mock.patch.dict(os.environ, bare, clear=True):
        yield DagBag(dag_folder=PROJECT / "dags")


def excepted_files() -> set[str]:
    lines = (line.strip() for line in EXCEPTIONS_FILE.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line and not line.startswith("#")}


def test_every_dag_file_imports_without_configuration(dag_bag: DagBag) -> None:
    broken = {
        name: error
        for path, error in dag_bag.import_errors.items()
        if (name := str(Path(path).relative_to(PROJECT))) not in excepted_files()
    }

    assert not broken, "\n\n".join(f"{name} does not import:\n{error}" for name, error in broken.items())


def test_there_are_dags_to_parse(dag_bag: DagBag) -> None:
    assert dag_bag.dags, f"No DAG was found in {PROJECT / 'dags'}."
