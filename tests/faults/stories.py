"""Events beside a run of the batch, at any of its AWS calls, until the oracle judges.

A story takes the call where the event happens, and a safeguard that is off from its task on, or None.
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


def file_comes(bench: Bench, where: Fault, without: str | None = None, key: str = "streams/z.csv") -> None:
    """A file is delivered and may replace one of the batch; this run or the next one takes it."""
    deployment, make = bench.run.with_fault(where)
    attempt = make(without=without, meanwhile=lambda _: deployment.upload(key, NEWER))
    assert attempt.paused
    assert attempt.unfinished is None, attempt.error
    assert_consistent(deployment.resources, deployment.delivered)
    expect_end(bench.attempts.make(deployment, NEXT_RUN))
    assert_consistent(deployment.resources, deployment.delivered)
    bench.expect_nothing_to_do(deployment, LAST_RUN)


def retry_runs_beside_zombie(bench: Bench, where: Fault, without: str | None = None) -> None:
    """A task hangs, Airflow gives it up, a retry completes the run, and then the first attempt resumes."""
    ended: dict[str, object] = {}

    def give_up(zombie: Attempt) -> None:
        deployment.upload("streams/z.csv", NEWER)
        attempt = bench.attempts.make(deployment, RUN, zombie.results, zombie.unfinished)
        assert attempt.unfinished is None, attempt.error
        ended.update(_contents(deployment))

    deployment, make = bench.run.with_fault(where)
    task = bench.calls[where.call - 1].task
    attempt = make(until=task, without=without, meanwhile=give_up)

    assert attempt.paused
    assert _contents(deployment) == ended, "the zombie changed what its retry had left"
    # A zombie may leave temporary objects after their deletion; S3 expires them.
    bench.attempts.make(deployment, RUN, start="delete_files_from_intermediate_bucket")
    expect_end(bench.attempts.make(deployment, NEXT_RUN))
    assert_consistent(deployment.resources, deployment.delivered)


def another_run_comes_between(bench: Bench, where: Fault, without: str | None = None) -> None:
    """This run hangs; another run takes the same files and a newer one, and ends; then this run resumes."""

    def run_another(_: Attempt) -> None:
        deployment.upload("streams/z.csv", NEWER)
        expect_end(bench.attempts.make(deployment, NEXT_RUN))

    deployment, make = bench.run.with_fault(where)
    attempt = make(without=without, meanwhile=run_another)
    assert attempt.paused
    expect_end(bench.attempts.run_to_end(deployment, RUN, attempt))
    problems = find_problems(observe(deployment.resources), deployment.delivered)
    problems = [problem for problem in problems if not comes_of_overlap(problem)]
    assert not problems, problems
    assert_another_run_changes_nothing(
        deployment.resources, lambda: bench.expect_nothing_to_do(deployment, LAST_RUN)
    )


def comes_of_overlap(problem: str) -> bool:
    """Return whether overlapping runs explain the problem: they worked on the same files, and each says so.

    Each may also have put a rejected file into its own quarantine.
    """
    return " is in the report of " in problem or COPIES_IN_QUARANTINE.fullmatch(problem) is not None


def _contents(deployment: Deployment) -> dict[str, object]:
    """Return ETag or item by name, without temporary objects: a zombie may write the same bytes again."""
    temporary = f"s3://{deployment.resources.intermediate_bucket}/"
    return {
        name: found[1] if isinstance(found, tuple) else found
        for name, found in snapshot(deployment.resources).items()
        if not name.startswith(temporary)
    }


def expect_end(attempt: Attempt) -> None:
    """Check that a run has ended: complete, or skipped because nothing was left to do."""
    if not (attempt.error or "").startswith("AirflowSkipException"):
        assert attempt.unfinished is None, attempt.error


def paused(number: int) -> Fault:
    """Return the fault that stops a process before a call until another event has happened."""
    return Fault(PAUSED, number)
