"""Many pipelines with the same prepared batch; a different fault happens to each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.e2e.deployment import Deployment, deploy
from tests.e2e.observed import Resources, snapshot
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent
from tests.faults import batch
from tests.faults.attempts import Attempt, Attempts, next_task
from tests.faults.kept_state import KeptState
from tests.faults.undisturbed_run import UndisturbedRun
from tests.faults.wire import Call, Fault
from tests.scenarios import Scenarios

UNIQUE_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
EARLIER_RUN, RUN, NEXT_RUN = (f"manual__2024-07-0{day}T00:00:00+00:00" for day in (1, 2, 3))


class Bench:
    """Pipelines with a complete earlier run and a batch that waits in the source bucket.

    There is one at a time, because all have the same buckets and table: a new one replaces the last.

    Attributes:
        attempts: makes attempts at runs.
        run: the undisturbed run of the batch.
    """

    def __init__(self, stack: Deployment, attempts: Attempts, judged: Path) -> None:
        """Take the stack whose role and topic the pipelines have, and a folder that all processes share."""
        self.attempts = attempts
        self._stack = stack
        self._judged = judged
        deployment = self.deploy_empty()
        deployment.upload_all({**batch.EARLIER_CATALOGS, **batch.EARLIER_FILES})
        self.check(deployment, attempts.make(deployment, EARLIER_RUN))
        deployment.upload_all({**batch.CATALOGS, **batch.FILES})
        self._batch_waits = KeptState(deployment)
        self.run = UndisturbedRun(attempts, deployment, RUN)
        self.check(deployment, self.run.attempt)

    @property
    def calls(self) -> list[Call]:
        """The AWS calls of an undisturbed run of the batch."""
        return self.run.calls

    def deploy(self) -> Deployment:
        """Make a pipeline in which the batch was delivered after an earlier run had ended."""
        return self._batch_waits.restore()

    def deploy_empty(self) -> Deployment:
        """Make a pipeline of its own buckets and table, to which nothing was delivered."""
        return deploy(self._stack.endpoint_url, self._stack.airflow_home, self._stack.names)

    def is_new(self, deployment: Deployment, dag_run_id: str, attempt: Attempt, done: Sequence[Call]) -> bool:
        """Return whether no interrupted run left AWS in this state before.

        A rerun knows only this state, so recovery from it needs to be judged once. All calls between two
        changes leave the same state, whether the process was killed there or AWS refused them.

        Args:
            deployment: the pipeline.
            dag_run_id: the interrupted run.
            attempt: the attempt that died or failed.
            done: the calls that AWS executed for it.
        """
        changes = [call.operation for call in done if call.mutating]
        state = repr((dag_run_id, next_task(attempt), changes, _names(deployment.resources)))
        # Each process of pytest has other versions of the objects.
        digest = hashlib.sha256(UNIQUE_ID.sub("id", state).encode()).hexdigest()
        try:
            (self._judged / digest).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def check(self, deployment: Deployment, attempt: Attempt) -> None:
        """Let the oracle judge the state once the last attempt of the run has ended.

        Raises:
            AssertionError: lists every difference.
        """
        assert attempt.unfinished is None, f"{attempt.unfinished} failed: {attempt.error}"
        assert_consistent(deployment.resources, deployment.delivered)
        assert_another_run_changes_nothing(
            deployment.resources, lambda: self.expect_nothing_to_do(deployment, NEXT_RUN)
        )

    def survive(
        self,
        faults: Sequence[Fault],
        endure: Callable[[Fault], None],
        scenarios: Scenarios,
        numbers_of: Callable[[Fault], Iterable[int]],
    ) -> None:
        """Let each fault happen to its own pipeline, and count the survivors.

        Args:
            faults: the faults, one per pipeline.
            endure: runs a pipeline with its fault and judges the result.
            scenarios: records what was tried.
            numbers_of: the scenarios that a fault is an instance of.

        Raises:
            AssertionError: lists each fault that did harm, and the harm.
        """
        problems = []
        for fault in faults:
            try:
                endure(fault)
                survived = True
            except Exception as error:
                problems.append(f"{fault}: {type(error).__name__}: {error}")
                survived = False
            scenarios.record(numbers_of(fault), survived)
            if fault.kind.startswith("killed"):
                scenarios.record_kill_point(survived)
        assert faults, "No fault was tried"
        assert not problems, "\n\n".join(problems)

    def expect_nothing_to_do(self, deployment: Deployment, dag_run_id: str) -> None:
        """Start another run, which must find no files."""
        attempt = self.attempts.make(deployment, dag_run_id)
        assert (attempt.error or "").startswith("AirflowSkipException"), attempt


def _names(resources: Resources) -> list[str]:
    """Return the names of all objects and items; each pipeline has other names of buckets."""
    buckets = {
        resources.source_bucket: "source",
        resources.intermediate_bucket: "intermediate",
        resources.archive_bucket: "archive",
    }
    names = (name.removeprefix("s3://").partition("/") for name in snapshot(resources))
    return sorted(f"{buckets.get(bucket, bucket)} {key}" for bucket, _, key in names)
