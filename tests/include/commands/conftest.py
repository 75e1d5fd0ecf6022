"""Fixtures of the commands' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from include.commands import services
from include.commands.airflow_version import VERSIONS


@pytest.fixture
def console() -> Console:
    """A console whose output goes to a file, 100 columns wide; `.file` has its output."""
    return Console(file=StringIO(), width=100)


@pytest.fixture
def local_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A test's own `.local` folder; services that were started in it are stopped afterwards."""
    monkeypatch.setattr(services, "LOCAL_DIR", tmp_path / ".local")
    monkeypatch.setattr(services, "LOGS_DIR", tmp_path / ".local" / "logs")
    for version in VERSIONS.values():
        monkeypatch.setattr(type(version), "home", tmp_path / ".local" / version.home.name)
    yield tmp_path / ".local"
    services.stop(services.recorded_services())


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Creates a folder with the named files; a name with a slash at its end is an empty folder."""

    def make(*names: str) -> Path:
        root = tmp_path / "my data"
        for name in names:
            path = root / name
            if name.endswith("/"):
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"content of {name}\n")
        return root

    return make
