import csv
import hashlib
import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException
from botocore.exceptions import ClientError
from pipeline_support import (
    BAD,
    DAY,
    FROZEN_AT,
    GOOD,
    RUN_ID,
    RUN_KEY,
    GlueDay,
    Pipeline,
    Wire,
    answer,
    answer_after_commit,
    make_response,
    streams,
)

from helpers import archive_streams_data as module
from helpers.archive_streams_data import ArchiveStreamsDataOperator, archive_streams_data
from helpers.contract.keys import archive_key, quarantine_key, report_key, run_key_of
from helpers.contract.records import ObjectVersion, StoredKpis
from helpers.errors import ReconciliationError
from run_links_plugin import RunReportLink
from run_note_plugin import HEADING, XCOM_KEY

DENIED = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
ALMOST_GOOD = streams(*[GOOD] * 20, BAD)


def stored(run_id: str = RUN_ID) -> StoredKpis:
    return StoredKpis(
        run_key=run_key_of(run_id), items_written=2, items_deleted=1, versions={DAY: 1}, checks=[]
    )


def prepare(pipeline: Pipeline, run_id: str = RUN_ID) -> None:
    """Run the tasks before archiving."""
    pipeline.upload_catalogs()
    rows = pipeline.move(run_id)["rows"]
    pipeline.put_glue_output({DAY: GlueDay({"pop": 1}, new=1, repeated=rows - 1)}, run_id=run_id)


def archive(pipeline: Pipeline, run_id: str = RUN_ID) -> dict[str, Any]:
    """Archive; return the report."""
    report: dict[str, Any] = pipeline.archived_json(archive_streams_data(stored(run_id), pipeline.config))
    return report


def kept_sources(pipeline: Pipeline) -> dict[str, bytes]:
    """Return the archived source files: contents by key."""
    archived = pipeline.archived()
    return {
        key: content
        for key, content in archived.items()
        if key.startswith(("streams/", "quarantine/"))
        and key.endswith((".csv", ".csv.gz"))
        and "rejected_rows" not in key
    }


class TestDispositions:
    def test_processed_file_is_in_the_archive_and_gone_from_the_source(self, pipeline: Pipeline) -> None:
        version = pipeline.upload("streams/a b+ü.csv", streams(GOOD))
        prepare(pipeline)

        archive(pipeline)

        assert kept_sources(pipeline) == {archive_key(version): streams(GOOD).encode()}
        assert pipeline.source_keys() == ["songs/songs.csv", "users/users.csv"]

    def test_storage_class_is_that_of_the_settings_for_archived_files_alone(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/a.csv", ALMOST_GOOD)
        pipeline.upload("streams/b.csv", "no,header\n")
        prepare(pipeline)

        archive(pipeline)

        listed = pipeline.s3.list_objects_v2(Bucket=pipeline.config.archive_bucket)["Contents"]
        assert {
            entry["Key"].partition("/")[0] for entry in listed if entry["StorageClass"] == "GLACIER_IR"
        } == {"streams"}

    def test_rejected_file_is_in_quarantine_with_a_json_of_the_reason(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        rejected = pipeline.upload("streams/b.csv", streams(GOOD, BAD))
        prepare(pipeline)

        archive(pipeline)

        key = quarantine_key(RUN_KEY, rejected)
        assert kept_sources(pipeline)[key] == streams(GOOD, BAD).encode()
        reason = pipeline.archived_json(f"{key}.reason.json")
        assert reason["key"] == "streams/b.csv"
        assert reason["version_id"] == rejected["version_id"]
        assert reason["reason"].startswith("1 of 2 rows are bad")
        assert reason["rejected_by_reason"] == {"invalid listen_time": 1}
        assert [row["row"] for row in reason["sample_of_rejected_rows"]] == [2]

    def test_rejected_rows_are_in_quarantine_with_their_reasons(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/a.csv", ALMOST_GOOD)
        prepare(pipeline)

        archive(pipeline)

        prefix = f"quarantine/{RUN_KEY}/rejected_rows/"
        rows = list(csv.DictReader(io.StringIO(pipeline.archived()[f"{prefix}part-00000.csv"].decode())))
        assert [(row["source_file"], row["row"], row["listen_time"]) for row in rows] == [
            ("streams/a.csv", "21", "yesterday")
        ]
        reasons = pipeline.archived_json(f"{prefix}reasons.json")
        assert reasons["run_key"] == RUN_KEY
        assert reasons["files"] == {"streams/a.csv": {"invalid listen_time": 1}}
        assert reasons["examples"]["streams/a.csv"].keys() == {"invalid listen_time"}

    def test_run_without_rejected_rows_has_no_quarantine(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        prepare(pipeline)

        archive(pipeline)

        assert pipeline.archived("quarantine/") == {}

    def test_keys_of_other_files_stay_in_the_source(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        pipeline.upload("streams/readme.txt", "hello")
        prepare(pipeline)

        report = archive(pipeline)

        assert "streams/readme.txt" in pipeline.source_keys()
        assert report["ignored_keys"] == ["streams/readme.txt"]

    def test_file_that_came_after_the_list_was_frozen_stays(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        prepare(pipeline)
        pipeline.upload("streams/b.csv", streams(GOOD))

        archive(pipeline)

        assert "streams/b.csv" in pipeline.source_keys()

    def test_same_name_with_other_content_is_kept_for_each_run(self, pipeline: Pipeline) -> None:
        contents = [streams(GOOD), streams(GOOD, f"u2,t2,{DAY} 11:00:00")]
        for number, content in enumerate(contents):
            pipeline.upload("streams/daily.csv", content)
            prepare(pipeline, f"run {number}")
            archive(pipeline, f"run {number}")

        assert sorted(kept_sources(pipeline).values()) == sorted(content.encode() for content in contents)

    @pytest.mark.scenarios(3, 4)
    @pytest.mark.parametrize("rows", [(GOOD, GOOD), (GOOD,)], ids=["other bytes", "the same bytes"])
    def test_newer_version_survives_and_the_read_one_is_archived(
        self, pipeline: Pipeline, rows: tuple[str, ...]
    ) -> None:
        read = pipeline.upload("streams/a.csv", streams(GOOD))
        prepare(pipeline)
        newer = pipeline.upload("streams/a.csv", streams(*rows))

        archive(pipeline)

        assert kept_sources(pipeline) == {archive_key(read): streams(GOOD).encode()}
        head = pipeline.s3.head_object(Bucket=pipeline.config.source_bucket, Key="streams/a.csv")
        assert head["VersionId"] == newer["version_id"]

    def test_file_takes_four_requests(self, pipeline: Pipeline, wire: Wire) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        prepare(pipeline)
        wire.requests.clear()

        archive(pipeline)

        requests = [request for request in wire.requests if "/streams/" in request.url]
        assert [request.method for request in requests] == ["HEAD", "PUT", "HEAD", "DELETE"]

    @pytest.mark.scenarios(3)
    def test_version_that_comes_between_check_and_delete_survives(
        self, pipeline: Pipeline, wire: Wire
    ) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        prepare(pipeline)

        def overwrite_first(request: Any, send: Any) -> Any:
            pipeline.upload("streams/a.csv", streams(GOOD, GOOD))
            return send(request)

        wire.once("DELETE", overwrite_first)

        archive(pipeline)

        assert (
            pipeline.objects(pipeline.config.source_bucket)["streams/a.csv"] == streams(GOOD, GOOD).encode()
        )

    def test_superseded_version_does_not_come_back_when_the_current_one_is_archived(
        self, pipeline: Pipeline
    ) -> None:
        pipeline.upload("streams/a.csv", "superseded")
        pipeline.upload("streams/a.csv", streams(GOOD))
        prepare(pipeline)

        archive(pipeline)

        assert "streams/a.csv" not in pipeline.source_keys()


class TestReport:
    def test_report_covers_the_whole_run_and_adds_up(self, pipeline: Pipeline) -> None:
        rows = [f"{row},phone" for row in [GOOD] * 20 + [BAD]]
        content = "\n".join(["user_id,track_id,listen_time,app", *rows])
        archived = pipeline.upload("streams/a.csv", content)
        rejected = pipeline.upload("streams/b.csv", streams(BAD))
        prepare(pipeline)

        report = archive(pipeline)

        assert report["completed_at"] > report["frozen_at"]
        assert (report["run_key"], report["dag_run_id"], report["status"]) == (RUN_KEY, RUN_ID, "complete")
        assert report["totals"] == {
            "files": 2,
            "archived": 1,
            "quarantined": 1,
            "left": 0,
            "rows": 22,
            "valid": 20,
            "rejected": 2,
            "rejected_by_reason": {"invalid listen_time": 2},
            "new": 1,
            "repeated": 19,
            "late": 0,
        }
        assert report["days"] == {DAY: {"rows_read": 20, "new": 1, "repeated": 19, "total": 1, "version": 1}}
        assert (report["kpi_items_written"], report["kpi_items_deleted"]) == (2, 1)
        assert report["reprocess_dates"] == []
        assert report["catalogs"]["users"] == {"files": ["users/users.csv"], "rows": 2, "notes": {}}
        first, second = report["files"]
        assert first == {
            **archived,
            "rows": 21,
            "valid": 20,
            "rejected": 1,
            "rejected_by_reason": {"invalid listen_time": 1},
            "rejected_examples": {
                "invalid listen_time": {
                    "line": 22,
                    "value": "yesterday",
                    "looks_like": None,
                    "remedy": "write it like 2024-06-25 17:43:13 (UTC) or 2024-06-25T19:43:13+02:00",
                }
            },
            "extra_columns": ["app"],
            "lines": {"total": 22, "header": 1, "blank": 0, "continuation": 0},
            "disposition": "archive",
            "reason": None,
            "newest_listen": f"{DAY}T10:00:00+00:00",
            "sha256": hashlib.sha256(pipeline.archived()[archive_key(archived)]).hexdigest(),
            "destination": archive_key(archived),
        }
        assert (second["disposition"], second["destination"]) == (
            "quarantine",
            quarantine_key(RUN_KEY, rejected),
        )

    def test_every_file_adds_up_and_so_do_the_totals(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/a.csv", ALMOST_GOOD)
        pipeline.upload("streams/b.csv", streams(BAD))
        pipeline.upload("streams/c.csv", "")
        prepare(pipeline)

        report = archive(pipeline)

        assert all(file["rows"] == file["valid"] + file["rejected"] for file in report["files"])
        for name in ("rows", "valid", "rejected"):
            assert report["totals"][name] == sum(file[name] for file in report["files"])
        assert report["totals"]["valid"] == report["totals"]["new"] + report["totals"]["repeated"]

    def test_complete_run_changes_nothing_when_its_task_is_cleared(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        prepare(pipeline)
        first = archive(pipeline)
        pipeline.upload("streams/a.csv", streams(GOOD))
        before = pipeline.objects(pipeline.config.source_bucket), pipeline.archived()

        assert archive(pipeline) == first
        assert (pipeline.objects(pipeline.config.source_bucket), pipeline.archived()) == before

    def test_report_of_a_reprocessing_run_has_its_days_and_no_files(self, pipeline: Pipeline) -> None:
        manifest = {
            "run_key": RUN_KEY,
            "dag_run_id": RUN_ID,
            "frozen_at": FROZEN_AT,
            "streams": [],
            "ignored_keys": [],
            "parts": [],
        }
        pipeline.put(pipeline.config.archive_bucket, f"runs/{RUN_KEY}/manifest.json", manifest)
        pipeline.put_input_manifest(0, reprocess_dates=[DAY])
        pipeline.put_glue_output({DAY: GlueDay({"pop": 4}, new=0)})

        report = archive(pipeline)

        assert report["reprocess_dates"] == [DAY]
        assert report["files"] == []
        assert report["totals"]["files"] == 0
        assert report["days"][DAY]["total"] == 4


class TestCrashAndRetry:
    @pytest.fixture
    def version(self, pipeline: Pipeline) -> ObjectVersion:
        version = pipeline.upload("streams/a.csv", ALMOST_GOOD)
        prepare(pipeline)
        return version

    @pytest.mark.scenarios(36)
    def test_source_stays_when_the_copy_differs(
        self, pipeline: Pipeline, version: ObjectVersion, wire: Wire
    ) -> None:
        def spoil(request: Any, send: Any) -> Any:
            pipeline.put(pipeline.config.archive_bucket, archive_key(version), ALMOST_GOOD.upper().encode())
            return make_response(request, 200, "<CopyObjectResult><ETag>e</ETag></CopyObjectResult>")

        wire.once(f"PUT {pipeline.endpoint_url}/{pipeline.config.archive_bucket}/streams/", spoil)

        with pytest.raises(ReconciliationError, match="not equal"):
            archive(pipeline)

        assert "streams/a.csv" in pipeline.source_keys()
        assert report_key(RUN_KEY) not in pipeline.archived()

    @pytest.mark.scenarios(36, 44)
    def test_source_stays_when_the_copy_is_denied(
        self, pipeline: Pipeline, version: ObjectVersion, wire: Wire
    ) -> None:
        wire.once(
            f"PUT {pipeline.endpoint_url}/{pipeline.config.archive_bucket}/streams/", answer(403, DENIED)
        )

        with pytest.raises(ClientError, match="AccessDenied"):
            archive(pipeline)

        assert "streams/a.csv" in pipeline.source_keys()
        assert report_key(RUN_KEY) not in pipeline.archived()

    def test_other_files_are_put_in_their_places_and_the_retry_ends_the_rest(
        self, pipeline: Pipeline, version: ObjectVersion, wire: Wire
    ) -> None:
        wire.once("DELETE", answer(403, DENIED))
        with pytest.raises(ClientError, match="AccessDenied"):
            archive(pipeline)

        report = archive(pipeline)

        assert report["totals"]["archived"] == 1
        assert list(kept_sources(pipeline)) == [archive_key(version)]
        assert "streams/a.csv" not in pipeline.source_keys()

    @pytest.mark.scenarios(34)
    def test_deletion_that_met_another_request_is_tried_again(self, pipeline: Pipeline, wire: Wire) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        prepare(pipeline)
        wire.once("DELETE", answer(409, "<Error><Code>ConditionalRequestConflict</Code></Error>"))
        with pytest.raises(ClientError, match="ConditionalRequestConflict"):
            archive(pipeline)
        assert "streams/a.csv" in pipeline.source_keys()

        archive(pipeline)

        assert "streams/a.csv" not in pipeline.source_keys()

    @pytest.mark.scenarios(34)
    def test_file_that_was_archived_but_not_deleted_is_verified_and_deleted(
        self, pipeline: Pipeline, version: ObjectVersion
    ) -> None:
        pipeline.put(pipeline.config.archive_bucket, archive_key(version), ALMOST_GOOD.encode())

        archive(pipeline)

        assert kept_sources(pipeline) == {archive_key(version): ALMOST_GOOD.encode()}
        assert "streams/a.csv" not in pipeline.source_keys()

    @pytest.mark.scenarios(36)
    def test_file_whose_copy_was_cut_is_copied_again(
        self, pipeline: Pipeline, version: ObjectVersion
    ) -> None:
        pipeline.put(pipeline.config.archive_bucket, archive_key(version), ALMOST_GOOD.encode()[:-9])

        archive(pipeline)

        assert kept_sources(pipeline) == {archive_key(version): ALMOST_GOOD.encode()}
        assert "streams/a.csv" not in pipeline.source_keys()

    @pytest.mark.scenarios(35)
    def test_file_that_was_deleted_but_not_recorded_is_proven_by_the_archive(
        self, pipeline: Pipeline, version: ObjectVersion
    ) -> None:
        complete = archive(pipeline)
        pipeline.s3.delete_object(Bucket=pipeline.config.archive_bucket, Key=report_key(RUN_KEY))
        before = pipeline.archived()

        report = archive(pipeline)

        assert report["files"] == complete["files"]
        assert {key: content for key, content in pipeline.archived().items() if key in before} == before

    def test_file_that_another_run_took_to_quarantine_is_reported_where_it_is(
        self, pipeline: Pipeline, version: ObjectVersion
    ) -> None:
        key = quarantine_key("another-run", version)
        pipeline.put(pipeline.config.archive_bucket, key, ALMOST_GOOD.encode())
        pipeline.s3.delete_object(Bucket=pipeline.config.source_bucket, Key="streams/a.csv")

        report = archive(pipeline)

        assert [file["destination"] for file in report["files"]] == [key]
        assert list(kept_sources(pipeline)) == [key]

    def test_deleted_file_whose_version_is_still_there_is_archived(
        self, pipeline: Pipeline, version: ObjectVersion
    ) -> None:
        pipeline.s3.delete_object(Bucket=pipeline.config.source_bucket, Key="streams/a.csv")

        archive(pipeline)

        assert kept_sources(pipeline) == {archive_key(version): ALMOST_GOOD.encode()}

    @pytest.mark.parametrize("operation", ["PUT", "DELETE", "report.json"])
    def test_response_that_is_lost_after_the_commit_changes_nothing(
        self, pipeline: Pipeline, version: ObjectVersion, wire: Wire, operation: str
    ) -> None:
        rule = answer_after_commit(503)
        if operation == "report.json":
            # the preceding read is the first request
            wire.once(operation, lambda request, send: send(request))
        wire.once(operation, rule)

        report = archive(pipeline)

        assert report["totals"]["archived"] == 1
        assert kept_sources(pipeline) == {archive_key(version): ALMOST_GOOD.encode()}
        assert "streams/a.csv" not in pipeline.source_keys()

    @pytest.mark.parametrize("missing", ["input/manifest.json", "output/summary.json"])
    def test_run_whose_input_or_output_is_missing_archives_nothing(
        self, pipeline: Pipeline, version: ObjectVersion, missing: str
    ) -> None:
        pipeline.s3.delete_object(Bucket=pipeline.config.intermediate_bucket, Key=f"runs/{RUN_KEY}/{missing}")

        with pytest.raises(ReconciliationError, match=r"[Cc]lear"):
            archive(pipeline)

        assert kept_sources(pipeline) == {}
        assert "streams/a.csv" in pipeline.source_keys()


class TestUnversionedBucket:
    @pytest.fixture
    def unversioned(self, make_pipeline: Any) -> Pipeline:
        pipeline: Pipeline = make_pipeline(versioned=False)
        pipeline.upload("streams/a.csv", streams(GOOD))
        prepare(pipeline)
        return pipeline

    def test_file_is_archived_and_deleted(self, unversioned: Pipeline) -> None:
        archive(unversioned)

        assert list(kept_sources(unversioned).values()) == [streams(GOOD).encode()]
        assert "streams/a.csv" not in unversioned.source_keys()

    def test_file_that_was_deleted_but_not_recorded_is_proven_by_the_archive(
        self, unversioned: Pipeline
    ) -> None:
        complete = archive(unversioned)
        unversioned.s3.delete_object(Bucket=unversioned.config.archive_bucket, Key=report_key(RUN_KEY))

        assert archive(unversioned)["files"] == complete["files"]
        assert list(kept_sources(unversioned).values()) == [streams(GOOD).encode()]

    def test_new_file_of_that_name_survives_the_retry(self, unversioned: Pipeline) -> None:
        archive(unversioned)
        unversioned.s3.delete_object(Bucket=unversioned.config.archive_bucket, Key=report_key(RUN_KEY))
        unversioned.upload("streams/a.csv", streams(GOOD, GOOD))

        archive(unversioned)

        assert "streams/a.csv" in unversioned.source_keys()
        assert list(kept_sources(unversioned).values()) == [streams(GOOD).encode()]

    @pytest.mark.parametrize("then", ["overwritten", "deleted"])
    def test_file_that_is_nowhere_any_more_is_an_error(self, unversioned: Pipeline, then: str) -> None:
        if then == "overwritten":
            unversioned.upload("streams/a.csv", streams(GOOD, GOOD))
        else:
            unversioned.s3.delete_object(Bucket=unversioned.config.source_bucket, Key="streams/a.csv")

        with pytest.raises(ReconciliationError, match=r"streams/a\.csv changed or vanished .* no versions"):
            archive(unversioned)

        assert report_key(RUN_KEY) not in unversioned.archived()

    def test_file_that_was_left_for_the_next_run_stays_and_is_reported(self, make_pipeline: Any) -> None:
        pipeline: Pipeline = make_pipeline(versioned=False)
        pipeline.upload("streams/a.csv", streams(GOOD))
        prepare(pipeline)
        manifest = json.loads(pipeline.intermediate()["input/manifest.json"])
        manifest["outcomes"][0] |= {"disposition": "left", "reason": "changed", "rows": 0, "valid": 0}
        key = f"runs/{RUN_KEY}/input/manifest.json"
        pipeline.put(pipeline.config.intermediate_bucket, key, manifest)

        report = archive(pipeline)

        assert "streams/a.csv" in pipeline.source_keys()
        assert report["totals"]["left"] == 1
        assert report["files"][0]["destination"] is None


def test_task_leaves_the_address_of_the_report_that_it_wrote(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "archive_streams_data", lambda stored, _: stored["run_key"])
    monkeypatch.setenv("DASHBOARD_URL", "http://localhost:8501")
    pushed: dict[str, str] = {}
    task_instance = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    operator = ArchiveStreamsDataOperator(task_id="archive", stored={"run_key": "the key"})  # type: ignore[typeddict-item]
    context: Any = {
        "ti": task_instance,
        "task_instance": task_instance,
        "run_id": RUN_ID,
        "dag_run": SimpleNamespace(start_date=None),
    }

    assert operator.execute(context) == "the key"

    assert pushed[RunReportLink.xcom_key] == "http://localhost:8501/pipeline?run=the%20key"
    assert pushed[XCOM_KEY].startswith(HEADING)


def test_task_leaves_no_address_if_no_page_shows_the_report(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "archive_streams_data", lambda stored, _: stored["run_key"])
    monkeypatch.setattr(module, "note_run", lambda context: None)
    operator = ArchiveStreamsDataOperator(task_id="archive", stored={"run_key": "the key"})  # type: ignore[typeddict-item]

    assert operator.execute({"ti": SimpleNamespace()}) == "the key"  # type: ignore[typeddict-item]


def test_task_whose_helper_fails_leaves_no_address(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(stored: Any, config: Any) -> str:
        raise AirflowFailException("no")

    monkeypatch.setattr(module, "archive_streams_data", fail)
    operator = ArchiveStreamsDataOperator(task_id="archive", stored={})  # type: ignore[typeddict-item]

    with pytest.raises(AirflowFailException):
        operator.execute({"ti": SimpleNamespace()})  # type: ignore[typeddict-item]
