"""Runs pytest in copies of the repository, in processes forked from one that has imported the libraries.

It is a script, not a module of the package `tests`, because the copies have that package, too. It reads one
request per line from stdin and answers with pytest's exit code.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from typing import Any

# Importing them takes longer than most of the tests.
LIBRARIES = (
    "airflow.exceptions",
    "airflow.models",
    "airflow.providers.amazon.aws.hooks.base_aws",
    "airflow.providers.amazon.aws.operators.glue",
    "boto3",
    "hypothesis",
    "pandas",
    "pyarrow.compute",
    "pyarrow.parquet",
    "pytest",
    "pytest_socket",
)
MAX_SECONDS = 300


def main() -> None:
    """Serve requests until stdin ends."""
    # The folder of this script has modules of the repository.
    sys.path.pop(0)
    for name in LIBRARIES:
        importlib.import_module(name)
    # The garbage collector need not search the libraries in each of the processes.
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run_pytest(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run_pytest(request: dict[str, Any]) -> None:
    """Run pytest with the arguments in the folder, with its output in a file; never return."""
    import pytest

    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # A mutation may make its test wait for good.
    signal.alarm(MAX_SECONDS)
    os.chdir(request["folder"])
    status = pytest.main(request["arguments"])
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
