from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from include.commands.environment import ROOT

PROGRAM = """
import logging, os, subprocess, sys
from pathlib import Path
from rich.text import Text
from include.commands.terminal import open_console, output_to, spinner

console = open_console()
with output_to(Path(sys.argv[1])), spinner(console, "working"):
    print("printed")
    logging.warning("logged")
    os.write(2, b"written by C code\\n")
    subprocess.run(["echo", "echoed by a child"])
    console.print(Text("for the user: 夜"))
print("afterwards")
console.print("-" * 150)
"""


def _run(log: Path, **variables: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(log)],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        check=True,
        encoding="utf-8",
    ).stdout


def test_only_the_console_reaches_the_user_while_output_goes_to_the_log(tmp_path: Path) -> None:
    seen = _run(tmp_path / "logs" / "run.log").splitlines()

    assert sorted(seen) == ["-" * 50, "-" * 100, "afterwards", "for the user: 夜"]
    assert sorted((tmp_path / "logs" / "run.log").read_text().splitlines()) == [
        "WARNING:root:logged",
        "echoed by a child",
        "printed",
        "written by C code",
    ]


def test_output_that_cannot_show_a_character_replaces_it(tmp_path: Path) -> None:
    assert "for the user: ?" in _run(tmp_path / "run.log", PYTHONIOENCODING="ascii")
