"""Many pipelines with the same prepared batch, to each of which something else happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import cached_property
from queue import SimpleQueue
from typing import Any, NamedTuple

from tests.e2e.deployment import Deployment, deploy
from tests.e2e.observed import Resources, read_objects
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent
from tests.faults import batch
from tests.faults.attempts import Attempt, Attempts
from tests.faults.wire import Call, Fault
from tests.scenarios import Scenarios

EARLIER_RUN, RUN, NEXT_RUN = (f"manual__2024-07-0{day}T00:00:00+00:00" for day in (1, 2, 3))


class _Objects(NamedTuple):
    """What a run left behind: the archive's objects by key, and the table's items."""

    archived: dict[str, bytes]
    items: list[dict[str, Any]]


class Bench:
    """Makes pipelines with a complete earlier run and a batch that waits in the source bucket."""

    def __init__(self, stacks: list[Deployment], attempts: Attempts) -> None:
        """Take a stack per server."""
        self.attempts = attempts
        self._stacks = stacks

    def deploy(self, stack: Deployment | None = None) -> Deployment:
        """Make a pipeline in which the batch was delivered after an earlier run had ended."""
        template, left = self._after_earlier_run
        deployment = self.deploy_empty(stack)
        deployment.delivered = deepcopy(template.delivered)
        resources = deployment.resources
        for key, body in left.archived.items():
            resources.s3.put_object(Bucket=resources.archive_bucket, Key=key, Body=body)
        for item in left.items:
            resources.dynamodb.put_item(TableName=resources.kpi_table, Item=item)
        deployment.upload_all({**batch.CATALOGS, **batch.FILES})
        return deployment

    def deploy_empty(self, stack: Deployment | None = None) -> Deployment:
        """Make a pipeline to which nothing was delivered."""
        stack = stack or self._stacks[0]
        return deploy(stack.endpoint_url, stack.airflow_home, stack.names)

    @cached_property
    def calls(self) -> list[Call]:
        """The AWS calls of a run of the batch to which nothing happens."""
        deployment = self.deploy()
        attempt = self.attempts.make(deployment, RUN)
        self.check(deployment, attempt)
        return attempt.calls

    def check(self, deployment: Deployment, attempt: Attempt) -> None:
        """Let the oracle judge what is left once the last attempt of the run has ended.

        Raises:
            AssertionError: names every difference.
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
        deploy: Callable[[Deployment], Deployment] | None = None,
    ) -> None:
        """Let each fault happen to a pipeline of its own, and count what was survived.

        Args:
            faults: what goes wrong, one in each pipeline.
            endure: runs a pipeline to which it happens, and judges what is left.
            scenarios: takes down what was tried.
            numbers_of: the scenarios that a fault is an instance of.
            deploy: makes the pipelines; with the batch waiting unless given.

        Raises:
            AssertionError: names each fault that did harm, and what it did.
        """
        stacks: SimpleQueue[Deployment] = SimpleQueue()
        for stack in self._stacks:
            stacks.put(stack)

        def problem_of(fault: Fault) -> str | None:
            stack = stacks.get()
            try:
                endure((deploy or self.deploy)(stack), fault)
            except Exception as error:
                return f"{fault}: {type(error).__name__}: {error}"
            finally:
                stacks.put(stack)
            return None

        with ThreadPoolExecutor(len(self._stacks)) as pool:
            problems = list(pool.map(problem_of, faults))
        for fault, problem in zip(faults, problems, strict=True):
            scenarios.record(numbers_of(fault), problem is None)
            if fault.kind.startswith("killed"):
                scenarios.record_kill_point(problem is None)
        assert faults, "No fault was tried"
        assert not any(problems), "\n\n".join(problem for problem in problems if problem)

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
