"""SIGKILL before and after every AWS call of a run: the rerun ends as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.deployment import Deployment
from tests.faults.bench import RUN, Bench
from tests.faults.wire import Call, Fault
from tests.scenarios import Scenarios


def test_run_killed_after_any_change_ends_as_if_nothing_had_happened(
    bench: Bench, scenarios: Scenarios
) -> None:
    changes = [number for number, call in enumerate(bench.calls, 1) if call.mutating]
    kill_and_run_again(bench, scenarios, [Fault("killed after", number) for number in changes])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["killed before", "killed after"])
@pytest.mark.scenarios(23, 24, 27, 28, 34, 35, 36)
def test_run_killed_at_any_call_ends_as_if_nothing_had_happened(
    bench: Bench, scenarios: Scenarios, kind: str
) -> None:
    numbers = range(1, len(bench.calls) + 1)
    kill_and_run_again(bench, scenarios, [Fault(kind, number) for number in numbers])
    scenarios.kill_points[kind] = len(numbers)


def kill_and_run_again(bench: Bench, scenarios: Scenarios, faults: list[Fault]) -> None:
    def endure(deployment: Deployment, fault: Fault) -> None:
        attempt = bench.attempts.make(deployment, RUN, fault=fault)
        assert attempt.killed
        assert attempt.unfinished == bench.calls[fault.call - 1].task
        attempt = bench.attempts.run_to_end(deployment, RUN, attempt, tries=1)
        bench.check(deployment, attempt)

    bench.survive(faults, endure, scenarios, lambda fault: scenarios_of(bench.calls, fault))


def scenarios_of(calls: list[Call], fault: Fault) -> Iterator[int]:
    """Tell which scenarios it is when the process dies there."""
    # What AWS has done when the process dies, and what it has not.
    done = calls[: fault.call - (fault.kind == "killed before")]
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
