"""Many pipelines with the same prepared batch; a different fault happens to each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any, NamedTuple

from tests.e2e.deployment import Deployment, deploy
from tests.e2e.observed import Resources, read_objects, snapshot
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent
from tests.faults import batch
from tests.faults.attempts import Attempt, Attempts, next_task
from tests.faults.wire import Call, Fault
from tests.scenarios import Scenarios

EARLIER_RUN, RUN, NEXT_RUN = (f"manual__2024-07-0{day}T00:00:00+00:00" for day in (1, 2, 3))


class _Objects(NamedTuple):
    """The results of a run: the archive's objects by key, and the table's items."""

    archived: dict[str, bytes]
    items: list[dict[str, Any]]


class Bench:
    """Creates pipelines with a complete earlier run and a batch that waits in the source bucket."""

    def __init__(self, stack: Deployment, attempts: Attempts) -> None:
        """Take the stack in which each pipeline gets its own buckets and table."""
        self.attempts = attempts
        self._stack = stack
        self._states: set[object] = set()

    def deploy(self) -> Deployment:
        """Make a pipeline in which the batch was delivered after an earlier run had ended."""
        template, left = self._after_earlier_run
        deployment = self.deploy_empty()
        deployment.delivered = deepcopy(template.delivered)
        resources = deployment.resources
        for key, body in left.archived.items():
            resources.s3.put_object(Bucket=resources.archive_bucket, Key=key, Body=body)
        for item in left.items:
            resources.dynamodb.put_item(TableName=resources.kpi_table, Item=item)
        deployment.upload_all({**batch.CATALOGS, **batch.FILES})
        return deployment

    def deploy_empty(self) -> Deployment:
        """Make a pipeline to which nothing was delivered."""
        return deploy(self._stack.endpoint_url, self._stack.airflow_home, self._stack.names)

    @cached_property
    def calls(self) -> list[Call]:
        """The AWS calls of an undisturbed run of the batch."""
        deployment = self.deploy()
        attempt = self.attempts.make(deployment, RUN)
        self.check(deployment, attempt)
        return attempt.calls

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
        changes = tuple(call.operation for call in done if call.mutating)
        state = (dag_run_id, next_task(attempt), changes, _names(deployment.resources))
        is_new = state not in self._states
        self._states.add(state)
        return is_new

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
        endure: Callable[[Deployment, Fault], None],
        scenarios: Scenarios,
        numbers_of: Callable[[Fault], Iterable[int]],
        deploy: Callable[[], Deployment] | None = None,
    ) -> None:
        """Let each fault happen to its own pipeline, and count the survivors.

        Args:
            faults: the faults, one per pipeline.
            endure: runs a pipeline with its fault and judges the result.
            scenarios: records what was tried.
            numbers_of: the scenarios that a fault is an instance of.
            deploy: creates the pipelines; by default with the batch waiting.

        Raises:
            AssertionError: lists each fault that did harm, and the harm.
        """
        problems = []
        for fault in faults:
            try:
                endure((deploy or self.deploy)(), fault)
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

    @cached_property
    def _after_earlier_run(self) -> tuple[Deployment, _Objects]:
        deployment = self.deploy_empty()
        deployment.upload_all({**batch.EARLIER_CATALOGS, **batch.EARLIER_FILES})
        attempt = self.attempts.make(deployment, EARLIER_RUN)
        self.check(deployment, attempt)
        resources = deployment.resources
        items = resources.dynamodb.scan(TableName=resources.kpi_table)["Items"]
        return deployment, _Objects(_archived(resources), items)


def _archived(resources: Resources) -> dict[str, bytes]:
    return read_objects(resources, resources.archive_bucket, "")


def _names(resources: Resources) -> frozenset[str]:
    """Return the names of all objects and items; each pipeline has other names of buckets."""
    buckets = {
        resources.source_bucket: "source",
        resources.intermediate_bucket: "intermediate",
        resources.archive_bucket: "archive",
    }
    names = (name.removeprefix("s3://").partition("/") for name in snapshot(resources))
    return frozenset(f"{buckets.get(bucket, bucket)} {key}" for bucket, _, key in names)
