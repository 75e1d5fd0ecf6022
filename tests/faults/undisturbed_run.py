"""A run in which nothing fails, from which those with a fault start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from tests.e2e.deployment import Deployment
from tests.e2e.pipeline_runner import PipelineRunner
from tests.faults.attempts import Attempt, Attempts
from tests.faults.kept_state import KeptState
from tests.faults.wire import Call, Fault


class _Begin(NamedTuple):
    """State and results that a task finds when it begins, and the number of the run's AWS calls before it."""

    state: KeptState
    results: dict[str, Any]
    calls: int


class UndisturbedRun:
    """A run that can begin again before any of its tasks, in the state of that moment.

    A fault needs only the tasks from its call on. Airflow runs each task in a process of its own, so a task
    knows nothing but the results of the previous tasks and the state of AWS.

    Attributes:
        attempt: how the run ended.
        calls: its AWS calls, in order.
    """

    def __init__(
        self, attempts: Attempts, deployment: Deployment, dag_run_id: str, reprocess_dates: str | None = None
    ) -> None:
        """Make the run, until its end or the first task that fails."""
        self._attempts = attempts
        self._arguments: dict[str, Any] = {"dag_run_id": dag_run_id, "reprocess_dates": reprocess_dates}
        self._begins: dict[str, _Begin] = {}
        self.calls: list[Call] = []
        self.attempt = Attempt({})
        tasks = PipelineRunner(deployment, lambda *_: None, **self._arguments).task_ids
        for task in tasks:
            results = dict(self.attempt.results)
            self._begins[task] = _Begin(KeptState(deployment), results, len(self.calls))
            self.attempt = attempts.make(
                deployment, results=results, start=task, until=task, **self._arguments
            )
            self.calls += self.attempt.calls
            if self.attempt.error:
                break

    def before(self, task: str) -> tuple[Deployment, dict[str, Any]]:
        """Return to the moment before a task: the pipeline, and the results of the previous tasks."""
        begin = self._begins[task]
        return begin.state.restore(), dict(begin.results)

    def with_fault(self, fault: Fault) -> tuple[Deployment, Callable[..., Attempt]]:
        """Return to the moment before the task of the fault's call.

        Returns:
            The pipeline, and a function that makes the attempt with the fault from there on. It takes further
            arguments of `Attempts.make`; the attempt's calls include those before the task.
        """
        task = self.calls[fault.call - 1].task
        deployment, results = self.before(task)
        done = self._begins[task].calls

        def make(**arguments: Any) -> Attempt:
            attempt = self._attempts.make(
                deployment,
                results=results,
                start=task,
                fault=replace(fault, call=fault.call - done),
                **self._arguments,
                **arguments,
            )
            attempt.calls[:0] = self.calls[:done]
            return attempt

        return deployment, make
