"""Attempts at a run of the pipeline, each in its own process, in which AWS calls can fail."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.e2e.deployment import Deployment
from tests.e2e.spark_process import SparkProcess
from tests.faults.attempt_process import Job, run_attempt
from tests.faults.wire import Call, Fault

# Longer than any attempt takes.
ATTEMPT_SECONDS = 120


@dataclass
class Attempt:
    """How an attempt ended.

    Attributes:
        results: the result of each task that has ended, by task id.
        unfinished: the task in which it died or failed; None if all have ended.
        error: type and message of the exception that ended it; None if there was none, as after SIGKILL.
        killed: whether SIGKILL ended it.
        paused: whether it waited at a call until another event had happened.
        calls: the AWS calls, in order; empty if it was killed.
        waits: seconds of each wait of the SDK between its attempts (recorded, not slept).
    """

    results: dict[str, Any]
    unfinished: str | None = None
    error: str | None = None
    killed: bool = False
    paused: bool = False
    calls: list[Call] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


def next_task(attempt: Attempt) -> str | None:
    """Return the task that Airflow or its user runs next: the unfinished one, or that of its message."""
    asks_for_glue = attempt.error and "Clear trigger_glue_job" in attempt.error
    return "trigger_glue_job" if asks_for_glue else attempt.unfinished


class Attempts:
    """Makes attempts: forks each one from a process that has everything imported."""

    def __init__(self, spark: SparkProcess, folder: Path) -> None:
        """Take the Spark for the Glue job's computations, and a folder to cache its results."""
        self._spark = spark
        self._folder = folder
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(["tests.faults.preload"])

    def make(
        self,
        deployment: Deployment,
        dag_run_id: str,
        results: Mapping[str, Any] | None = None,
        start: str | None = None,
        until: str | None = None,
        fault: Fault | None = None,
        without: str | None = None,
        with_operator: bool = False,
        reprocess_dates: str | None = None,
        meanwhile: Callable[[Attempt], object] | None = None,
    ) -> Attempt:
        """Run tasks of a DAG run in a new process; failures in them are returned, not raised.

        Args:
            deployment: the pipeline.
            dag_run_id: the DAG run.
            results: the results of earlier tasks, by task id.
            start: the first task to run; by default the run's first.
            until: the last task to run; by default the run's last.
            fault: the fault of the AWS calls.
            without: a key of `SAFEGUARDS`, which is switched off.
            reprocess_dates: the days to reprocess, for a run that takes no new files.
            with_operator: whether Airflow's operator runs the Glue job instead of the stand-in.
            meanwhile: called here while the attempt is paused.
        """
        ours, theirs = self._context.Pipe()
        job = Job(
            deployment.endpoint_url,
            deployment.names,
            deployment.airflow_home,
            dag_run_id,
            dict(results or {}),
            start,
            until,
            fault,
            without,
            with_operator,
            reprocess_dates,
            self._folder,
        )
        process = self._context.Process(target=run_attempt, args=(theirs, job))
        process.start()
        theirs.close()
        attempt = Attempt(dict(results or {}))
        try:
            self._follow(ours, attempt, deployment.endpoint_url, meanwhile)
        except BaseException:
            process.kill()
            raise
        finally:
            ours.close()
            process.join()
        attempt.killed = process.exitcode == -signal.SIGKILL
        if process.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"The attempt's process ended with {process.exitcode}: {job}")
        return attempt

    def run_to_end(
        self,
        deployment: Deployment,
        dag_run_id: str,
        attempt: Attempt,
        tries: int = 1,
        reprocess_dates: str | None = None,
    ) -> Attempt:
        """Act like Airflow and its user: repeat the unfinished task, or follow its message."""
        for _ in range(tries):
            if attempt.unfinished is None:
                break
            attempt = self.make(
                deployment, dag_run_id, attempt.results, next_task(attempt), reprocess_dates=reprocess_dates
            )
        return attempt

    def _follow(
        self,
        connection: Connection,
        attempt: Attempt,
        endpoint_url: str,
        meanwhile: Callable[[Attempt], object] | None,
    ) -> None:
        while True:
            if not connection.poll(ATTEMPT_SECONDS):
                raise TimeoutError(f"The attempt hangs in {attempt.unfinished}")
            try:
                kind, *content = connection.recv()
            except EOFError:
                return
            if kind == "starts":
                [attempt.unfinished] = content
            elif kind == "returned":
                attempt.results[content[0]] = content[1]
            elif kind == "glue":
                connection.send(self._run_spark(endpoint_url, *content))
            elif kind == "paused":
                assert meanwhile is not None
                attempt.paused = True
                meanwhile(attempt)
                connection.send("go on")
            elif kind == "ended":
                attempt.error, attempt.calls, attempt.waits = content
                attempt.unfinished = attempt.unfinished if attempt.error else None

    def _run_spark(self, endpoint_url: str, arguments: dict[str, str]) -> str | None:
        try:
            self._spark.run_glue_script(endpoint_url, arguments)
        except RuntimeError as error:
            return str(error)
        return None
