"""The real DAG with its real operators, run by Airflow on local AWS, whose Glue runs real Spark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from include.commands.environment import ROOT
from include.sample_data import SampleData, write_sample_data
from tests.e2e import data
from tests.e2e.airflow_process import AirflowProcess, DagRunOutcome
from tests.e2e.conftest import MakeRunner
from tests.e2e.data import FIRST_DAY, SECOND_DAY
from tests.e2e.deployment import Deployment
from tests.e2e.observed import observe, read_objects, scan_items
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent, scan_kpis

# --- A first delivery -----------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstRun:
    deployment: Deployment
    planted: SampleData
    outcome: DagRunOutcome
    report: dict[str, Any]


@pytest.fixture(scope="module")
def first_run(
    stack: Deployment, airflow: AirflowProcess, tmp_path_factory: pytest.TempPathFactory
) -> FirstRun:
    """The sample data in the buckets of `include/stack.yaml`, and one DAG run."""
    folder = tmp_path_factory.mktemp("sample")
    planted = write_sample_data(folder, listens=4_000, days=2, tracks=800, users=900)
    for path in sorted(folder.glob("*/*.csv")):
        stack.upload(path.relative_to(folder).as_posix(), path.read_bytes())
    outcome = airflow.run_dag(stack.environment)
    assert (outcome.state, outcome.errors) == ("success", {})
    [report] = observe(stack.resources).reports.values()
    return FirstRun(stack, planted, outcome, report)


def test_dropped_files_become_the_items_that_the_oracle_computes(first_run: FirstRun) -> None:
    assert_consistent(first_run.deployment.resources, first_run.deployment.delivered)

    items = scan_items(first_run.deployment.resources)
    totals = {day: item for (day, genre), item in items.items() if genre == "ALL_GENRES"}
    assert {
        day: (item["listen_count"], item["unmatched_track_listens"], item["unmatched_user_listens"])
        for day, item in totals.items()
    } == {
        day: (planted.listens, planted.unmatched_track_listens, planted.unmatched_user_listens)
        for day, planted in first_run.planted.days.items()
    }


def test_run_report_counts_what_the_sample_data_planted(first_run: FirstRun) -> None:
    planted, totals = first_run.planted, first_run.report["totals"]

    assert first_run.report["status"] == "complete"
    assert first_run.report["dag_run_id"] == first_run.outcome.run_id
    assert (totals["files"], totals["quarantined"]) == (len(planted.stream_files), 1)
    assert totals["rejected"] == planted.broken_rows
    assert totals["repeated"] == planted.repeated_rows
    assert totals["new"] == planted.distinct_listens


def test_source_is_empty_and_every_file_is_in_archive_or_quarantine(first_run: FirstRun) -> None:
    resources, planted = first_run.deployment.resources, first_run.planted

    assert read_objects(resources, resources.source_bucket, "streams/") == {}
    assert len(read_objects(resources, resources.archive_bucket, "streams/")) == len(planted.accepted_files)
    quarantined = [file for file in first_run.report["files"] if file["disposition"] == "quarantine"]
    assert [file["key"] for file in quarantined] == [f"streams/{planted.misnamed_file.name}"]
    assert quarantined[0]["reason"].startswith("missing column listen_time")


def test_intermediate_bucket_holds_nothing_of_the_run_but_the_script(first_run: FirstRun) -> None:
    resources = first_run.deployment.resources

    assert read_objects(resources, resources.intermediate_bucket, "runs/") == {}
    [(key, script)] = read_objects(resources, resources.intermediate_bucket, "").items()
    assert key.startswith("artifacts/")
    assert script == (ROOT / "glue_script" / "glue_script.py").read_bytes()


def test_log_of_the_glue_task_shows_the_jobs_output(first_run: FirstRun) -> None:
    log = first_run.outcome.logs["trigger_glue_job"]

    assert f"{first_run.report['totals']['valid']} rows read" in log
    assert f"{first_run.planted.distinct_listens} listens new" in log


def test_index_gives_the_trend_of_a_genre(first_run: FirstRun) -> None:
    resources = first_run.deployment.resources
    items = scan_items(resources)
    genre = next(genre for _, genre in items if genre != "ALL_GENRES")
    found = resources.dynamodb.query(
        TableName=resources.kpi_table,
        IndexName="track_genre-date-index",
        KeyConditionExpression="track_genre = :genre",
        ExpressionAttributeValues={":genre": {"S": genre}},
    )["Items"]

    trend = [(item["date"]["S"], int(item["listen_count"]["N"])) for item in found]
    assert trend == sorted(
        (day, item["listen_count"]) for (day, name), item in items.items() if name == genre
    )


def test_complete_dag_run_whose_tasks_are_all_cleared_changes_nothing(
    first_run: FirstRun, airflow: AirflowProcess
) -> None:
    deployment, outcomes = first_run.deployment, []

    def clear_and_run() -> None:
        logical_date = first_run.outcome.logical_date
        outcomes.append(airflow.run_dag(deployment.environment, logical_date=logical_date))

    assert_another_run_changes_nothing(deployment.resources, clear_and_run)

    assert (outcomes[0].run_id, outcomes[0].state) == (first_run.outcome.run_id, "success")
    assert outcomes[0].task_states["delete_files_from_intermediate_bucket"] == "success"


# --- What comes later -----------------------------------------------------------------------------


def test_late_batch_gives_the_table_that_one_batch_of_all_files_gives(
    make_deployment: Callable[[], Deployment], make_runner: MakeRunner, airflow: AirflowProcess
) -> None:
    first = data.listens(1, 150, (FIRST_DAY, SECOND_DAY))
    late = data.listens(2, 80, (FIRST_DAY,))
    batches = [
        {"streams/streams1.csv": data.stream_file(first)},
        {
            "streams/streams2.csv": data.stream_file([*first[100:], *late, *late[:10]]),
            "streams/streams1 again.csv": data.stream_file(first),
            "streams/streams1.csv": data.stream_file(data.listens(3, 40, (SECOND_DAY,))),
        },
    ]
    at_once, in_two = make_deployment(), make_deployment()
    in_two.upload_all({**data.catalogs(), **batches[0]})
    make_runner(in_two).run()
    in_two.upload_all(batches[1])

    outcome = airflow.run_dag(in_two.environment)

    assert (outcome.state, outcome.errors) == ("success", {})
    assert_consistent(in_two.resources, in_two.delivered)
    at_once.upload_all(data.catalogs())
    for number, batch in enumerate(batches):
        at_once.upload_all({key.replace("streams/", f"streams/{number}/"): batch[key] for key in batch})
    make_runner(at_once).run()
    assert_consistent(at_once.resources, at_once.delivered)
    assert scan_kpis(in_two.resources) == scan_kpis(at_once.resources)


def test_reprocessed_day_has_the_genres_of_the_corrected_catalog_and_no_others(
    deployment: Deployment, make_runner: MakeRunner, airflow: AirflowProcess
) -> None:
    old = data.catalogs()
    everything = [
        (user, track, f"{day} 10:00:00")
        for user in ("u1", "u2")
        for track in data.TRACKS
        for day in data.DAYS
    ]
    deployment.upload_all({**old, "streams/all.csv": data.stream_file(everything)})
    make_runner(deployment).run()
    before = scan_items(deployment.resources)
    deployment.upload_all(
        data.catalogs(data.songs_with_genres(nameless="funk", genreless="gospel", emo="funk"))
    )
    deployment.delivered.catalogs_of_day[SECOND_DAY] = old
    deployment.upload("streams/waiting.csv", data.stream_file(data.listens(4, 10)))

    outcome = airflow.run_dag(deployment.environment, conf={"reprocess_dates": FIRST_DAY})

    assert (outcome.state, outcome.errors) == ("success", {})
    assert outcome.task_states["list_stream_files"] == "skipped"
    assert_consistent(deployment.resources, deployment.delivered)
    after = scan_items(deployment.resources)
    assert before.keys() - after.keys() == {(FIRST_DAY, "emo")}
    assert before[FIRST_DAY, "Unknown"]["listen_count"] - after[FIRST_DAY, "Unknown"]["listen_count"] == 2
    assert after[FIRST_DAY, "ALL_GENRES"]["listen_count"] == before[FIRST_DAY, "ALL_GENRES"]["listen_count"]
    of_second_day = {key for key in before if key[0] == SECOND_DAY}
    assert {key: after[key] for key in of_second_day} == {key: before[key] for key in of_second_day}
    source = deployment.resources.source_bucket
    assert list(read_objects(deployment.resources, source, "streams/")) == ["streams/waiting.csv"]
