"""Small kinds of deliveries in whole runs: headers only, suffixes, archived objects, run ids, repeats."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from helpers.contract.keys import run_key_of
from tests.e2e import data
from tests.e2e.airflow_process import AirflowProcess
from tests.e2e.conftest import MakeRunner
from tests.e2e.data import FIRST_DAY, SECOND_DAY
from tests.e2e.deployment import Deployment
from tests.e2e.observed import observe, scan_items
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent

HEADER_ONLY = data.stream_file([])
GOOD = data.stream_file(data.listens(1, 30))


def only_report(deployment: Deployment) -> dict[str, Any]:
    [report] = observe(deployment.resources).reports.values()
    return report


class TestHeadersOnly:
    @pytest.mark.scenarios(56)
    def test_run_of_files_without_rows_archives_them_and_ends_green(
        self, deployment: Deployment, airflow: AirflowProcess
    ) -> None:
        deployment.upload_all(data.catalogs())
        deployment.upload("streams/quiet hour.csv", HEADER_ONLY)
        deployment.upload("streams/blank lines.csv", HEADER_ONLY + b"\n\r\n")

        outcome = airflow.run_dag(deployment.environment)

        assert (outcome.state, outcome.errors) == ("success", {})
        assert outcome.task_states["delete_files_from_intermediate_bucket"] == "success"
        totals = only_report(deployment)["totals"]
        assert (totals["files"], totals["archived"], totals["rows"], totals["new"]) == (2, 2, 0, 0)
        assert scan_items(deployment.resources) == {}
        assert_consistent(deployment.resources, deployment.delivered)
        assert "Glue has nothing to compute" in outcome.logs["trigger_glue_job"]
        assert_another_run_changes_nothing(
            deployment.resources,
            lambda: airflow.run_dag(deployment.environment, logical_date=outcome.logical_date),
        )

    @pytest.mark.scenarios(56)
    def test_bad_file_beside_them_fails_the_run_and_alone_goes_to_quarantine(
        self, deployment: Deployment, airflow: AirflowProcess
    ) -> None:
        deployment.upload_all(data.catalogs())
        deployment.upload("streams/quiet hour.csv", HEADER_ONLY)
        deployment.upload("streams/broken.csv", b"who,what\nu1,t1\n")

        outcome = airflow.run_dag(deployment.environment)

        assert outcome.state == "failed"
        assert "1 file went to" in outcome.errors["move_files_to_intermediate_bucket"]
        report = only_report(deployment)
        assert {file["key"]: file["disposition"] for file in report["files"]} == {
            "streams/quiet hour.csv": "archive",
            "streams/broken.csv": "quarantine",
        }
        assert_consistent(deployment.resources, deployment.delivered)


@pytest.mark.scenarios(57)
def test_suffixes_in_any_case_are_taken_and_kept(deployment: Deployment, make_runner: MakeRunner) -> None:
    catalogs = data.catalogs()
    deployment.upload_all({key.replace("s.csv", "s.CSV"): content for key, content in catalogs.items()})
    deployment.upload("streams/EXPORT.CSV", GOOD)

    make_runner(deployment).run()
    deployment.upload("streams/b.Csv", data.stream_file(data.listens(2, 20)))
    deployment.upload("streams/c.csv.GZ", gzip.compress(data.stream_file(data.listens(3, 20))))
    make_runner(deployment).run()

    assert_consistent(deployment.resources, deployment.delivered)
    observed = observe(deployment.resources)
    assert observed.source == {}
    assert sorted(key.rpartition(".")[2] for key in observed.archived("streams/")) == ["CSV", "Csv", "GZ"]


@pytest.mark.scenarios(58)
def test_object_in_an_archive_is_left_with_its_name_until_it_is_restored(
    deployment: Deployment, airflow: AirflowProcess
) -> None:
    resources = deployment.resources
    deployment.upload_all(data.catalogs())
    deployment.upload("streams/warm.csv", GOOD)
    cold = {"Bucket": resources.source_bucket, "Key": "streams/cold.csv"}
    resources.s3.put_object(**cold, Body=data.stream_file(data.listens(4, 20)), StorageClass="GLACIER")
    why = "in storage class GLACIER: restore it; the next run takes it"

    first = airflow.run_dag(deployment.environment)

    assert first.state == "success"
    stored = resources.s3.get_object(
        Bucket=resources.archive_bucket, Key=f"runs/{run_key_of(first.run_id)}/report.json"
    )
    [file] = [file for file in json.load(stored["Body"])["files"] if file["key"] == cold["Key"]]
    assert (file["disposition"], file["reason"], file["destination"]) == ("left", why, None)
    assert f"s3://{resources.source_bucket}/streams/cold.csv: left ({why})" in "".join(first.logs.values())

    alone = airflow.run_dag(deployment.environment)

    assert alone.task_states["move_files_to_intermediate_bucket"] == "skipped"
    assert alone.task_states["delete_files_from_intermediate_bucket"] == "skipped"
    assert f"streams/cold.csv: {why}" in alone.logs["move_files_to_intermediate_bucket"]

    resources.s3.restore_object(**cold, RestoreRequest={"Days": 1})
    assert airflow.run_dag(deployment.environment).state == "success"

    items = scan_items(resources)
    assert {day: items[day, genre]["listen_count"] for day, genre in items if genre == "ALL_GENRES"} == {
        FIRST_DAY: len({*data.listens(1, 30), *data.listens(4, 20)})
    }
    assert observe(resources).source == {}


@pytest.mark.parametrize("run_id", ["~", "+", "--", "x" * 250], ids=lambda run_id: run_id[:4])
@pytest.mark.scenarios(62)
def test_tasks_of_a_run_with_any_id_come_to_their_end(
    deployment: Deployment, make_runner: MakeRunner, run_id: str
) -> None:
    deployment.upload_all({**data.catalogs(), "streams/a.csv": GOOD})

    report = make_runner(deployment, dag_run_id=run_id).run()

    assert (report["dag_run_id"], report["status"]) == (run_id, "complete")
    assert_consistent(deployment.resources, deployment.delivered)


@pytest.mark.parametrize("run_id", ["..", "Ü" * 250], ids=lambda run_id: run_id[:4])
@pytest.mark.scenarios(62)
def test_run_with_any_id_that_airflow_allows_comes_to_its_end(
    deployment: Deployment, airflow: AirflowProcess, run_id: str
) -> None:
    deployment.upload_all({**data.catalogs(), "streams/a.csv": GOOD})
    any_id = {"AIRFLOW__SCHEDULER__ALLOWED_RUN_ID_PATTERN": r"^\S+$"}

    outcome = airflow.run_dag(deployment.environment | any_id, run_id=run_id)

    assert (outcome.run_id, outcome.state, outcome.errors) == (run_id, "success", {})
    assert_consistent(deployment.resources, deployment.delivered)


@pytest.mark.scenarios(63)
def test_complete_run_that_is_repeated_says_that_new_files_wait(
    deployment: Deployment, airflow: AirflowProcess
) -> None:
    deployment.upload_all({**data.catalogs(), "streams/first.csv": GOOD})
    first = airflow.run_dag(deployment.environment)
    deployment.upload("streams/second.csv", data.stream_file(data.listens(5, 20, (SECOND_DAY,))))

    again = airflow.run_dag(deployment.environment, logical_date=first.logical_date)

    assert (again.run_id, again.state) == (first.run_id, "success")
    waiting = "1 new file waits in streams/ (`streams/second.csv`), which this run did not take"
    assert waiting not in first.logs["delete_files_from_intermediate_bucket"]
    assert waiting in again.logs["delete_files_from_intermediate_bucket"]
    assert "trigger a new run" in again.logs["delete_files_from_intermediate_bucket"]
    assert {day for day, _ in scan_items(deployment.resources)} == {FIRST_DAY}
    assert_consistent(deployment.resources, deployment.delivered)


@pytest.mark.scenarios(61)
def test_times_that_no_listen_can_have_are_rejected_with_their_reasons(
    deployment: Deployment, make_runner: MakeRunner
) -> None:
    rows = [
        *data.listens(6, 60),
        ("u1", "acoustic-1", "1970-01-01 00:00:00"),
        ("u1", "acoustic-1", "1970-01-01T01:00:00+01:00"),
        ("u1", "acoustic-1", "2199-12-31 00:00:00"),
    ]
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(rows)})

    report = make_runner(deployment).run()

    assert report["totals"]["rejected_by_reason"] == {
        "listen_time is 1970-01-01 00:00:00, which stands for no time": 2,
        "listen_time more than a day after the run": 1,
    }
    assert {day for day, _ in scan_items(deployment.resources)} == {FIRST_DAY}
    assert_consistent(deployment.resources, deployment.delivered)


@pytest.mark.scenarios(59)
def test_keys_of_up_to_1024_bytes_have_a_place_in_archive_and_quarantine(
    deployment: Deployment, make_runner: MakeRunner
) -> None:
    deployment.upload_all(data.catalogs())
    late = data.stream_file(data.listens(7, 20))
    files = {"g": GOOD, "é": late, "b": b"who\nu1\n", "c": b"who\nu2\n"}
    for number, (character, content) in enumerate(files.items()):
        room = (1024 - len("streams/0/.csv")) // len(character.encode())
        deployment.upload(f"streams/{number}/{character * room}.csv", content)

    report = make_runner(deployment).run()

    assert (report["totals"]["archived"], report["totals"]["quarantined"]) == (2, 2)
    assert max(len(key.encode()) for key in observe(deployment.resources).archive) <= 1024
    assert len({file["destination"] for file in report["files"]}) == 4
    assert_consistent(deployment.resources, deployment.delivered)
