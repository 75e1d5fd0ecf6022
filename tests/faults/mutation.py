"""Switches a safeguard off in a copy of the source, and runs the test that should notice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from local_aws_support import REPOSITORY, RUNNING_LOCAL_AWS

ARGUMENTS = ["-q", "-x", "--tb=short", "-p", "no:cacheprovider"]
# Other plugins, and pytest's search for unraisable exceptions, would take longer than most of the tests.
ARGUMENTS += ["-p", "pytest_socket", "-p", "no:unraisableexception"]


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


class MutatedTests:
    """Runs tests on mutated copies of the repository; `mutated_test_server` says how."""

    def __init__(self, local_aws: str, folder: Path) -> None:
        """Take the address of a local AWS, because to start another takes longer than most tests."""
        environment = {
            "AIRFLOW_HOME": str(folder),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            RUNNING_LOCAL_AWS: local_aws,
            **{name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME") if name in os.environ},
        }
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("mutated_test_server.py"))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._server.kill()
        self._server.wait()

    def run(self, mutation: Mutation, folder: Path) -> tuple[int, str]:
        """Run the mutation's test on a copy in `folder`; return pytest's exit code and output."""
        left_out = shutil.ignore_patterns("__pycache__", "e2e", "faults")
        for name in ("dags", "plugins", "glue_script", "include", "tests"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=left_out)
        shutil.copy(REPOSITORY / "pyproject.toml", folder)
        source = folder / mutation.source
        text = source.read_text()
        assert text.count(mutation.old) == 1, f"{mutation.source} was changed: adapt the mutation to it"
        source.write_text(text.replace(mutation.old, mutation.new))
        output = folder / "output"
        request = {
            "folder": str(folder),
            "arguments": [*ARGUMENTS, "--basetemp", str(folder / "temporary"), mutation.test],
            "output": str(output),
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        exit_code = self._server.stdout.readline()
        assert exit_code, "the server of mutated tests has ended"
        return int(exit_code), output.read_text()
