from __future__ import annotations

import re
from pathlib import Path

import pytest

from include.commands.airflow_version import AIRFLOW, SCHEDULER, VERSIONS, AirflowVersion


@pytest.mark.parametrize("version", VERSIONS.values(), ids=lambda version: version.name)
def test_ui_and_api_listen_on_this_machine_only(version: AirflowVersion, tmp_path: Path) -> None:
    settings = version.settings(tmp_path, 8099)

    assert [value for name, value in settings.items() if name.endswith("HOST")] == ["127.0.0.1"]
    assert [value for name, value in settings.items() if name.endswith("PORT")] == ["8099"]
    hosts = {host for value in settings.values() for host in re.findall("http://([^:/]+)", value)}
    assert hosts <= {"127.0.0.1", "localhost"}


def test_versions_share_no_state_no_environment_and_no_web_service() -> None:
    versions = VERSIONS.values()

    assert len({version.home for version in versions}) == len(versions)
    assert len({version.environment for version in versions}) == len(versions)
    assert len({version.web for version in versions}) == len(versions)


@pytest.mark.parametrize("version", VERSIONS.values(), ids=lambda version: version.name)
def test_scheduler_starts_last(version: AirflowVersion) -> None:
    assert list(version.other_services)[-1] == SCHEDULER


def test_version_is_that_of_the_installed_airflow() -> None:
    import airflow

    assert AIRFLOW.name == f"Airflow {airflow.__version__.split('.')[0]}"
