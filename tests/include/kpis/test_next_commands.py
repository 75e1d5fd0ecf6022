from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from helpers import errors
from include.kpis.next_commands import _BY_SECTION, MAKE_OPTIONS_VARIABLE, next_commands, run_command
from include.kpis.runs import Run, State
from local_aws_support import REPOSITORY

NOW = datetime(2024, 6, 26, tzinfo=UTC)
FAILED = Run("run-1", "manual__1", State.FAILED, began=NOW, ended=NOW, section="any-other-failure")


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAKE_OPTIONS_VARIABLE, " AWS_PORT=5611")


def commands(run: Run) -> list[str]:
    return [choice.command for choice in next_commands(run)]


def test_commands_for_local_aws_name_its_port(local: None) -> None:
    stopped = replace(FAILED, section="a-check-stopped-the-run")

    assert commands(FAILED) == ["make run AWS_PORT=5611"]
    assert commands(stopped) == [
        "make run DATA=folder AWS_PORT=5611",
        "make run ACCEPT_CHECKS=yes AWS_PORT=5611",
    ]
    assert run_command() == "make run AWS_PORT=5611"


def test_default_port_needs_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAKE_OPTIONS_VARIABLE, "")

    assert commands(FAILED) == ["make run"]


def test_commands_for_aws_need_no_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MAKE_OPTIONS_VARIABLE, raising=False)
    missing = replace(FAILED, section="a-setting-or-a-resource-is-missing")

    assert commands(FAILED) == [], "the failed task is cleared in Airflow, as its next step says"
    assert commands(missing) == [".venv/bin/python -m include.doctor"]
    assert run_command() == "airflow dags trigger music_streaming_pipeline"


@pytest.mark.parametrize("state", [state for state in State if state != State.FAILED])
def test_run_that_did_not_fail_needs_no_command(state: State, local: None) -> None:
    assert commands(replace(FAILED, state=state)) == []


def test_sections_are_those_of_the_pipeline_s_errors() -> None:
    advice = [errors.AWS_ADVICE, errors.OTHER_ADVICE]
    advice += [error.advice for error in vars(errors).values() if hasattr(error, "advice")]

    assert {each.section for each in advice} >= _BY_SECTION.keys()


def test_make_commands_are_in_the_makefile() -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)

    local_commands = [local for choices in _BY_SECTION.values() for _, local, _ in choices]
    assert {command.split()[1] for command in local_commands} <= set(targets)
