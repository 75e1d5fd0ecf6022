"""What can happen beside a run of the batch, at any of its AWS calls, until the oracle judges.

A story takes a pipeline in which the batch waits, where it happens, and a safeguard to switch off, or None.
"""

from __future__ import annotations

import re

from tests.e2e.data import FIRST_DAY, SECOND_DAY, stream_file
from tests.e2e.deployment import Deployment
from tests.e2e.observed import observe, snapshot
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent, find_problems
from tests.faults import batch
from tests.faults.attempts import Attempt
from tests.faults.bench import NEXT_RUN, RUN, Bench
from tests.faults.wire import PAUSED, Fault

LAST_RUN = "manual__2024-07-04T00:00:00+00:00"
COPIES_IN_QUARANTINE = re.compile(r".* was delivered .*: \[('archive quarantine/[^']*'(, )?){2,}\]")
NEWER = stream_file([*batch.listens(FIRST_DAY, 40, 3), *batch.listens(SECOND_DAY, 30, 20)])


def file_comes(
    bench: Bench, deployment: Deployment, where: Fault, without: str | None = None, key: str = "streams/z.csv"
) -> None:
    """A file is delivered, which may replace one of the batch; the next run takes it, if this one did not."""
    attempt = bench.attempts.make(
        deployment, RUN, fault=where, without=without, meanwhile=lambda _: deployment.upload(key, NEWER)
    )
    assert attempt.paused
    assert attempt.unfinished is None, attempt.error
    assert_consistent(deployment.resources, deployment.delivered)
    expect_end(bench.attempts.make(deployment, NEXT_RUN))
    assert_consistent(deployment.resources, deployment.delivered)
    bench.expect_nothing_to_do(deployment, LAST_RUN)


def retry_runs_beside_zombie(
    bench: Bench, deployment: Deployment, where: Fault, without: str | None = None
) -> None:
    """While the attempt at a task hangs, Airflow gives it up; its retry ends the run; then it goes on."""
    ended: dict[str, object] = {}

    def give_up(zombie: Attempt) -> None:
        deployment.upload("streams/z.csv", NEWER)
        attempt = bench.attempts.make(deployment, RUN, zombie.results, zombie.unfinished)
        assert attempt.unfinished is None, attempt.error
        ended.update(_contents(deployment))

    task = bench.calls[where.call - 1].task
    attempt = bench.attempts.make(
        deployment, RUN, until=task, fault=where, without=without, meanwhile=give_up
    )

    assert attempt.paused
    assert _contents(deployment) == ended, "the zombie changed what its retry had left"
    # A zombie may leave temporary objects after they were deleted; S3 lets them expire.
    bench.attempts.make(deployment, RUN, start="delete_files_from_intermediate_bucket")
    expect_end(bench.attempts.make(deployment, NEXT_RUN))
    assert_consistent(deployment.resources, deployment.delivered)


def another_run_comes_between(
    bench: Bench, deployment: Deployment, where: Fault, without: str | None = None
) -> None:
    """Another run takes the same files and a newer one, and ends, while this one hangs; then it goes on."""

    def run_another(_: Attempt) -> None:
        deployment.upload("streams/z.csv", NEWER)
        expect_end(bench.attempts.make(deployment, NEXT_RUN))

    attempt = bench.attempts.make(deployment, RUN, fault=where, without=without, meanwhile=run_another)
    assert attempt.paused
    expect_end(bench.attempts.run_to_end(deployment, RUN, attempt))
    problems = find_problems(observe(deployment.resources), deployment.delivered)
    problems = [problem for problem in problems if not comes_of_overlap(problem)]
    assert not problems, problems
    assert_another_run_changes_nothing(
        deployment.resources, lambda: bench.expect_nothing_to_do(deployment, LAST_RUN)
    )


def comes_of_overlap(problem: str) -> bool:
    """Tell whether runs that overlapped may leave this: they worked on the same files, and each says so.

    Each may also have put a rejected file into its own quarantine.
    """
    return " is in the report of " in problem or COPIES_IN_QUARANTINE.fullmatch(problem) is not None


def _contents(deployment: Deployment) -> dict[str, object]:
    """Return ETag or item by name, without temporary objects: a zombie may write the same bytes once more."""
    temporary = f"s3://{deployment.resources.intermediate_bucket}/"
    return {
        name: found[1] if isinstance(found, tuple) else found
        for name, found in snapshot(deployment.resources).items()
        if not name.startswith(temporary)
    }


def expect_end(attempt: Attempt) -> None:
    """Expect that a run has ended: complete, or skipped since there was nothing left to do."""
    if not (attempt.error or "").startswith("AirflowSkipException"):
        assert attempt.unfinished is None, attempt.error


def paused(number: int) -> Fault:
    """Return the fault that stops a process before a call until something else has happened."""
    return Fault(PAUSED, number)
