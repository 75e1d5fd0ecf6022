"""Prints a line per task while Airflow runs the tasks in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance


def label_of(task_instance: TaskInstance) -> str:
    """Return the task's id, with its index if it is mapped."""
    index = task_instance.map_index
    return task_instance.task_id if index < 0 else f"{task_instance.task_id} [{index}]"


@dataclass
class TaskProgress:
    """Airflow listener that reports the start and end of tasks.

    Args:
        on_start: called with the task's label.
        on_end: called with label, state and seconds (none if it failed before it began).
    """

    on_start: Callable[[str], None]
    on_end: Callable[[str, str, float | None], None]
    errors: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    _started: dict[str, float] = field(default_factory=dict)

    @hookimpl
    def on_task_instance_running(self, task_instance: TaskInstance) -> None:
        """Record the start time; a task that resumes after its trigger has begun before."""
        label = label_of(task_instance)
        self._started.setdefault(label, time.monotonic())
        self.on_start(label)

    @hookimpl
    def on_task_instance_success(self, task_instance: TaskInstance) -> None:
        """Report the end of the task."""
        self._end(label_of(task_instance), "success")

    @hookimpl
    def on_task_instance_failed(self, task_instance: TaskInstance, error: None | str | BaseException) -> None:
        """Report the failed attempt and keep its error."""
        label = label_of(task_instance)
        self.errors[label] = str(error) or type(error).__name__
        self._end(label, "retry" if task_instance.state == "up_for_retry" else "failed")

    def _end(self, label: str, state: str) -> None:
        if state != "retry":
            self.ended.add(label)
        started = self._started.pop(label, None)
        self.on_end(label, state, None if started is None else time.monotonic() - started)
