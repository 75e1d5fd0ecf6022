"""The procedures of docs/recovery.md: a loss is inflicted, the procedure follows, and the oracle judges.

Each procedure prints the seconds that it took; the page has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from helpers.contract.days import parse_days
from helpers.errors import GlueOutputError
from include.replay import REPLAYED_PREFIX, Places, replay
from tests.e2e import data
from tests.e2e.conftest import MakeRunner
from tests.e2e.delivered import Upload
from tests.e2e.deployment import Deployment
from tests.e2e.observed import Resources, observe, read_objects, scan_items
from tests.e2e.oracle import assert_consistent, scan_kpis

EVERY_DAY = "2024-01-01..2024-12-31"
TOTALS = {"date": {"S": data.FIRST_DAY}, "track_genre": {"S": "ALL_GENRES"}}
# Most need several runs, so make test-faults runs them.
slow = [pytest.mark.slow, pytest.mark.scenarios()]


@pytest.fixture(scope="module")
def recovered(make_deployment: Callable[..., Deployment], make_runner: MakeRunner) -> Deployment:
    """A pipeline after two runs; each test leaves it as the oracle demands."""
    deployment = make_deployment()
    deployment.upload_all(data.catalogs())
    for number in (1, 2):
        deployment.upload(f"streams/{number}.csv", data.stream_file(data.listens(number, 200, data.DAYS)))
        make_runner(deployment).run()
    return deployment


@contextmanager
def timed(procedure: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    print(f"{procedure}: {time.monotonic() - start:.1f} s")


def every_version(s3: Any, bucket: str, prefix: str = "") -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield all versions and delete markers below the prefix, each with whether it is a marker."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        yield from ((version, False) for version in page.get("Versions", []))
        yield from ((marker, True) for marker in page.get("DeleteMarkers", []))


def purge(resources: Resources, bucket: str, prefix: str = "") -> None:
    """Delete every version, as nobody can bring it back."""
    for version, _ in list(every_version(resources.s3, bucket, prefix)):
        resources.s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


def delete(resources: Resources, bucket: str, prefix: str = "") -> list[str]:
    """Delete the current objects, as a person does by mistake; return their keys."""
    keys = list(read_objects(resources, bucket, prefix))
    for key in keys:
        resources.s3.delete_object(Bucket=bucket, Key=key)
    return keys


def delete_markers(resources: Resources, bucket: str, prefix: str = "") -> None:
    """Delete the current delete markers, which brings the deleted objects back."""
    for version, is_marker in list(every_version(resources.s3, bucket, prefix)):
        if is_marker and version["IsLatest"]:
            resources.s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


def bring_earlier_version_back(resources: Resources, bucket: str, key: str) -> None:
    """Copy the version before the current one over it."""
    [*_, earlier] = sorted(
        (version for version, _ in every_version(resources.s3, bucket, key) if not version["IsLatest"]),
        key=lambda version: version["LastModified"],
    )
    source = {"Bucket": bucket, "Key": key, "VersionId": earlier["VersionId"]}
    resources.s3.copy_object(Bucket=bucket, Key=key, CopySource=source)


def replay_in(deployment: Deployment, dates: str) -> None:
    """Put files back, and record them as delivered: they are archived a second time."""
    resources = deployment.resources
    places = Places(resources.source_bucket, resources.archive_bucket, resources.kpi_table)
    with timed(f"replay of {dates}"):
        replay(resources.s3, resources.dynamodb, places, parse_days(dates), lambda _: True, print)
    for version, is_marker in every_version(resources.s3, resources.source_bucket, REPLAYED_PREFIX):
        if version["IsLatest"] and not is_marker:
            pin = {"Key": version["Key"], "VersionId": version["VersionId"]}
            content = resources.s3.get_object(Bucket=resources.source_bucket, **pin)["Body"].read()
            deployment.delivered.uploads.append(Upload(version["Key"], content, version["VersionId"]))


def damage(resources: Resources, bucket: str, key: str) -> None:
    resources.s3.put_object(Bucket=bucket, Key=key, Body=b"damaged")


def history_of_first_day(resources: Resources) -> list[str]:
    return list(read_objects(resources, resources.archive_bucket, f"listens/listen_date={data.FIRST_DAY}/"))


@pytest.mark.scenarios(64)
def test_lost_history_comes_back_by_replaying_the_archived_files(
    recovered: Deployment, make_runner: MakeRunner
) -> None:
    resources = recovered.resources
    before = scan_kpis(resources)
    purge(resources, resources.archive_bucket, f"listens/listen_date={data.FIRST_DAY}/")

    replay_in(recovered, data.FIRST_DAY)
    with timed("run after it"):
        report = make_runner(recovered).run()

    assert report["days"][data.FIRST_DAY]["repeated"] == 0
    assert report["days"][data.SECOND_DAY]["new"] == 0
    assert scan_kpis(resources) == before
    assert_consistent(resources, recovered.delivered)


def test_replay_changes_no_number_where_nothing_was_lost(
    recovered: Deployment, make_runner: MakeRunner
) -> None:
    resources = recovered.resources
    before, history = scan_kpis(resources), observe(resources).archived("listens/")

    replay_in(recovered, EVERY_DAY)
    report = make_runner(recovered).run()

    assert (report["totals"]["new"], report["totals"]["repeated"]) == (0, report["totals"]["valid"])
    assert scan_kpis(resources) == before
    assert observe(resources).archived("listens/") == history
    assert_consistent(resources, recovered.delivered)


class TestSource:
    pytestmark = slow

    def test_deleted_and_overwritten_files_come_back_as_old_versions(
        self, recovered: Deployment, make_runner: MakeRunner
    ) -> None:
        resources, bucket = recovered.resources, recovered.resources.source_bucket
        recovered.upload("streams/3.csv", data.stream_file(data.listens(3, 50, data.DAYS)))
        resources.s3.delete_object(Bucket=bucket, Key="streams/3.csv")
        damage(resources, bucket, "songs/songs.csv")

        with timed("source: delete marker and earlier version of a catalog"):
            [marker] = [
                version["VersionId"]
                for version, is_marker in every_version(resources.s3, bucket, "streams/3.csv")
                if is_marker
            ]
            resources.s3.delete_object(Bucket=bucket, Key="streams/3.csv", VersionId=marker)
            bring_earlier_version_back(resources, bucket, "songs/songs.csv")
            make_runner(recovered).run()

        assert_consistent(resources, recovered.delivered)

    def test_lost_bucket_needs_only_the_catalogs(
        self, recovered: Deployment, make_runner: MakeRunner
    ) -> None:
        resources = recovered.resources
        purge(resources, resources.source_bucket)

        with timed("source: lost whole, catalogs delivered again, all days reprocessed"):
            recovered.upload_all(data.catalogs())
            make_runner(recovered, reprocess_dates=EVERY_DAY).run()

        assert_consistent(resources, recovered.delivered)


class TestIntermediate:
    pytestmark = slow

    def test_bucket_lost_during_a_run_is_filled_again_by_clearing_its_first_task(
        self, recovered: Deployment, make_runner: MakeRunner
    ) -> None:
        resources = recovered.resources
        recovered.upload("streams/4.csv", data.stream_file(data.listens(4, 50, data.DAYS)))
        run = make_runner(recovered)
        for task_id in run.task_ids[: run.task_ids.index("store_kpis_in_dynamodb")]:
            run.run_task(task_id)
        purge(resources, resources.intermediate_bucket)

        with timed("intermediate: lost whole during a run"):
            run.run(start="list_stream_files")

        assert_consistent(resources, recovered.delivered)


class TestArchive:
    pytestmark = slow

    def test_deleted_objects_of_every_kind_come_back_when_their_markers_are_deleted(
        self, recovered: Deployment
    ) -> None:
        resources = recovered.resources
        before = observe(resources)
        assert delete(resources, resources.archive_bucket)

        with timed("archive: everything deleted by mistake"):
            delete_markers(resources, resources.archive_bucket)

        assert observe(resources) == before

    def test_damaged_history_object_stops_the_run_until_its_earlier_version_is_back(
        self, recovered: Deployment, make_runner: MakeRunner
    ) -> None:
        resources, bucket = recovered.resources, recovered.resources.archive_bucket
        key = history_of_first_day(resources)[0]
        other = next(
            iter(read_objects(resources, bucket, f"listens/listen_date={data.SECOND_DAY}/").values())
        )
        # A valid file with other listens: Spark could not read other bytes at all.
        resources.s3.put_object(Bucket=bucket, Key=key, Body=other)
        run = make_runner(recovered, reprocess_dates=data.FIRST_DAY)
        before = scan_items(resources)
        with pytest.raises(Exception, match=r"holds listens of"):
            run.run()
        assert scan_items(resources) == before

        with timed("archive: damaged history object"):
            bring_earlier_version_back(resources, bucket, key)
            run.run(start="trigger_glue_job")

        assert_consistent(resources, recovered.delivered)

    @pytest.mark.scenarios(64)
    def test_deleted_history_object_stops_the_run_until_it_is_back(
        self, recovered: Deployment, make_runner: MakeRunner
    ) -> None:
        resources, bucket = recovered.resources, recovered.resources.archive_bucket
        resources.s3.delete_object(Bucket=bucket, Key=history_of_first_day(resources)[0])
        run = make_runner(recovered, reprocess_dates=data.FIRST_DAY)
        before = scan_items(resources)
        with pytest.raises(GlueOutputError, match=r"put archived files back \(docs/recovery\.md\)"):
            run.run()
        assert scan_items(resources) == before

        with timed("archive: deleted history object"):
            delete_markers(resources, bucket, "listens/")
            run.run(start="trigger_glue_job")

        assert_consistent(resources, recovered.delivered)

    def test_lost_archived_file_is_copied_from_the_old_version_in_the_source(
        self, make_deployment: Callable[..., Deployment], make_runner: MakeRunner
    ) -> None:
        deployment = make_deployment()
        resources = deployment.resources
        deployment.upload_all({**data.catalogs(), "streams/1.csv": data.stream_file(data.listens(1, 50))})
        report = make_runner(deployment).run()
        purge(resources, resources.archive_bucket, "streams/")

        with timed("archive: lost archived file"):
            for file in report["files"]:
                resources.s3.copy_object(
                    Bucket=resources.archive_bucket,
                    Key=file["destination"],
                    CopySource={
                        "Bucket": resources.source_bucket,
                        "Key": file["key"],
                        "VersionId": file["version_id"],
                    },
                )

        assert_consistent(resources, deployment.delivered)

    def test_lost_files_for_sql_are_written_by_reprocessing(
        self, recovered: Deployment, make_runner: MakeRunner
    ) -> None:
        resources, bucket = recovered.resources, recovered.resources.archive_bucket
        before = observe(resources)
        purge(resources, bucket, "kpis/")
        purge(resources, bucket, "catalogs/")

        with timed("archive: lost files for SQL"):
            make_runner(recovered, reprocess_dates=EVERY_DAY).run()

        after = observe(resources)
        assert after.archived("kpis/").keys() == before.archived("kpis/").keys()
        assert after.archived("catalogs/") == before.archived("catalogs/")
        assert_consistent(resources, recovered.delivered)

    def test_lost_bucket_comes_back_from_the_old_versions_of_the_source(
        self, make_deployment: Callable[..., Deployment], make_runner: MakeRunner
    ) -> None:
        deployment = make_deployment()
        resources = deployment.resources
        deployment.upload_all(data.catalogs())
        for number in (1, 2):
            rows = data.listens(number, 100, data.DAYS)
            deployment.upload(f"streams/{number}.csv", data.stream_file(rows))
            make_runner(deployment).run()
        before = scan_kpis(resources)
        purge(resources, resources.archive_bucket)

        with timed("archive: lost whole"):
            delete_markers(resources, resources.source_bucket, "streams/")
            for day in data.DAYS:
                key = TOTALS | {"date": {"S": day}}
                resources.dynamodb.delete_item(TableName=resources.kpi_table, Key=key)
            make_runner(deployment).run()

        assert scan_kpis(resources) == before
        assert_consistent(resources, deployment.delivered)


class TestTable:
    pytestmark = slow

    def test_damaged_items_are_replaced_by_reprocessing_their_day(
        self, recovered: Deployment, make_runner: MakeRunner
    ) -> None:
        resources, table = recovered.resources, recovered.resources.kpi_table
        before = scan_kpis(resources)
        resources.dynamodb.update_item(
            TableName=table,
            Key=TOTALS,
            UpdateExpression="SET listen_count = :wrong",
            ExpressionAttributeValues={":wrong": {"N": "7"}},
        )
        resources.dynamodb.delete_item(TableName=table, Key=TOTALS | {"track_genre": {"S": "disco"}})
        assert scan_kpis(resources) != before

        with timed("table: damaged items"):
            resources.dynamodb.delete_item(TableName=table, Key=TOTALS)
            make_runner(recovered, reprocess_dates=data.FIRST_DAY).run()

        assert scan_kpis(resources) == before
        assert_consistent(resources, recovered.delivered)

    def test_lost_table_is_computed_from_the_history(
        self, recovered: Deployment, make_runner: MakeRunner
    ) -> None:
        resources, table = recovered.resources, recovered.resources.kpi_table
        before = scan_kpis(resources)
        described = resources.dynamodb.describe_table(TableName=table)["Table"]
        resources.dynamodb.delete_table(TableName=table)

        with timed("table: lost whole, all days reprocessed"):
            resources.dynamodb.create_table(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=described["AttributeDefinitions"],
                KeySchema=described["KeySchema"],
            )
            make_runner(recovered, reprocess_dates=EVERY_DAY).run()

        assert scan_kpis(resources) == before
        assert_consistent(resources, recovered.delivered)

    def test_table_of_an_earlier_moment_is_a_new_table_that_the_pipeline_uses(
        self, make_deployment: Callable[..., Deployment], make_runner: MakeRunner
    ) -> None:
        deployment = make_deployment()
        resources = deployment.resources
        deployment.upload_all({**data.catalogs(), "streams/1.csv": data.stream_file(data.listens(1, 50))})
        resources.dynamodb.update_continuous_backups(
            TableName=resources.kpi_table,
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
        )
        make_runner(deployment).run()
        before = scan_items(resources)

        with timed("table: restored to a moment"):
            restored = f"{resources.kpi_table}-restored"
            resources.dynamodb.restore_table_to_point_in_time(
                SourceTableName=resources.kpi_table, TargetTableName=restored, UseLatestRestorableTime=True
            )

        deployment = replace(deployment, names=deployment.names | {"KPI_TABLE_NAME": restored})
        assert scan_items(deployment.resources) == before
        deployment.upload("streams/2.csv", data.stream_file(data.listens(2, 50)))
        make_runner(deployment).run()
        assert_consistent(deployment.resources, deployment.delivered)
