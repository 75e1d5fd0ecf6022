"""A Spark that is started ahead of its job, so that small jobs need not wait for it.

It serves a single job, because a second one would find the first one's settings and tables. This file is also
the program of the waiting process. It is started by its path, so a job sees no module of this project.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# The log files of a job's process, by the kind of its output.
LOGS = {"output": "output.log", "error": "error.log"}


class SpareSpark:
    """A process with a Spark session, in a folder of its own, that waits for a script."""

    def __init__(self, environment_in: Callable[[Path], dict[str, str]]) -> None:
        """Start it.

        Args:
            environment_in: prepares a folder for Spark and returns the process's environment.
        """
        self._directory = tempfile.TemporaryDirectory(prefix="local-glue-", ignore_cleanup_errors=True)
        self.folder = Path(self._directory.name)
        command = [sys.executable, __file__]
        self.process = start(command, self.folder, environment_in(self.folder), subprocess.PIPE)

    def __enter__(self) -> str:
        return self._directory.name

    def __exit__(self, *_: object) -> None:
        self.end()
        self._directory.cleanup()

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], hadoop: Mapping[str, str]
    ) -> "subprocess.Popen[bytes] | None":
        """Let the process run a script, and return the process; None if it has ended unexpectedly.

        Args:
            command: the script's path and its arguments.
            environment: variables to add.
            hadoop: Hadoop's properties to add.
        """
        job = {"command": [*command], "environment": {**environment}, "hadoop": {**hadoop}}
        assert self.process.stdin
        try:
            with self.process.stdin as pipe:
                pipe.write(json.dumps(job).encode())
        except BrokenPipeError:
            return None
        return self.process

    def end(self) -> None:
        """Kill the process and its children."""
        kill(self.process)


class Reserve:
    """Holds one spare for the next job."""

    def __init__(self, start_spare: Callable[[], SpareSpark | None]) -> None:
        """Start the first one; `start_spare` returns None where Spark cannot start."""
        self._start_spare = start_spare
        self._lock = threading.Lock()
        self._is_closed = False
        self._spare = start_spare()

    def take(self) -> SpareSpark | None:
        """Return the spare, which the caller has to end; None if there is none."""
        with self._lock:
            spare, self._spare = self._spare, None
            return spare

    def refill(self) -> None:
        """Start a spare for the next job, unless there is one."""
        with self._lock:
            if not self._is_closed:
                self._spare = self._spare or self._start_spare()

    def close(self) -> None:
        """End the spare and start no other."""
        with self._lock:
            self._is_closed = True
        if spare := self.take():
            with spare:
                pass


def start(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: int
) -> "subprocess.Popen[bytes]":
    """Start a process in the folder's ``tmp``, as leader of a group, with its output in ``LOGS``."""
    with (folder / LOGS["output"]).open("wb") as output, (folder / LOGS["error"]).open("wb") as error:
        return subprocess.Popen(
            command,
            cwd=folder / "tmp",
            env=environment,
            stdin=stdin,
            stdout=output,
            stderr=error,
            start_new_session=True,
        )


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process's group, which includes the JVM, which would survive its script."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_for_job() -> None:
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.getOrCreate()
    # The pipe ends without a job if local AWS ends.
    if not (text := sys.stdin.buffer.read()):
        return
    job = json.loads(text)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    os.environ.update(job["environment"])
    for name, value in job["hadoop"].items():
        spark.sparkContext._jsc.hadoopConfiguration().set(name, value)
    sys.argv = job["command"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _wait_for_job()
