"""Settings on the command line of make, from the documented table to what Airflow sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from include.commands import command_settings, scheduler
from include.commands.__main__ import main
from include.commands.airflow_version import VERSIONS
from include.commands.environment import airflow_environment
from include.commands.errors import UserError
from include.commands.local_aws import LocalAws
from include.commands.services import Service, recorded_services
from include.local_aws.provision import read_template
from tests.test_dotenv_example import example

TAKEN_BY_RUN = {
    "ARCHIVE_STORAGE_CLASS",
    "GLUE_NUMBER_OF_WORKERS",
    "GLUE_SCRIPT_LOCATION",
    "GLUE_WORKER_TYPE",
    "MAX_CATALOG_AGE_DAYS",
    "MAX_CATALOG_SHRINKAGE",
    "MAX_QUARANTINED_FRACTION",
    "MAX_REJECTED_FRACTION",
    "MAX_UNMATCHED_FRACTION",
    "RUNBOOK_URL",
}
TAKEN = {
    "run": TAKEN_BY_RUN,
    "up": TAKEN_BY_RUN | {"PIPELINE_SCHEDULE", "QUIET_MINUTES", "SENSOR_TIMEOUT_MINUTES"},
}


# `.env.example` has the names of the documented table; tests/test_dotenv_example.py compares them.
@pytest.mark.parametrize("name", example())
@pytest.mark.parametrize("command", ["run", "up"])
def test_documented_setting_takes_effect_or_is_refused(
    command: str,
    name: str,
    local_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(command_settings.GIVEN_SETTINGS, name)
    if name in TAKEN[command]:
        command_settings.refuse_what_has_no_effect(command, os.environ)

        deployed = {output["Description"]: "local" for output in read_template()["Outputs"].values()}
        assert airflow_environment({name: "given"}, 5555, deployed, tmp_path)[name] == "given"
    else:
        # Called before `main`, which would start everything if it were not refused.
        with pytest.raises(UserError, match=rf"(?m)^{name}: .*\. Leave it out; "):
            command_settings.refuse_what_has_no_effect(command, os.environ)

        assert main([command]) == 1
        assert f"Error: make {command} does not accept these settings." in capfd.readouterr().err
        assert recorded_services() == []


def test_mistyped_setting_is_refused_with_the_name_that_it_resembles() -> None:
    given = {command_settings.GIVEN_SETTINGS: "KPI_TABLE JAVA_TOOL_OPTIONS MAX_REJECTED_FRACTIONS"}

    with pytest.raises(UserError) as refused:
        command_settings.refuse_what_has_no_effect("run", given)

    assert str(refused.value).splitlines()[1:] == [
        "KPI_TABLE: no setting has this name; KPI_TABLE_NAME is like it.",
        "MAX_REJECTED_FRACTIONS: no setting has this name; MAX_REJECTED_FRACTION is like it.",
    ]


@pytest.mark.parametrize(
    ("version", "command", "name", "schedule", "reason"),
    [
        (3, "run", "files", "", "files start runs under make up AIRFLOW=3 only"),
        (2, "up", "files", "", "files start runs under make up AIRFLOW=3 only"),
        (3, "up", "my files", "", "the name of a queue has 1 to 80 letters"),
        (3, "up", "files.fifo", "", "the name of a queue has 1 to 80 letters"),
        (3, "up", "files", "@continuous", "PIPELINE_SCHEDULE needs times"),
    ],
)
def test_queue_that_could_start_no_runs_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: int, command: str, name: str, schedule: str, reason: str
) -> None:
    monkeypatch.setattr(command_settings, "AIRFLOW", VERSIONS[version])
    given = {"STREAMS_QUEUE": name, "PIPELINE_SCHEDULE": schedule}

    with pytest.raises(UserError, match=f"STREAMS_QUEUE: .*{reason}"):
        command_settings.refuse_what_has_no_effect(
            command, given | {command_settings.GIVEN_SETTINGS: "STREAMS_QUEUE"}
        )


def test_queue_is_accepted_where_files_start_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_settings, "AIRFLOW", VERSIONS[3])
    given = {"STREAMS_QUEUE": "music-files_2", command_settings.GIVEN_SETTINGS: "STREAMS_QUEUE"}

    command_settings.refuse_what_has_no_effect("up", given)


def test_all_refused_settings_are_named_at_once() -> None:
    given = {command_settings.GIVEN_SETTINGS: "KPI_TABLE_NAME DATA AWS_PORT GLUE_JOB_NAME"}

    with pytest.raises(UserError) as refused:
        command_settings.refuse_what_has_no_effect("up", given)

    named = [line.split(":")[0] for line in str(refused.value).splitlines()[1:]]
    assert named == ["DATA", "GLUE_JOB_NAME", "KPI_TABLE_NAME"]


def test_names_in_the_shell_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_shell = {"KPI_TABLE_NAME": "real"}

    command_settings.refuse_what_has_no_effect("run", {**in_the_shell, command_settings.GIVEN_SETTINGS: ""})
    command_settings.refuse_what_has_no_effect("run", in_the_shell)


def test_settings_come_too_late_for_what_is_running(
    local_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(600)")
    for name in ("scheduler", "triggerer", "webserver_8123_on_aws_5999", "local_aws_5999"):
        Service(name).start("sleeper", [], os.environ | {"PYTHONPATH": str(tmp_path)})

    monkeypatch.setenv(command_settings.GIVEN_SETTINGS, "AWS_PORT PIPELINE_SCHEDULE")
    with pytest.raises(UserError, match=r"takes PIPELINE_SCHEDULE only when it starts\. First: make down"):
        scheduler.up(LocalAws(5999, console), 8123, 8599)

    monkeypatch.setenv(command_settings.GIVEN_SETTINGS, "LOCAL_AWS_DRIVER_MEMORY")
    with pytest.raises(UserError, match="takes LOCAL_AWS_DRIVER_MEMORY only when it starts"):
        LocalAws(5999, console).ensure_running("run")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PIPELINE_SCHEDULE", "hourly", r"PIPELINE_SCHEDULE is 'hourly'; it must be .* such as '\*/30 "),
        ("PIPELINE_SCHEDULE", "61 * * * *", "PIPELINE_SCHEDULE is '61"),
        ("MAX_REJECTED_FRACTION", "5%", "MAX_REJECTED_FRACTION is '5%'; it must be a number from 0 to 1"),
        ("QUIET_MINUTES", "5m", "QUIET_MINUTES is '5m'; it must be a number from 0 to 1440"),
    ],
)
def test_value_that_airflow_cannot_follow_is_named(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, default in example().items():
        monkeypatch.setenv(variable, default)
    command_settings.require_valid()

    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        command_settings.require_valid()


@pytest.mark.parametrize("schedule", ["@daily", "@once", "*/30 * * * *"])
def test_preset_and_cron_expression_are_schedules(schedule: str) -> None:
    assert command_settings.is_schedule(schedule)
