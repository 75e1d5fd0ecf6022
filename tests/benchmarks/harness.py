"""Runs contenders in their own processes, alternating, and measures their time and memory."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil

SAMPLE_SECONDS = 0.02
MIB = 1024**2


@dataclass(frozen=True)
class Contender:
    """A command to measure.

    If the last printed line is a JSON object with `seconds`, that is its time instead of the process's
    lifetime; the other fields are kept as facts about the run.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None
    # Runs before each measured run.
    prepare: Callable[[], None] = lambda: None


@dataclass
class Measurement:
    """All runs of one contender in one case."""

    part: str
    case: str
    contender: str
    seconds: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def median_seconds(self) -> float:
        return median(self.seconds)

    @property
    def most_mib(self) -> float:
        return max(self.peak_mib)


def alternate(part: str, case: str, contenders: Sequence[Contender], repeat: int) -> list[Measurement]:
    """Run every contender `repeat` times, alternating, so disturbances of the machine affect them equally.

    Raises:
        RuntimeError: a command failed; the message has the end of its output.
    """
    measurements = [Measurement(part, case, contender.name) for contender in contenders]
    for _ in range(repeat):
        for contender, measurement in zip(contenders, measurements, strict=True):
            contender.prepare()
            seconds, peak_mib, facts = run(contender)
            measurement.seconds.append(seconds)
            measurement.peak_mib.append(peak_mib)
            measurement.facts.update(facts)
    return measurements


def run(contender: Contender) -> tuple[float, float, dict[str, object]]:
    """Run a contender once; return its seconds, the peak memory (MiB) of its processes, and its facts."""
    with tempfile.TemporaryFile("w+") as printed:
        started = time.monotonic()
        process = subprocess.Popen(
            contender.command, stdout=printed, stderr=subprocess.STDOUT, env=contender.environment, text=True
        )
        peak = [0.0]
        watcher = threading.Thread(target=_watch, args=(process.pid, peak))
        watcher.start()
        code = process.wait()
        seconds = time.monotonic() - started
        watcher.join()
        printed.seek(0)
        lines = printed.read().strip().splitlines()
    if code:
        raise RuntimeError(f"{contender.name} ended with {code}:\n" + "\n".join(lines[-30:]))
    facts = _facts(lines[-1] if lines else "")
    measured = facts.pop("seconds", seconds)
    assert isinstance(measured, int | float)
    return float(measured), peak[0], facts


def _watch(pid: int, peak: list[float]) -> None:
    """Record the peak memory of a process and its children until the process ends."""
    try:
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            peak[0] = max(peak[0], _resident_mib(process))
            time.sleep(SAMPLE_SECONDS)
    except psutil.NoSuchProcess:
        return


def _resident_mib(process: psutil.Process) -> float:
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / MIB


def _facts(line: str) -> dict[str, object]:
    try:
        facts = json.loads(line)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) and "seconds" in facts else {}
