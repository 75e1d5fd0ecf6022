"""The patches of docs/extending.md apply to this version and do what the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local_aws_support import REPOSITORY

COPIED = ("dags", "plugins", "glue_script", "include", "tests", "README.md", "pyproject.toml")
PAGE = (REPOSITORY / "docs" / "extending.md").read_text()


def patches_of(section: str) -> list[str]:
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```diff\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, tmp_path / name)
    return tmp_path


def apply(project: Path, section: str) -> int:
    """Apply the patches of a section of the page and return how many files they change."""
    patches = patches_of(section)
    for patch in patches:
        subprocess.run(
            ["git", "apply", "-C1", "-"], cwd=project, input=patch, text=True, check=True, capture_output=True
        )
    return len(patches)


def run_python(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy; no other source may come before the copy's."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True
    )


def run_tests(project: Path, *arguments: str) -> str:
    """Run tests of the copy, of which all must pass; return the last line that pytest prints."""
    done = run_python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_row_rule_is_one_entry_and_the_row_that_breaks_it(project: Path) -> None:
    assert apply(project, "A row rule") == 2

    run_tests(project, "tests/dags/helpers/ingest/test_row_rules.py", "-k", "OneListOfRules")


def test_kpi_is_computed_declared_and_shown(project: Path) -> None:
    assert apply(project, "A KPI") == 8

    run_tests(project, "tests/glue_script/test_glue_script_job.py", "-k", "popularity")
    run_tests(project, "tests/dags/helpers/contract/test_kpis.py")
    printed = "from include.kpis.__main__ import _GENRE_COLUMNS; print(*_GENRE_COLUMNS)"
    assert "avg_popularity" in run_python(project, "-c", printed).stdout
