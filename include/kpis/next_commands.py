"""The next commands after a run: for local AWS, with its port, and for a deployment on AWS."""

from __future__ import annotations

import os
from typing import NamedTuple

from include.kpis.runs import Run, State

# `make dashboard` sets it to what make needs to find the local AWS that is shown, such as ` AWS_PORT=5600`.
# It is empty for the default port, and not set for AWS.
MAKE_OPTIONS_VARIABLE = "DASHBOARD_MAKE_OPTIONS"
TRIGGER = "airflow dags trigger music_streaming_pipeline"


class NextCommand(NamedTuple):
    """A command, and when it is the right one."""

    when: str
    command: str


# After a failure, by section of docs/runbook.md: when, the command for local AWS, and that for AWS. Any other
# section has `_OTHERWISE`: on AWS, its failed task is cleared in Airflow.
_DOCTOR = (("to find what is missing", "make doctor", ".venv/bin/python -m include.doctor"),)
_OTHERWISE = (("once the cause is fixed", "make run", ""),)
_BY_SECTION = {
    "a-setting-or-a-resource-is-missing": _DOCTOR + _OTHERWISE,
    "aws-refused-or-did-not-answer": _DOCTOR + _OTHERWISE,
    "a-catalog-is-missing-or-wrong": (
        ("with the corrected catalog in the folder", "make run DATA=folder", TRIGGER),
    ),
    "a-check-stopped-the-run": (
        ("with what the reason names corrected in the folder", "make run DATA=folder", TRIGGER),
        (
            "if the data is right as it is",
            "make run ACCEPT_CHECKS=yes",
            f"{TRIGGER} --conf '{{\"accept_checks\": true}}'",
        ),
    ),
    "the-days-to-reprocess-are-wrong": (
        (
            "with days that have listens",
            "make reprocess DATES=2024-06-25",
            f'{TRIGGER} --conf \'{{"reprocess_dates": "2024-06-25"}}\'',
        ),
    ),
}


def next_commands(run: Run) -> list[NextCommand]:
    """Return the commands that suit the state of the run; none if there is nothing to do."""
    if run.report and (run.report.rejected or run.report.quarantined):
        when = "to fetch the quarantined data and, once corrected, to bring it back"
        return [NextCommand(when, redrive_command(run.run_key))]
    if run.state != State.FAILED:
        return []
    choices = _BY_SECTION.get(run.section, _OTHERWISE)
    commands = (NextCommand(when, make(local) or on_aws) for when, local, on_aws in choices)
    return [command for command in commands if command.command]


def redrive_command(run_key: str) -> str:
    """Return the command that fetches what the run put into quarantine, and brings it back corrected."""
    return make(f"make redrive RUN={run_key}") or f".venv/bin/python -m include.redrive {run_key}"


def run_command() -> str:
    """Return the command that starts a run of the files that wait."""
    return make("make run") or TRIGGER


def make(command: str) -> str:
    """Return the make command with what it needs to find local AWS; empty if AWS is shown."""
    options = os.environ.get(MAKE_OPTIONS_VARIABLE)
    return "" if options is None else f"{command}{options}"
