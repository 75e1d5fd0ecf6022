"""One run of a Glue job as a child process."""

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from include.local_aws.java import JavaNotFoundError
from include.local_aws.job_runner import JobRunner
from include.local_aws.mirror import Location, Mirror, MirrorError
from include.local_aws.spark_environment import spark_environment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_POLL_SECONDS = 0.1
_READ_BYTES = 1024 * 1024
_SMALL_INPUT_BYTES = 64 * 1024 * 1024
_LONGEST_LINE_BYTES = 200_000  # CloudWatch accepts events up to 256 KB
_ERROR_TAIL_BYTES = 64 * 1024
_ERROR_MESSAGE_LINES = 10

_LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n%ex
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
"""
_LOG4J_LINE = re.compile(r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d [A-Z]+ ")

LogWriter = Callable[[str, list[str]], None]

_waiting: list[JobRunner] = []
_waiting_lock = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """How a run ended: a Glue job run state, and a message unless it is SUCCEEDED."""

    state: str
    error_message: str = ""


@dataclass(frozen=True)
class JobProcess:
    """The process of a job run, with its parameters and ways to end it early."""

    script: str
    arguments: dict[str, str]
    timeout_seconds: float
    s3: "S3Client"
    environment: dict[str, str]
    on_started: Callable[[], None]
    write_log: LogWriter
    stop: threading.Event = field(default_factory=threading.Event)
    """Ends the process; its output is still written to S3."""
    discard: threading.Event = field(default_factory=threading.Event)
    """Set before ``stop`` if S3 must not be changed any more."""

    def run(self) -> Outcome:
        """Run the script to its end and write its output to S3, however it ended."""
        runner = _take_runner()
        try:
            return self._run_by(runner)
        except (JavaNotFoundError, MirrorError, _InvalidScriptError) as error:
            return Outcome("FAILED", str(error))
        finally:
            _keep_if_waiting(runner)

    def _run_by(self, runner: JobRunner) -> Outcome:
        script = self._download_script(runner.directory / "script")
        locations = [location for value in self.arguments.values() if (location := Location.parse(value))]
        mirror = Mirror(self.s3, runner.directory / "s3", locations)
        for uri in mirror.fill(self.stop.is_set):
            self.write_log("error", [f"Local AWS left out {uri}: no file can have this name.\n"])
        if self.stop.is_set():
            return Outcome("STOPPED")
        outcome = self._run_script(script, runner, mirror)
        if not self.discard.is_set():
            mirror.write_back(self.discard.is_set)
        return outcome

    def _download_script(self, directory: Path) -> Path:
        location = Location.parse(self.script)
        if location is None or not location.key:
            raise _InvalidScriptError(
                f"The job's ScriptLocation {self.script!r} is not the s3:// URI of an object."
            )
        path = directory / Path(location.key).name
        directory.mkdir()
        try:
            self.s3.download_file(location.bucket, location.key, str(path))
        except ClientError as error:
            raise _InvalidScriptError(f"The job's script {self.script} cannot be read: {error}") from error
        return path

    def _prepare_environment(
        self, directory: Path, mounts: Mapping[str, str], is_small: bool
    ) -> dict[str, str]:
        log4j = directory / "log4j2.properties"
        log4j.write_text(_LOG4J)
        java_options = [f"-Dlog4j2.configurationFile={log4j.as_uri()}"]
        if is_small:
            # A run over little data consists mostly of start-up; the optimizing compiler takes a third of
            # that.
            java_options.append("-XX:TieredStopAtLevel=1")
        settings = {
            "spark.master": "local[*]",
            "spark.driver.memory": os.environ.get("LOCAL_AWS_DRIVER_MEMORY", "2g"),
            "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
            **mounts,
        }
        return spark_environment(directory, settings, java_options) | {
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }

    def _run_script(self, script: Path, runner: JobRunner, mirror: Mirror) -> Outcome:
        mounts = {
            f"spark.hadoop.fs.viewfs.mounttable.{bucket}.linkFallback": mirror.directory(bucket).as_uri()
            for bucket in mirror.buckets
        }
        is_small = mirror.filled_bytes < _SMALL_INPUT_BYTES
        environment = self._prepare_environment(runner.directory, mounts, is_small)
        if not is_small:
            # A waiting JVM has the options for little data.
            runner.end()
        command = [str(script), *(part for pair in self.arguments.items() for part in pair)]
        runner.begin(command, environment, mounts)
        tails = [_LogTail(path, name, self.write_log) for name, path in runner.logs.items()]
        try:
            self.on_started()
            state, exit_code = self._wait(runner, tails)
        finally:
            if not (runner.is_ready and is_small):
                runner.end()
        for tail in tails:
            tail.forward(last=True)
        if state == "FAILED":
            return Outcome(state, _error_message(runner.logs["error"], exit_code))
        if state == "TIMEOUT":
            return Outcome(
                state, f"The run took longer than its timeout of {self.timeout_seconds:g} seconds."
            )
        return Outcome(state)

    def _wait(self, runner: JobRunner, tails: "list[_LogTail]") -> tuple[str, int]:
        """Return how the run ended, and the script's exit code if it ended by itself."""
        deadline = time.monotonic() + self.timeout_seconds
        while True:
            for tail in tails:
                tail.forward()
            if (exit_code := runner.poll()) is not None:
                return ("FAILED" if exit_code else "SUCCEEDED"), exit_code
            if time.monotonic() >= deadline:
                return "TIMEOUT", 0
            if self.stop.wait(_POLL_SECONDS):
                return "STOPPED", 0


def end_waiting() -> None:
    """End the process that waits for a run, if there is one."""
    with _waiting_lock:
        while _waiting:
            _waiting.pop().close()


def _take_runner() -> JobRunner:
    """Return the runner that waits for a run, or a new one."""
    with _waiting_lock:
        runner = _waiting.pop() if _waiting else JobRunner()
    if not runner.is_ready:
        runner.end()
    return runner


def _keep_if_waiting(runner: JobRunner) -> None:
    """Let the runner wait for the next run, unless its process cannot or another one waits."""
    folders = [runner.directory / name for name in ("s3", "script")]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    is_clean = not any(folder.exists() for folder in folders)
    with _waiting_lock:
        if runner.is_ready and is_clean and not _waiting:
            _waiting.append(runner)
            return
    runner.close()


class _InvalidScriptError(ValueError):
    """The job's script cannot be run."""


class _LogTail:
    """Forwards the lines of a growing file."""

    def __init__(self, path: Path, name: str, write_log: LogWriter) -> None:
        self._path = path
        self._name = name
        self._write_log = write_log
        self._offset = 0
        self._rest = b""

    def forward(self, *, last: bool = False) -> None:
        """Forward the text written since the last call; an unfinished line waits unless ``last`` is true."""
        for chunk in self._new_chunks():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            if len(self._rest) > _LONGEST_LINE_BYTES:
                lines, self._rest = [*lines, self._rest], b""
            self._write(lines)
        if last and self._rest:
            self._write([self._rest])

    def _new_chunks(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while chunk := file.read(_READ_BYTES):
                self._offset += len(chunk)
                yield chunk

    def _write(self, lines: list[bytes]) -> None:
        pieces = [
            line[start : start + _LONGEST_LINE_BYTES]
            for line in lines
            for start in range(0, max(len(line), 1), _LONGEST_LINE_BYTES)
        ]
        if pieces:
            self._write_log(self._name, [piece.decode(errors="replace") + "\n" for piece in pieces])


def _error_message(error_log: Path, exit_code: int) -> str:
    """Return Glue's message for a failed script: its last exception, without the traceback."""
    with error_log.open("rb") as file:
        file.seek(max(0, error_log.stat().st_size - _ERROR_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    starts = [
        number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last):")
    ]
    if starts:
        after_traceback = lines[starts[-1] + 1 :]
        message: list[str] = []
        for line in after_traceback:
            if not message and line.startswith((" ", "\t")):
                continue
            if message and (not line.strip() or line.startswith("\tat ") or _LOG4J_LINE.match(line)):
                break
            message.append(line)
        if message:
            return "\n".join(message[:_ERROR_MESSAGE_LINES])
    own = [line for line in lines if line.strip() and not _LOG4J_LINE.match(line)]
    command_failed = f"Command failed with exit code {exit_code}"
    return f"{command_failed}: {own[-1].strip()}" if own else command_failed
