"""Long-lived processes that each do one thing at a time for the tests."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def single_process(start: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Return a pool of one new process, which first calls `start`."""
    # Spawned, because a fork would inherit the test process's open files and its restrictions on sockets.
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=start, initargs=arguments)


def become(environment: dict[str, str], log: Path) -> None:
    """Set this process's environment, and redirect its output and that of its children to a file.

    Standard output can be read back, see `OutputByLabel`.
    """
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab+") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


class OutputByLabel:
    """This process's output after `become`, grouped by the label that was current."""

    def __init__(self) -> None:
        """Start without a label: output before the first label is dropped."""
        self._begins: list[tuple[str, int]] = []

    def begin(self, label: str) -> None:
        """Set the current label."""
        self._begins.append((label, _printed_bytes()))

    def read(self) -> dict[str, str]:
        """Return all output so far, by label."""
        ends = [*(begin for _, begin in self._begins[1:]), _printed_bytes()]
        output: dict[str, str] = defaultdict(str)
        for (label, begin), end in zip(self._begins, ends, strict=True):
            output[label] += os.pread(1, end - begin, begin).decode(errors="replace")
        return dict(output)


def _printed_bytes() -> int:
    sys.stdout.flush()
    return os.fstat(1).st_size
