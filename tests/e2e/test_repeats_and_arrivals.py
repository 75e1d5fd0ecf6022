"""Files that arrive twice, late, during a run or under an earlier name, and tasks that run twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e import data
from tests.e2e.conftest import MakeRunner
from tests.e2e.data import FIRST_DAY, SECOND_DAY
from tests.e2e.deployment import Deployment
from tests.e2e.observed import read_objects, snapshot
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent, scan_kpis
from tests.e2e.pipeline_runner import PipelineRunner

ROWS = data.listens(1, 60, (FIRST_DAY, SECOND_DAY))


@pytest.fixture(scope="module")
def first_run(make_deployment: Callable[[], Deployment], make_runner: MakeRunner) -> PipelineRunner:
    """The run of a first file, `streams/a.csv`."""
    deployment = make_deployment()
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(ROWS)})
    runner = make_runner(deployment)
    runner.run()
    return runner


@pytest.mark.scenarios(33)
def test_every_task_of_a_complete_run_changes_nothing_when_it_is_cleared(first_run: PipelineRunner) -> None:
    deployment = first_run.deployment
    report = first_run.report()

    assert_another_run_changes_nothing(deployment.resources, first_run.run)

    assert_consistent(deployment.resources, deployment.delivered)
    assert first_run.report() == report


@pytest.mark.scenarios(4, 5, 6)
def test_repeated_files_and_rows_change_no_kpi_and_are_counted_as_repeated(
    first_run: PipelineRunner, make_runner: MakeRunner
) -> None:
    deployment = first_run.deployment
    before = scan_kpis(deployment.resources)
    deployment.upload_all(
        {
            "streams/a.csv": data.stream_file(ROWS),
            "streams/the same by another name.csv": data.stream_file(ROWS),
            "streams/a part in another order.csv": data.stream_file([*ROWS[20:40], *ROWS[:10], ROWS[0]]),
        }
    )

    totals = make_runner(deployment).run()["totals"]

    assert (totals["new"], totals["repeated"]) == (0, 2 * len(ROWS) + 31)
    assert scan_kpis(deployment.resources) == before
    assert_consistent(deployment.resources, deployment.delivered)


@pytest.mark.scenarios(7, 13)
def test_file_name_of_an_earlier_run_with_other_content_replaces_nothing_in_the_archive(
    first_run: PipelineRunner, make_runner: MakeRunner
) -> None:
    deployment = first_run.deployment
    resources = deployment.resources
    archived = read_objects(resources, resources.archive_bucket, "streams/")
    other = data.stream_file(data.listens(2, 30, (FIRST_DAY, "2024-06-27")))
    deployment.upload("streams/a.csv", other)

    report = make_runner(deployment).run()

    assert report["totals"]["new"] == 30
    assert set(report["days"]) == {FIRST_DAY, "2024-06-27"}
    now = read_objects(resources, resources.archive_bucket, "streams/")
    assert now.items() > archived.items()
    assert [now[key] for key in now.keys() - archived.keys()] == [other]
    assert_consistent(resources, deployment.delivered)


@pytest.mark.scenarios(10, 19)
def test_file_of_rejected_content_leaves_the_kpis_of_its_day_alone(
    first_run: PipelineRunner, make_runner: MakeRunner
) -> None:
    deployment = first_run.deployment
    before = scan_kpis(deployment.resources)
    deployment.upload_all(
        {
            "streams/header only.csv": data.stream_file([]),
            "streams/too many bad.csv": data.stream_file([*data.listens(3, 5), ("u1", "quoted", "never")]),
            "streams/of another day.csv": data.stream_file([("u1", "quoted", "2024-07-01 00:00:00")]),
        }
    )

    report = make_runner(deployment).run()

    assert set(report["days"]) == {"2024-07-01"}
    after = scan_kpis(deployment.resources)
    assert {key: after[key] for key in before} == before
    assert {day for day, _ in after.keys() - before.keys()} == {"2024-07-01"}
    assert_consistent(deployment.resources, deployment.delivered)


@pytest.mark.scenarios(33)
def test_each_task_of_a_running_run_may_run_twice(deployment: Deployment, make_runner: MakeRunner) -> None:
    rows = [*ROWS, ("u1", "quoted", "never")]
    deployment.upload_all(
        {**data.catalogs(), "streams/a.csv": data.stream_file(rows), "streams/b.csv": b"no header\n1,2\n"}
    )
    runner = make_runner(deployment)

    for task_id in runner.task_ids:
        first = runner.run_task(task_id)
        after_first = snapshot(deployment.resources)
        second = runner.run_task(task_id)
        if task_id != "delete_files_from_intermediate_bucket":
            assert second == first
        if task_id in ("archive_streams_data", "delete_files_from_intermediate_bucket"):
            assert snapshot(deployment.resources) == after_first

    assert runner.report()["totals"]["new"] == len(set(ROWS))
    assert_consistent(deployment.resources, deployment.delivered)


@pytest.mark.scenarios(1, 2, 3)
def test_files_that_arrive_during_a_run_are_left_for_the_next_one(
    deployment: Deployment, make_runner: MakeRunner
) -> None:
    names = ("before reading", "after reading", "while archiving")
    deployment.upload_all(data.catalogs())
    for number, name in enumerate(names):
        deployment.upload(f"streams/{name}.csv", data.stream_file(data.listens(number, 10)))
    runner, seed = make_runner(deployment), 10

    for task_id in runner.task_ids:
        runner.run_task(task_id)
        overwritten = {
            "list_stream_files": "before reading",
            "extract_and_combine_streams": "after reading",
            "store_kpis_in_dynamodb": "while archiving",
        }.get(task_id)
        if overwritten:
            seed += 1
            deployment.upload(f"streams/{overwritten}.csv", data.stream_file(data.listens(seed, 10)))
            deployment.upload(f"streams/new {seed}.csv", data.stream_file(data.listens(-seed, 10)))
            if task_id == "list_stream_files":
                runner.run_task(task_id)  # a retry finds the first list

    assert {file["key"] for file in runner.report()["files"]} == {f"streams/{name}.csv" for name in names}
    assert_consistent(deployment.resources, deployment.delivered)
    resources = deployment.resources
    left = read_objects(resources, resources.source_bucket, "streams/")
    assert len(left) == 6
    assert make_runner(deployment).run()["totals"]["archived"] == 6
    assert_consistent(resources, deployment.delivered)


def test_buckets_without_versioning_lose_and_repeat_nothing(
    make_deployment: Callable[..., Deployment], make_runner: MakeRunner
) -> None:
    deployment = make_deployment(versioning=False)
    deployment.upload_all(
        {**data.catalogs(), "streams/a.csv": data.stream_file(ROWS), "streams/b.csv": b"no header\n1,2\n"}
    )
    runner = make_runner(deployment)

    runner.run()

    assert_consistent(deployment.resources, deployment.delivered)
    assert_another_run_changes_nothing(deployment.resources, runner.run)
