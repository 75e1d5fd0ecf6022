"""SIGKILL before and after every AWS call of a run: a rerun gives the result of an undisturbed run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from tests.e2e.data import FIRST_DAY, SECOND_DAY
from tests.e2e.oracle import assert_consistent
from tests.faults import batch
from tests.faults.bench import NEXT_RUN, RUN, Bench
from tests.faults.stories import LAST_RUN, expect_end
from tests.faults.undisturbed_run import UndisturbedRun
from tests.faults.wire import Call, Fault
from tests.scenarios import Scenarios

KINDS = ["killed before", "killed after"]
BOTH_DAYS = f"{FIRST_DAY},{SECOND_DAY}"


def test_run_killed_after_the_last_change_of_any_task_ends_as_if_nothing_had_happened(
    bench: Bench, scenarios: Scenarios
) -> None:
    last_changes = {call.task: number for number, call in enumerate(bench.calls, 1) if call.mutating}
    kill_and_run_again(bench, scenarios, [Fault("killed after", number) for number in last_changes.values()])


@pytest.mark.scenarios(23, 24, 27, 28, 34, 35, 36)
@pytest.mark.parametrize("kind", KINDS)
def test_run_killed_at_any_call_ends_as_if_nothing_had_happened(
    bench: Bench, scenarios: Scenarios, kind: str
) -> None:
    numbers = range(1, len(bench.calls) + 1)
    kill_and_run_again(bench, scenarios, [Fault(kind, number) for number in numbers])


def kill_and_run_again(bench: Bench, scenarios: Scenarios, faults: list[Fault]) -> None:
    def endure(fault: Fault) -> None:
        deployment, make = bench.run.with_fault(fault)
        attempt = make()
        assert attempt.killed
        assert attempt.unfinished == bench.calls[fault.call - 1].task
        if bench.is_new(deployment, RUN, attempt, executed(bench.calls, fault)):
            attempt = bench.attempts.run_to_end(deployment, RUN, attempt)
            bench.check(deployment, attempt)

    bench.survive(faults, endure, scenarios, lambda fault: scenarios_of(bench.calls, fault))


@pytest.mark.scenarios(23)
@pytest.mark.parametrize("kind", KINDS)
def test_reprocessing_killed_at_any_change_ends_as_if_nothing_had_happened(
    bench: Bench, scenarios: Scenarios, kind: str
) -> None:
    def endure(fault: Fault) -> None:
        deployment, make = run.with_fault(fault)
        attempt = make()
        assert attempt.killed
        if bench.is_new(deployment, LAST_RUN, attempt, executed(run.calls, fault)):
            attempt = bench.attempts.run_to_end(deployment, LAST_RUN, attempt, reprocess_dates=BOTH_DAYS)
            bench.check(deployment, attempt)

    run = reprocessing(bench)
    assert "prepare_reprocessing" in {call.task for call in run.calls}
    faults = [Fault(kind, number) for number, call in enumerate(run.calls, 1) if call.mutating]
    bench.survive(faults, endure, scenarios, lambda fault: [23])


@pytest.mark.scenarios(23)
@pytest.mark.parametrize("kind", KINDS)
def test_run_without_a_valid_row_killed_at_any_change_quarantines_its_files_all_the_same(
    bench: Bench, scenarios: Scenarios, kind: str
) -> None:
    def endure(fault: Fault) -> None:
        deployment, make = run.with_fault(fault)
        attempt = make()
        assert attempt.killed
        attempt = bench.attempts.run_to_end(deployment, RUN, attempt)
        assert (attempt.error or "").startswith("NoValidRowsError: None of 2 stream files has a valid row")
        assert_consistent(deployment.resources, deployment.delivered)
        bench.expect_nothing_to_do(deployment, NEXT_RUN)

    run = run_without_a_valid_row(bench)
    assert run.calls[-1].task == "move_files_to_intermediate_bucket"
    faults = [Fault(kind, number) for number, call in enumerate(run.calls, 1) if call.mutating]
    bench.survive(faults, endure, scenarios, lambda fault: [23])


@cache
def reprocessing(bench: Bench) -> UndisturbedRun:
    """Reprocess both days with another catalog."""
    deployment = bench.deploy()
    expect_end(bench.attempts.make(deployment, RUN))
    deployment.upload_all(batch.catalogs(first_genre="acoustic"))
    return UndisturbedRun(bench.attempts, deployment, LAST_RUN, reprocess_dates=BOTH_DAYS)


@cache
def run_without_a_valid_row(bench: Bench) -> UndisturbedRun:
    """Run the pipeline on files that all go into quarantine."""
    deployment = bench.deploy_empty()
    deployment.upload_all({**batch.CATALOGS, **batch.BROKEN_FILES})
    return UndisturbedRun(bench.attempts, deployment, RUN)


def executed(calls: list[Call], fault: Fault) -> list[Call]:
    """Return the calls that AWS has executed when the process dies."""
    return calls[: fault.call - (fault.kind == "killed before")]


def scenarios_of(calls: list[Call], fault: Fault) -> Iterator[int]:
    """Return the scenarios of a process that dies there."""
    done = executed(calls, fault)
    task = calls[fault.call - 1].task
    yield 23
    in_task = [call for call in done if call.task == task and call.mutating]
    if task == "store_kpis_in_dynamodb" and any("Item" in call.operation for call in in_task):
        yield 24
    if task == "trigger_glue_job" and in_task:
        yield 27 if "summary.json" in in_task[-1].operation else 28
    if task == "archive_streams_data" and in_task:
        last = in_task[-1].operation
        if last.startswith("PUT (copy)") and "rejected_rows" not in last:
            yield 34
        if last.startswith("DELETE"):
            yield 35
        yield 36
