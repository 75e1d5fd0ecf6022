"""Airflow's time to parse the DAG file, compared with a DAG of as many tasks that imports only Airflow."""

from __future__ import annotations

import sys
from pathlib import Path

from include.commands.environment import DAGS_DIR, PLUGINS_DIR
from tests.benchmarks.harness import Contender, Measurement, alternate

PART = "dag_parsing"
SIZES = ("1",)
BARE_DAG = """
from datetime import datetime
from airflow.decorators import dag, task

@dag(schedule="@daily", start_date=datetime(2024, 6, 1), catchup=False)
def bare():
    previous = None
    for number in range(11):
        @task(task_id=f"task_{number}")
        def empty(): ...
        current = empty()
        if previous is not None:
            previous >> current
        previous = current

bare()
"""
# Airflow is imported before the measurement, because the scheduler parses each file in a fork that has it.
PARSE = """
import json, sys, time
import airflow.models.dagbag
from airflow.decorators import dag, task
started = time.monotonic()
bag = airflow.models.dagbag.DagBag(sys.argv[1])
seconds = time.monotonic() - started
assert bag.dags and not bag.import_errors, bag.import_errors
print()
print(json.dumps({"seconds": seconds}))
"""


def check_size(size: str) -> None:
    """Refuse another size than "1", the one DAG file.

    Raises:
        ValueError: another size was given.
    """
    if size != "1":
        raise ValueError(f"{size} is no size; there is one DAG file, 1")


def measure(size: str, repeat: int, folder: Path) -> list[Measurement]:
    """Measure the first parse in a new process."""
    (folder / "bare").mkdir()
    (folder / "bare" / "bare.py").write_text(BARE_DAG)
    environment = {
        "PYTHONPATH": str(DAGS_DIR),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS_DIR),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "SOURCE_BUCKET_NAME": "source",
        "INTERMEDIATE_BUCKET_NAME": "intermediate",
        "ARCHIVE_BUCKET_NAME": "archive",
    }
    contenders = [
        Contender(name, [sys.executable, "-W", "ignore", "-c", PARSE, str(dags)], environment)
        for name, dags in (("the pipeline's DAG", DAGS_DIR), ("a bare DAG", folder / "bare"))
    ]
    return alternate(PART, "first parse in a process", contenders, repeat)
