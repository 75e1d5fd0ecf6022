from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from include.commands import dashboard, scheduler, services
from include.commands.__main__ import main
from include.commands.airflow_version import AIRFLOW, VERSIONS
from include.commands.environment import ROOT
from include.commands.errors import UserError
from include.commands.local_aws import LocalAws
from include.commands.services import Service, recorded_services


def _start_sleeping(name: str, tmp_path: Path) -> Service:
    sleeper = tmp_path / "sleeper.py"
    # Another one that starts would find the file empty while it is written again.
    if not sleeper.exists():
        sleeper.write_text("import time; time.sleep(600)")
    service = Service(name)
    service.start("sleeper", [], os.environ | {"PYTHONPATH": str(tmp_path)})
    return service


def test_run_on_a_wrong_folder_fails_before_anything_starts(
    local_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tmp_path)]) == 1

    assert f"The folder {tmp_path} has no streams/, songs/, users/." in capfd.readouterr().err
    assert recorded_services() == []


@pytest.mark.parametrize(
    ("command", "options"),
    [("run", []), ("up", ["--web-port", "1", "--dashboard-port", "2"])],
    ids=["run", "up"],
)
def test_taken_port_of_local_aws_is_named_with_the_remedy(
    command: str, options: list[str], local_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert main([command, "--aws-port", str(port), *options]) == 1

    message = capfd.readouterr().err
    assert f"Port {port}, which local AWS needs, is taken" in message
    assert f"make {command} AWS_PORT={services.free_port_after(port)}{AIRFLOW.make_option}" in message
    assert recorded_services() == []


def test_taken_port_of_the_webserver_is_named_before_anything_starts(
    local_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert main(["up", "--web-port", str(port), "--dashboard-port", "2"]) == 1

    assert f"make up{AIRFLOW.make_option} WEB_PORT={services.free_port_after(port)}" in capfd.readouterr().err
    assert recorded_services() == []


def test_one_port_for_two_servers_is_refused(local_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--aws-port", "8083", "--web-port", "8083"]) == 1

    assert "cannot both use port 8083" in capfd.readouterr().err


def test_taken_port_of_the_dashboard_is_named_before_anything_starts(
    local_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert main(["dashboard", "--aws-port", "5999", "--dashboard-port", str(port)]) == 1

    message = capfd.readouterr().err
    assert f"Port {port}, which the dashboard needs, is taken" in message
    assert (
        f"make dashboard AWS_PORT=5999{AIRFLOW.make_option} DASHBOARD_PORT={services.free_port_after(port)}"
        in message
    )
    assert recorded_services() == []


def test_up_names_a_taken_port_of_its_dashboard_before_anything_starts(
    local_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert main(["up", "--aws-port", "5999", "--web-port", "1", "--dashboard-port", str(port)]) == 1

    assert (
        f"make up AWS_PORT=5999{AIRFLOW.make_option} DASHBOARD_PORT={services.free_port_after(port)}"
        in capfd.readouterr().err
    )
    assert recorded_services() == []


def test_dashboard_without_its_environment_says_what_makes_it(
    local_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    monkeypatch.setattr(dashboard, "PYTHON", tmp_path / "python")

    with pytest.raises(UserError, match=r"python is missing\. First: make dashboard"):
        dashboard.start(LocalAws(5999, console), 8599)

    assert recorded_services() == []


def test_dashboard_again_says_where_it_is_up(
    local_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    service = _start_sleeping("dashboard_8599_on_aws_5999", tmp_path)

    assert main(["dashboard", "--aws-port", "5999", "--dashboard-port", "8599"]) == 0

    assert "http://localhost:8599" in capfd.readouterr().out
    assert service.process() is not None


def test_up_leaves_the_dashboard_running(local_dir: Path, tmp_path: Path, console: Console) -> None:
    left_over, dashboard = (
        _start_sleeping(name, tmp_path) for name in ("triggerer", "dashboard_8599_on_aws_5999")
    )
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(UserError, match="is taken"):
        scheduler.up(LocalAws(5999, console), listener.getsockname()[1], 8599)

    assert left_over.process() is None
    assert dashboard.process() is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", ""], "DATES must name days"),
        ([" , "], "DATES must name days"),
        (["2024-06-25,yesterday"], "DATES has 'yesterday'"),
        (["2024-02-30"], "DATES has '2024-02-30'"),
        (["20240625"], "DATES has '20240625'"),
        (["2024-06-30..2024-06-01"], "before it begins: write 2024-06-01..2024-06-30. For example: make rep"),
        (["2024-06-25", "/no/such/folder"], "DATA=/no/such/folder is not a folder"),
        (["2024-06-25"], "Local AWS is not running on port 5999, so there is no data"),
    ],
)
def test_reprocess_fails_before_anything_starts(
    arguments: list[str], message: str, local_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["reprocess", "--aws-port", "5999", "--", *arguments]) == 1

    assert message in capfd.readouterr().err
    assert recorded_services() == []


@pytest.mark.parametrize("run_key", ["", "some-run"])
def test_redrive_without_local_aws_says_what_to_do_first(
    run_key: str, local_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["redrive", "--aws-port", "5999", "--", run_key]) == 1

    assert "First: make run AWS_PORT=5999" in capfd.readouterr().err
    assert recorded_services() == []


def test_forgetting_without_local_aws_says_what_to_do_first(
    local_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["forget", "--aws-port", "5999", "--", "u1"]) == 1

    assert "First: make run AWS_PORT=5999" in capfd.readouterr().err
    assert recorded_services() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["2024-06-25"], "First: make run AWS_PORT=5999"),
        (["", "some-run"], "First: make run AWS_PORT=5999"),
        (["2024-06-25", "some-run"], "and not both"),
        ([], "DATES must name days. For example: make replay DATES="),
        (["2024-06-26..2024-06-25"], "write 2024-06-25..2024-06-26. For example: make replay"),
    ],
)
def test_replay_fails_before_anything_starts(
    arguments: list[str], message: str, local_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", "--aws-port", "5999", "--", *arguments]) == 1

    assert message in capfd.readouterr().err
    assert recorded_services() == []


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1"])
def test_value_that_is_not_a_port_is_refused(port: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", f"--aws-port={port}"]) == 1

    assert f"'{port}' is not a port" in capfd.readouterr().err


def test_up_again_says_where_it_is_up(local_dir: Path, tmp_path: Path, console: Console) -> None:
    for name in (*AIRFLOW.other_services, f"{AIRFLOW.web}_8123_on_aws_5999"):
        _start_sleeping(name, tmp_path)

    assert scheduler.up(LocalAws(5555, console), 8083, 8501) == 0

    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{AIRFLOW.name} is up already." in text
    assert "http://localhost:8123" in text
    assert f"it does not run; make dashboard AWS_PORT=5999{AIRFLOW.make_option} starts it" in text
    assert f"make run DATA=folder AWS_PORT=5999{AIRFLOW.make_option}" in text
    assert all(service.process() for service in recorded_services())


def test_other_version_of_airflow_keeps_running_and_is_named_with_the_remedy(
    local_dir: Path, tmp_path: Path, console: Console
) -> None:
    (other,) = (version for version in VERSIONS.values() if version is not AIRFLOW)
    services = [_start_sleeping(name, tmp_path) for name in ("scheduler", f"{other.web}_8123_on_aws_5999")]
    message = (
        f"{other.name} is up at http://localhost:8123, and {AIRFLOW.name} cannot run beside it. Give the "
        f"command with AIRFLOW={other.number}, or first: make down (local AWS forgets its data)."
    )

    for command in (
        lambda: scheduler.up(LocalAws(5555, console), 8083, 8501),
        lambda: scheduler.refuse_settings_of_running_airflow(5999),
    ):
        with pytest.raises(UserError) as refused:
            command()
        assert str(refused.value) == message
    assert all(service.process() for service in services)


def test_up_again_says_where_its_dashboard_is(local_dir: Path, tmp_path: Path, console: Console) -> None:
    airflow = (*AIRFLOW.other_services, f"{AIRFLOW.web}_8123_on_aws_5999")
    for name in (*airflow, "dashboard_8599_on_aws_5999", "dashboard_8600_on_aws_5998"):
        _start_sleeping(name, tmp_path)

    scheduler.up(LocalAws(5999, console), 8123, 8599)

    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Dashboard:     http://localhost:8599\n" in text


def test_running_airflow_is_that_of_its_local_aws(local_dir: Path, tmp_path: Path) -> None:
    *first, last = AIRFLOW.other_services
    for name in (*first, f"{AIRFLOW.web}_8123_on_aws_5999"):
        _start_sleeping(name, tmp_path)
    assert scheduler.running_airflow() is None

    _start_sleeping(last, tmp_path)
    assert scheduler.airflow_on(5999) == scheduler.running_airflow() == (8123, 5999)
    assert scheduler.airflow_on(5555) is None


@pytest.mark.parametrize("command", [["run"], ["reprocess", "2024-06-25"]])
def test_settings_come_too_late_for_a_run_of_the_running_airflow(
    command: list[str],
    local_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in (*AIRFLOW.other_services, f"{AIRFLOW.web}_8123_on_aws_5999", "local_aws_5999"):
        _start_sleeping(name, tmp_path)
    monkeypatch.setenv("GIVEN_SETTINGS", "MAX_REJECTED_FRACTION")

    assert main([command[0], "--aws-port", "5999", *command[1:]]) == 1

    assert "Airflow is running already and takes MAX_REJECTED_FRACTION only when" in capfd.readouterr().err


def test_down_stops_everything_and_says_what_is_gone(
    local_dir: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [tmp_path / "airflow of 2", tmp_path / "airflow of 3"]
    for version, home in zip(VERSIONS.values(), homes, strict=True):
        home.mkdir()
        monkeypatch.setattr(type(version), "home", home)
    services = [_start_sleeping(name, tmp_path) for name in ("scheduler", "local_aws_5555")]

    assert scheduler.down(console) == 0

    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert sorted(lines[:2]) == ["Stopped local_aws_5555", "Stopped scheduler"]
    assert "they are gone" in lines[2]
    assert not any(service.process() for service in services)
    assert not any(home.exists() for home in homes)


def test_down_twice_says_that_nothing_was_running(local_dir: Path, tmp_path: Path, console: Console) -> None:
    _start_sleeping("scheduler", tmp_path)
    scheduler.down(console)

    assert scheduler.down(console) == 0

    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "Stopped scheduler",
        "Nothing was running.",
    ]


def test_simple_errors_and_down_come_without_airflow(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from include.commands import services
from include.commands.__main__ import main

services.LOCAL_DIR = Path(sys.argv[1])
main(["run", "/no/such/folder"])
main(["reprocess", "no day"])
main(["redrive", "some-run"])
main(["forget", "u1"])
main(["replay", "2024-06-25"])
main(["down"])
print(sorted({"airflow", "boto3", "moto", "pandas"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )

    assert done.stdout.splitlines() == ["Nothing was running.", "[]"], done.stderr
