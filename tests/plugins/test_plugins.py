"""Every service of Airflow loads the plugins, even without DAGs and in any working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_aws_support import REPOSITORY

PLUGINS = REPOSITORY / "plugins"


@pytest.mark.parametrize("name", sorted(path.stem for path in PLUGINS.glob("*.py")))
def test_module_is_imported_without_the_dags(name: str, tmp_path: Path) -> None:
    """Airflow 3's triggerer imports it by name, with the folder of plugins on the path."""
    code = f"import airflow, {name}, sys; print({name}.__file__, 'helpers' in sys.modules)"

    done = python(code, tmp_path)

    assert done.stdout.strip() == f"{PLUGINS / name}.py False", done.stderr


def test_airflow_registers_the_link(tmp_path: Path) -> None:
    code = (
        "from airflow.plugins_manager import get_plugin_info;"
        "[link] = [link for plugin in get_plugin_info() if plugin['name'] == 'run_links'"
        " for link in plugin['operator_extra_links']];"
        "print(link)"
    )

    done = python(code, tmp_path)

    assert "run_links_plugin.RunReportLink" in done.stdout, done.stderr


def test_airflow_calls_the_listener_of_runs(tmp_path: Path) -> None:
    code = (
        "from airflow.listeners.listener import get_listener_manager;"
        "print(get_listener_manager().hook.on_dag_run_failed.get_hookimpls())"
    )

    done = python(code, tmp_path)

    assert "run_note_plugin.RunNoteListener" in done.stdout, done.stderr


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "AIRFLOW_HOME": str(cwd),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "AIRFLOW__CORE__DAGS_FOLDER": str(cwd),
    }
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
