"""Each outcome of a run, with a small DAG in an Airflow of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from include.commands.environment import airflow_environment

DAG = """
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.decorators import dag, task
from airflow.exceptions import AirflowFailException, AirflowSkipException


@task
def numbers(*, params=None):
    print("printed by a task")
    if os.environ["BEHAVIOUR"] == "nothing to do":
        raise AirflowSkipException
    return params["numbers"]


@task(retries=1, retry_delay=timedelta(hours=1))
def double(number):
    if os.environ["BEHAVIOUR"] == "fail" and number == 2:
        raise AirflowFailException("cannot double 2")
    attempted = Path(os.environ["AIRFLOW_HOME"], str(number))
    if os.environ["BEHAVIOUR"] == "fail once" and not attempted.exists():
        attempted.touch()
        raise ValueError("the first attempt")
    return 2 * number


@task
def total(doubled):
    return sum(doubled)


@dag(
    dag_id="music_streaming_pipeline",
    schedule=None,
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    params={"numbers": [1, 2]},
)
def pipeline():
    total(double.expand(number=numbers()))


pipeline()
"""

PROGRAM = """
import json, sys
from pathlib import Path
from include.commands import pipeline_run
from include.commands.errors import UserError
from include.commands.terminal import open_console, output_to

console = open_console()
folder = Path(sys.argv[1])
pipeline_run.DAGS_DIR = folder / "dags"
ended = []

def on_end(label, state, seconds):
    ended.append([label, state, seconds is not None])

try:
    with output_to(folder / "run.log"):
        for conf in json.loads(sys.argv[2]):
            outcome = pipeline_run.run_pipeline(lambda label: None, on_end, conf)
    console.print_json(json.dumps({**vars(outcome), "ended": ended}))
except UserError as error:
    console.print_json(json.dumps({"error": str(error)}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "pipeline.py").write_text(DAG)
    return tmp_path


def _run(folder: Path, behaviour: str = "", confs: Sequence[dict[str, Any]] = ({},)) -> dict[str, Any]:
    environment = airflow_environment(os.environ, 5555, {"BEHAVIOUR": behaviour}, folder / "home")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), json.dumps(confs)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # Airflow's output is in the log; the command's own output is clean.
    outcome: dict[str, Any] = json.loads(done.stdout)
    assert done.stderr == ""
    return outcome


def test_every_task_of_a_good_run_is_reported_once(folder: Path) -> None:
    outcome = _run(folder)

    assert outcome["state"] == "success"
    assert outcome["errors"] == {}
    assert sorted(outcome["ended"]) == [
        ["double [0]", "success", True],
        ["double [1]", "success", True],
        ["numbers", "success", True],
        ["total", "success", True],
    ]
    assert outcome["run_id"].startswith("manual__")
    assert "printed by a task" in (folder / "run.log").read_text()


def test_parameters_reach_the_tasks_of_each_run_of_the_process(folder: Path) -> None:
    outcome = _run(folder, confs=[{"numbers": [5]}, {"numbers": []}])

    labels = [label for label, _, _ in outcome["ended"]]
    assert sorted(labels[:3]) == ["double [0]", "numbers", "total"]
    assert sorted(labels[3:]) == ["double", "numbers", "total"]


def test_failed_run_names_the_task_and_its_error(folder: Path) -> None:
    outcome = _run(folder, "fail")

    assert outcome["state"] == "failed"
    assert outcome["errors"] == {"double [1]": "cannot double 2"}
    assert ["double [1]", "failed", True] in outcome["ended"]
    assert ["total", "upstream failed", False] in outcome["ended"]
    assert "cannot double 2" in (folder / "run.log").read_text()


def test_retry_does_not_wait_for_the_dags_delay(folder: Path) -> None:
    outcome = _run(folder, "fail once")

    assert outcome["state"] == "success"
    assert outcome["errors"] == {}
    states = [state for label, state, _ in outcome["ended"] if label == "double [0]"]
    assert states == ["retry", "success"]


def test_run_with_nothing_to_do_is_skipped(folder: Path) -> None:
    outcome = _run(folder, "nothing to do")

    assert outcome["state"] == "skipped"
    assert outcome["errors"] == {}
    assert outcome["ended"][0] == ["numbers", "skipped", False]


def test_dag_that_cannot_be_imported_is_an_error_with_the_reason(folder: Path) -> None:
    (folder / "dags" / "pipeline.py").write_text("import no_such_module_of_ours  # airflow dag\n")

    assert "No module named 'no_such_module_of_ours'" in _run(folder)["error"]


def test_missing_dag_is_named(folder: Path) -> None:
    (folder / "dags" / "pipeline.py").unlink()

    assert "There is no DAG music_streaming_pipeline" in _run(folder)["error"]
