"""Background processes that outlive the command that starts them: starts, finds and stops them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from include.commands.environment import HOST, LOCAL_DIR, LOGS_DIR, ROOT
from include.commands.errors import UserError

STOP_TIMEOUT_SECONDS = 10
POLL_SECONDS = 0.2
# The start time of a process derives from the boot time, which moves slightly when the clock is set.
START_TIME_TOLERANCE_SECONDS = 2


@dataclass(frozen=True)
class Service:
    """A named background process; its record and log are files with that name."""

    name: str

    @property
    def log(self) -> Path:
        """The file with the output since the last start."""
        return LOGS_DIR / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """The file that identifies the process."""
        return LOCAL_DIR / "services" / f"{self.name}.json"

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        python: str | Path = sys.executable,
    ) -> None:
        """Start `python -m module arguments` in its own session, so it survives the terminal."""
        for file in (self.log, self.record):
            file.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            started = subprocess.Popen(
                [python, "-m", module, *arguments],
                cwd=ROOT,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.record.write_text(
            json.dumps({"pid": started.pid, "create_time": psutil.Process(started.pid).create_time()})
        )

    def process(self) -> psutil.Process | None:
        """Return the process if it runs; another process that was given the same pid does not count."""
        recorded = self._recorded()
        if recorded is None:
            return None
        pid, create_time = recorded
        try:
            process = psutil.Process(pid)
            is_running = _started_at(process, create_time) and process.status() != psutil.STATUS_ZOMBIE
            return process if is_running else None
        except psutil.NoSuchProcess:
            return None

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _recorded(self) -> tuple[int, float] | None:
        try:
            record = json.loads(self.record.read_text())
            return int(record["pid"]), float(record["create_time"])
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def members(self) -> set[psutil.Process]:
        """Return the process and all its descendants, including those that outlived it."""
        recorded = self._recorded()
        if recorded is None:
            return set()
        pid, create_time = recorded
        members: set[psutil.Process] = set()
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(pid)
            if not _started_at(leader, create_time):
                return set()
            members.update(leader.children(recursive=True))
        # Descendants whose parent is gone keep their session, whose number is the leader's pid.
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == pid and process.create_time() >= (
                    create_time - START_TIME_TOLERANCE_SECONDS
                ):
                    members.add(process)
            except (ProcessLookupError, PermissionError, psutil.Error):
                continue
        return members


def _started_at(process: psutil.Process, create_time: float) -> bool:
    return bool(abs(process.create_time() - create_time) < START_TIME_TOLERANCE_SECONDS)


def recorded_services() -> list[Service]:
    """Return the services that were started and not stopped since."""
    return [Service(record.stem) for record in sorted((LOCAL_DIR / "services").glob("*.json"))]


def stop(services: Iterable[Service]) -> list[Service]:
    """End the services and all their descendants, by force after `STOP_TIMEOUT_SECONDS`.

    Returns:
        The services that were running.
    """
    members = {service: service.members() for service in services}
    everything = [process for processes in members.values() for process in processes]
    _signal(everything, psutil.Process.terminate)
    psutil.wait_procs(everything, timeout=STOP_TIMEOUT_SECONDS)
    for service in members:
        # Ask again: a process that got the first signal may have started another meanwhile.
        _signal([*everything, *service.members()], psutil.Process.kill)
        service.record.unlink(missing_ok=True)
    return [service for service, processes in members.items() if processes]


def port_is_taken(port: int) -> bool:
    """Return whether a program listens on the port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def free_port_after(port: int) -> int:
    """Return the next port on which no program listens."""
    return next(other for other in range(port + 1, 65536) if not port_is_taken(other))


def require_free_port(port: int, purpose: str, remedy: str) -> None:
    """Check that no program listens on the port.

    Raises:
        UserError: one does; the message names the port, its purpose and the remedy.
    """
    if port_is_taken(port):
        raise UserError(
            f"Port {port}, which {purpose} needs, is taken by another program. "
            f"End that program, or choose another port: {remedy}"
        )


def wait_until_ready(
    services: Sequence[Service], is_ready: Callable[[], bool], timeout_seconds: float
) -> None:
    """Wait until `is_ready` returns true.

    Raises:
        UserError: a service ended instead, or the time is up; the message has the end of the log.
    """
    deadline = time.monotonic() + timeout_seconds
    while not is_ready():
        for service in services:
            if service.process() is None:
                raise UserError(
                    f"{service.name} ended while it started. {service.log} ends with:\n{service.log_tail()}"
                )
        if time.monotonic() > deadline:
            logs = ", ".join(str(service.log) for service in services)
            raise UserError(f"Not ready after {timeout_seconds:.0f} seconds; see {logs}.")
        time.sleep(POLL_SECONDS)


def get(url: str) -> bytes | None:
    """Return the response of a local service's URL, or None unless it is a success."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as response:
            answer: bytes = response.read()
            return answer
    except OSError:
        return None


def _signal(processes: Iterable[psutil.Process], send: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            send(process)
