"""Files arrive, retries start and other runs end at any moment of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.faults.bench import Bench
from tests.faults.stories import another_run_comes_between, file_comes, paused, retry_runs_beside_zombie
from tests.faults.wire import Fault
from tests.scenarios import Scenarios

Story = Callable[[Bench, Fault], None]
FILE_OF_THE_BATCH = "streams/late.csv"
STORIES: dict[str, Story] = {
    "file arrives": file_comes,
    "file is overwritten": partial(file_comes, key=FILE_OF_THE_BATCH),
    "retry beside a zombie": retry_runs_beside_zombie,
    "another run between": another_run_comes_between,
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.scenarios(1, 2, 3, 31, 32, 42)
def test_run_survives_at_each_change_of_task_that(bench: Bench, scenarios: Scenarios, story: str) -> None:
    tasks = [call.task for call in bench.calls]
    live_through(bench, scenarios, story, [tasks.index(task) + 1 for task in dict.fromkeys(tasks)])


@pytest.mark.parametrize("story", ["retry beside a zombie", "another run between"])
@pytest.mark.scenarios(31, 32, 42)
def test_run_survives_before_each_change_of_table_history_and_source_that(
    bench: Bench, scenarios: Scenarios, story: str
) -> None:
    tasks = ("store_kpis_in_dynamodb", "archive_streams_data")
    numbers = [n for n, call in enumerate(bench.calls, 1) if call.mutating and call.task in tasks]
    live_through(bench, scenarios, story, numbers)


@pytest.mark.scenarios(2, 3)
def test_run_survives_a_file_that_is_overwritten_at_any_call(bench: Bench, scenarios: Scenarios) -> None:
    numbers = [number for number, call in enumerate(bench.calls, 1) if "/late" in call.operation]
    live_through(bench, scenarios, "file is overwritten", numbers)


def live_through(bench: Bench, scenarios: Scenarios, story: str, numbers: list[int]) -> None:
    def scenarios_of(fault: Fault) -> list[int]:
        task = bench.calls[fault.call - 1].task
        if task in ("sense_streaming_data", "list_stream_files") and story.startswith("file"):
            return []
        if story == "file is overwritten":
            return [2] if task == "extract_and_combine_streams" else [3]
        if story == "file arrives":
            return [1]
        late = [42] if task == "store_kpis_in_dynamodb" else []
        return [31 if story == "retry beside a zombie" else 32, *late]

    bench.survive(
        [paused(number) for number in numbers],
        lambda fault: STORIES[story](bench, fault),
        scenarios,
        scenarios_of,
    )
