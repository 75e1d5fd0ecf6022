"""Separates the user's output from Airflow's, and asks the user."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

WIDTH = 100


def open_console() -> Console:
    """Return a console on this process's output, at most 100 columns wide and 100 if it is not a terminal.

    It keeps writing there while `output_to` redirects everything else to a file.
    """
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding, errors="replace")
    console = Console(file=stream, highlight=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


@contextlib.contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Redirect the output of this process and its children to the file, even if it bypasses `sys.stdout`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    saved = [os.dup(stream.fileno()) for stream in streams]
    try:
        with log.open("ab") as file:
            for stream in streams:
                stream.flush()
                os.dup2(file.fileno(), stream.fileno())
        yield
    finally:
        for stream, descriptor in zip(streams, saved, strict=True):
            stream.flush()
            os.dup2(descriptor, stream.fileno())
            os.close(descriptor)


@contextlib.contextmanager
def spinner(console: Console, text: str) -> Iterator[Spinner]:
    """Show a spinner while the block runs, but only on a terminal.

    Unlike `console.status`, it leaves `sys.stdout` to `output_to`.
    """
    shown = Spinner("dots", text=Text(text))
    with Live(shown, console=console, transient=True, redirect_stdout=False, redirect_stderr=False):
        yield shown


def ask(question: str) -> bool:
    """Ask at the terminal; only `y` and `yes` agree."""
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
