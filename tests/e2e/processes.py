"""Processes that stay, each doing one thing at a time for the tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def single_process(start: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Return a pool of one new process, which begins by calling `start`."""
    # Spawned: a fork would inherit what the test process has open, and its restrictions on sockets.
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=start, initargs=arguments)


def become(environment: dict[str, str], log: Path) -> None:
    """Give this process an environment, and send its output and that of its children to a file."""
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
