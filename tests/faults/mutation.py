"""Switches a safeguard off in a copy of the source, and runs the test that should notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from local_aws_support import REPOSITORY, RUNNING_LOCAL_AWS

PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=short", "-p", "no:cacheprovider"]
# Other plugins, and pytest's search for unraisable exceptions, would take longer than most of the tests.
PYTEST += ["-p", "pytest_socket", "-p", "no:unraisableexception"]


class Mutation(NamedTuple):
    """How a safeguard is switched off, and how a test notices.

    Attributes:
        scenarios: numbers of the scenarios that it guards against; see tests/scenarios.py.
        source: path of the source file.
        old: text that occurs exactly once in it.
        new: replacement of that text.
        test: id of the test that fails then.
        failure: a part of pytest's output.
    """

    scenarios: tuple[int, ...]
    source: str
    old: str
    new: str
    test: str
    failure: str


def run_test_of_mutated_source(
    mutation: Mutation, folder: Path, local_aws: str
) -> subprocess.CompletedProcess[str]:
    """Run the mutation's test on a copy of the repository in `folder`, with a clean environment.

    The test works on the local AWS with this address, because to start another takes longer than most tests.
    """
    left_out = shutil.ignore_patterns("__pycache__", "e2e", "faults")
    for name in ("dags", "plugins", "glue_script", "include", "tests"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=left_out)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    source = folder / mutation.source
    text = source.read_text()
    assert text.count(mutation.old) == 1, f"{mutation.source} was changed: adapt the mutation to it"
    source.write_text(text.replace(mutation.old, mutation.new))
    return subprocess.run(
        [*PYTEST, "--basetemp", folder / "temporary", mutation.test],
        cwd=folder,
        env={
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            RUNNING_LOCAL_AWS: local_aws,
            **{name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME") if name in os.environ},
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
