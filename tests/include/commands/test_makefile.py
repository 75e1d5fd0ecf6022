"""The Makefile creates the environment, in a copy of the project whose lock names no package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from include.commands.environment import ROOT

STAMP = ".venv/.installed-from-lock"
ARCHIVE_STAMP = ".venv/.spark-classes-archived"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "a project"
    project.mkdir()
    shutil.copy(ROOT / "Makefile", project)
    for folder in (project, project / "dashboard"):
        folder.mkdir(exist_ok=True)
        (folder / "requirements-lock.txt").write_text("# no package\n")
    (project / "requirements-airflow3-lock.txt").write_text("# no package\n")
    (project / "requirements-uv.txt").write_text("# no uv, as where it cannot be had\n")
    return project


def _make(project: Path, *arguments: str, **of_shell: str) -> subprocess.CompletedProcess[str]:
    # The variables of a make that runs these tests are left out.
    ours = (
        "MAKEFLAGS",
        "MAKELEVEL",
        "MAKEOVERRIDES",
        "DATA",
        "DATES",
        "RUN",
        "AWS_PORT",
        "WEB_PORT",
        "DASHBOARD_PORT",
        "PYTHON",
        "AIRFLOW",
    )
    environment = {name: value for name, value in os.environ.items() if name not in ours} | of_shell
    return subprocess.run(["make", *arguments], cwd=project, env=environment, capture_output=True, text=True)


def test_help_names_every_command(project: Path) -> None:
    listed = [line.split()[0] for line in _make(project).stdout.splitlines() if line.startswith("  ")]

    assert listed == [
        "help",
        "run",
        "reprocess",
        "redrive",
        "replay",
        "forget",
        "up",
        "dashboard",
        "down",
        "doctor",
        "sql",
        "smoke",
        "test",
        "test-fast",
        "test-faults",
        "test-browser",
        "test-s3a",
        "test-airflow3",
        "test-containers",
        "bench",
        "bench-quick",
        "lint",
        "fix",
        "lock",
        "clean",
    ]


def test_environment_is_made_once_and_again_when_it_is_not_whole(project: Path) -> None:
    python = f"PYTHON={sys.executable}"
    left_behind = project / ".venv" / "left behind"

    made = _make(project, STAMP, python)
    assert made.returncode == 0
    assert "Installing with pip instead" in made.stdout
    left_behind.touch()
    assert "Making" not in _make(project, STAMP, python).stdout
    assert left_behind.exists()

    (project / STAMP).unlink()
    assert "Creating the Python environment" in _make(project, STAMP, python).stdout
    assert not left_behind.exists()

    left_behind.touch()
    stamp = (project / STAMP).stat().st_mtime
    os.utime(project / "requirements-lock.txt", (stamp + 60, stamp + 60))
    assert "Creating the Python environment" in _make(project, STAMP, python).stdout
    assert not left_behind.exists()


def test_dashboard_has_an_environment_of_its_own(project: Path) -> None:
    done = _make(project, ".venv-dashboard/.installed-from-lock", f"PYTHON={sys.executable}")

    assert (
        "Creating the Python environment in .venv-dashboard from dashboard/requirements-lock.txt"
        in done.stdout
    )
    assert not (project / ".venv").exists()


def test_failed_installation_is_not_taken_for_an_environment(project: Path) -> None:
    (project / "requirements-lock.txt").write_text("no hash==1.0\n")

    assert _make(project, STAMP, f"PYTHON={sys.executable}").returncode != 0
    assert not (project / STAMP).exists()


@pytest.mark.parametrize("python", ["no-such-python", "false", ""])
def test_wrong_python_is_an_error_with_the_remedy(project: Path, python: str) -> None:
    done = _make(project, STAMP, f"PYTHON={python}")

    assert done.returncode != 0
    assert "Python 3.11 or 3.12 is needed" in done.stderr
    assert "make PYTHON=/path/to/python3.11" in done.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("data", ["with space", "$HOME", "a$b", 'quo"te', "it's", "`id`"])
def test_data_folder_is_handed_on_as_it_is(project: Path, data: str) -> None:
    _install_python_that_shows_its_arguments(project)

    done = _make(project, "run", f"DATA={data}")

    assert done.stdout == f"<-m><include.commands><run><--aws-port><5555><--><{data}>"


def test_names_on_the_command_line_are_handed_on_and_those_of_the_shell_are_not(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = _install_python_that_shows_its_arguments(project)
    python.write_text('#!/bin/sh\necho "$GIVEN_SETTINGS; $KPI_TABLE_NAME"\n')
    monkeypatch.setenv("KPI_TABLE_NAME", "of the shell")

    assert _make(project, "run").stdout == "; of the shell\n"
    given = _make(project, "up", "MAX_REJECTED_FRACTION=0.2", "KPI_TABLE_NAME=my kpis", "DATA=folder")
    names, value = given.stdout.rstrip("\n").split("; ")
    assert sorted(names.split()) == ["DATA", "KPI_TABLE_NAME", "MAX_REJECTED_FRACTION"]
    assert value == "my kpis"


def test_days_and_run_key_are_handed_on_as_they_are(project: Path) -> None:
    _install_python_that_shows_its_arguments(project)
    start = "<-m><include.commands>"

    done = _make(project, "reprocess", "DATES=2024-06-25, $x", "DATA=my data", "AWS_PORT=1")
    assert done.stdout == f"{start}<reprocess><--aws-port><1><--><2024-06-25, $x><my data>"
    assert _make(project, "reprocess").stdout == f"{start}<reprocess><--aws-port><5555><--><><>"

    assert _make(project, "redrive", "RUN=a$b").stdout == f"{start}<redrive><--aws-port><5555><--><a$b>"
    assert _make(project, "redrive").stdout == f"{start}<redrive><--aws-port><5555><--><>"

    done = _make(project, "replay", "DATES=2024-06-01..$x", "RUN=a$b", "YES=yes", "AWS_PORT=1")
    assert done.stdout == f"{start}<replay><--aws-port><1><--yes><--><2024-06-01..$x><a$b>"
    assert _make(project, "replay").stdout == f"{start}<replay><--aws-port><5555><--><><>"

    done = _make(project, "sql", "QUERY=SELECT '$x' \"y\"", "FORMAT=csv")
    assert done.stdout == "<-m><include.sql><--aws-port><5555><--format><csv><--><SELECT '$x' \"y\">"

    done = _make(project, "forget", "USER=a$b,c", "FILE=my ids.txt", "YES=yes", "REFUSE=yes")
    assert done.stdout == f"{start}<forget><--aws-port><5555><--yes><--refuse><--><a$b,c><my ids.txt>"
    # The shell's USER is the name of its user.
    assert _make(project, "forget").stdout == f"{start}<forget><--aws-port><5555><--><><>"


@pytest.mark.parametrize("status", [0, 1])
def test_classes_are_archived_once_and_make_continues_if_java_cannot(project: Path, status: int) -> None:
    python = _install_python_that_shows_its_arguments(project)
    (project / ARCHIVE_STAMP).unlink()
    python.write_text(python.read_text() + f'case "$2" in *class_archive) exit {status};; esac\n')

    first, second = _make(project, "run"), _make(project, "run")

    run = "<-m><include.commands><run><--aws-port><5555><--><>"
    assert "<-m><include.local_aws.class_archive>" in first.stdout
    assert (f"To try again: rm {ARCHIVE_STAMP}" in first.stdout) == bool(status)
    assert first.stdout.endswith(run)
    assert second.stdout == run


@pytest.mark.parametrize(
    "command",
    ["run", "reprocess", "forget", "up", "test", "test-fast", "test-faults", "test-browser", "bench"],
)
def test_commands_that_start_spark_archive_its_classes_before(project: Path, command: str) -> None:
    _install_python_that_shows_its_arguments(project)
    (project / ARCHIVE_STAMP).unlink()
    assert "include.local_aws.class_archive" in _make(project, "--dry-run", command).stdout


def test_airflow_3_has_an_environment_of_its_own(project: Path) -> None:
    _install_python_that_shows_its_arguments(project)
    of_airflow3 = project / ".venv-airflow3"
    (project / ".venv").rename(of_airflow3)
    (project / "requirements-airflow3-lock.txt").write_text("# no package\n")
    for stamp in (STAMP, ARCHIVE_STAMP):
        (of_airflow3 / Path(stamp).name).touch()

    for command in ("run", "up"):
        assert _make(project, command, "AIRFLOW=3").stdout.startswith(f"<-m><include.commands><{command}>")
    assert _make(project, "down").stdout == "<-m><include.commands><down>"
    assert not (project / ".venv").exists()


def test_airflow_of_the_shell_is_ignored(project: Path) -> None:
    _install_python_that_shows_its_arguments(project)

    done = _make(project, "run", AIRFLOW="/opt/airflow")

    assert done.stdout == "<-m><include.commands><run><--aws-port><5555><--><>"


@pytest.mark.parametrize("number", ["4", "2.10", "", "2 3"])
def test_other_version_of_airflow_is_refused(project: Path, number: str) -> None:
    done = _make(project, "up", f"AIRFLOW={number}")

    assert done.returncode != 0
    assert f"AIRFLOW is '{number}', but it must be 2 or 3" in done.stderr
    assert done.stdout == ""


def test_command_that_does_not_take_airflow_refuses_it(project: Path) -> None:
    done = _make(project, "test", "AIRFLOW=3")

    assert done.returncode != 0
    assert "make test does not take AIRFLOW; make test-airflow3 tests on Airflow 3" in done.stderr


def test_down_makes_no_environment(project: Path) -> None:
    assert _make(project, "down").stdout == "Nothing was running.\n"
    assert not (project / ".venv").exists()


def _install_python_that_shows_its_arguments(project: Path) -> Path:
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor argument in "$@"; do printf "<%s>" "$argument"; done\n')
    python.chmod(0o755)
    (project / STAMP).touch()
    (project / ARCHIVE_STAMP).touch()
    (project / ".venv-dashboard").mkdir()
    (project / ".venv-dashboard" / ".installed-from-lock").touch()
    return python
