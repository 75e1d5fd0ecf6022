"""A process that runs the scripts of Glue jobs one after the other and keeps Spark's JVM in between.

The start of Spark takes longer than the work of a small job. Glue has pools of warm workers for the same
reason. Only a script that succeeded leaves its process to the next one, which finds neither its Spark session
nor its variables, settings and files. Libraries stay imported, and the JVM keeps the variables that it began
with.

The process runs this file as a script. So it imports nothing else of the repository, as on Glue.
"""

import json
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# After this time the process ends, because its JVM takes hundreds of megabytes.
_IDLE_SECONDS = 600
_ANSWER_SECONDS = 10
# Answers of one length.
_BEGUN, _ENDED = b"begun\n", b"ended\n"


class JobRunner:
    """The process, which starts with its first script, and its directory."""

    def __init__(self) -> None:
        """Create the directory."""
        self._temporary = tempfile.TemporaryDirectory(prefix="local-glue-", ignore_cleanup_errors=True)
        self.directory = Path(self._temporary.name)
        self.logs = {name: self.directory / f"{name}.log" for name in ("output", "error")}
        self._is_waiting = False
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1

    def begin(
        self, command: Sequence[str], environment: Mapping[str, str], settings: Mapping[str, str]
    ) -> None:
        """Run a script; its output replaces that of the last one.

        Args:
            command: the path of the script, and its arguments.
            environment: all variables of the script.
            settings: Spark's properties that differ between scripts. A new JVM has them from the environment.
        """
        request = {"command": command, "environment": dict(environment), "settings": dict(settings)}
        was_waiting, self._is_waiting = self._is_waiting, False
        # The process or its JVM may have ended.
        if not (was_waiting and self._send(request)):
            self._start(environment)
            self._send(request)

    def poll(self) -> int | None:
        """Return the exit code of the script, or None while it runs."""
        assert self._process is not None
        readable, _, _ = select.select([self._answers], [], [], 0)
        if readable and os.read(self._answers, len(_ENDED)) == _ENDED:
            self._is_waiting = True
            return 0
        return self._process.poll()

    @property
    def is_ready(self) -> bool:
        """Whether the process waits for its next script."""
        return self._is_waiting and self._process is not None and self._process.poll() is None

    def end(self) -> None:
        """Kill the process and the JVM, which are a process group."""
        self._is_waiting = False
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        os.close(self._answers)
        self._process = None

    def close(self) -> None:
        """Kill the process and delete the directory."""
        self.end()
        self._temporary.cleanup()

    def _send(self, request: dict[str, Any]) -> bool:
        """Empty the logs, and return whether the process takes the request."""
        for log in self.logs.values():
            log.write_bytes(b"")
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        readable, _, _ = select.select([self._answers], [], [], _ANSWER_SECONDS)
        return bool(readable) and os.read(self._answers, len(_BEGUN)) == _BEGUN

    def _start(self, environment: Mapping[str, str]) -> None:
        self.end()
        self._answers, answers_of_child = os.pipe()
        with self.logs["output"].open("ab") as stdout, self.logs["error"].open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-u", __file__, str(answers_of_child)],
                cwd=self.directory,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                pass_fds=[answers_of_child],
                start_new_session=True,
            )
        os.close(answers_of_child)


def _serve(answers: int) -> None:
    """Run the scripts that stdin names until one fails or uses no Spark, or nothing comes any more."""
    # The scripts have an empty stdin.
    with os.fdopen(os.dup(0), "rb", buffering=0) as requests:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        path = sys.path[1:]
        settings: dict[str, str] = {}
        while select.select([requests], [], [], _IDLE_SECONDS)[0] and (line := requests.readline()):
            request = json.loads(line)
            sys.path[:] = path
            _change_settings(settings, request["settings"])
            settings = request["settings"]
            os.write(answers, _BEGUN)
            _run_script(request["command"], request["environment"])
            if not _clear():
                return
            os.write(answers, _ENDED)


def _run_script(command: list[str], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(environment["TMPDIR"])
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).parent))
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as ending:
        if ending.code:
            raise


def _clear() -> bool:
    """Remove what a script left in Spark and on disk; return whether there is a JVM for the next one."""
    sys.stdout.flush()
    sys.stderr.flush()
    if (java := _java()) is None:
        return False
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    try:
        if session := SparkSession._instantiatedSession:
            session.stop()
        if context := SparkContext._active_spark_context:
            context.stop()
        # Hadoop's cache has the folder of each bucket.
        java.org.apache.hadoop.fs.FileSystem.closeAll()
        for entry in Path(os.environ["TMPDIR"]).iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
    except Exception:
        # The script may have ended the JVM itself, and has succeeded all the same.
        return False
    return True


def _change_settings(old: dict[str, str], new: dict[str, str]) -> None:
    if (java := _java()) is None:
        return
    for name in old.keys() - new.keys():
        java.System.clearProperty(name)
    for name, value in new.items():
        java.System.setProperty(name, value)


def _java() -> Any:
    """Return PySpark's view of the JVM, or None without one."""
    if "pyspark" not in sys.modules:
        return None
    from pyspark import SparkContext

    return SparkContext._jvm if SparkContext._gateway else None


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
