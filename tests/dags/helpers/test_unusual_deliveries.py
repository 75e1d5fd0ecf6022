"""Valid but unusual deliveries, through all tasks: nothing of them may be lost."""

from typing import Any

import pytest
from airflow.exceptions import AirflowSkipException
from botocore.exceptions import ClientError
from pipeline_support import BAD, DAY, GOOD, RUN_ID, RUN_KEY, USERS, Pipeline, Wire, answer, streams

from helpers.archive_streams_data import archive_streams_data
from helpers.contract.keys import MAX_NAME_BYTES, archive_key, quarantine_key, report_key, run_key_of
from helpers.contract.records import ObjectVersion
from helpers.delete_files_from_intermediate_bucket import delete_files_from_intermediate_bucket
from helpers.errors import BadInputError
from helpers.run.glue_output import write_summary_of_nothing
from helpers.run.store import RunStore
from helpers.store_kpis_in_dynamodb import store_kpis_in_dynamodb

HEADER = "user_id,track_id,listen_time\n"
SONG_HEADER = "track_id,track_name,artists,track_genre,duration_ms,popularity"
DENIED = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def end_without_rows(pipeline: Pipeline) -> dict[str, Any]:
    """Run the tasks after the barrier for a run whose files have no rows; return its report."""
    write_summary_of_nothing(RunStore(RUN_KEY, pipeline.config))
    archive_streams_data(store_kpis_in_dynamodb(RUN_ID, pipeline.config), pipeline.config)
    delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)
    report: dict[str, Any] = pipeline.archived_json(report_key(RUN_KEY))
    return report


def put_cold(pipeline: Pipeline, key: str, content: str) -> None:
    pipeline.s3.put_object(
        Bucket=pipeline.config.source_bucket, Key=key, Body=content.encode(), StorageClass="GLACIER"
    )


@pytest.mark.scenarios(56)
def test_run_of_headers_alone_archives_its_files_and_is_complete(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", HEADER)
    pipeline.upload("streams/b.csv", HEADER.strip())

    assert pipeline.move()["rows"] == 0
    report = end_without_rows(pipeline)

    assert (report["status"], report["totals"]["rows"], report["totals"]["archived"]) == ("complete", 0, 2)
    assert report["days"] == {}
    assert pipeline.items() == {}
    assert pipeline.source_keys() == ["songs/songs.csv", "users/users.csv"]
    assert len(pipeline.archived("streams/")) == 2
    assert pipeline.intermediate() == {}


@pytest.mark.scenarios(56)
def test_header_beside_bad_files_is_archived_when_these_end_the_run(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", HEADER)
    pipeline.upload("streams/b.csv", streams(BAD))

    with pytest.raises(BadInputError, match=r"None of 2 stream files has a valid row: streams/b\.csv"):
        pipeline.move()

    assert [key.split("/")[0] for key in pipeline.archived("streams/")] == ["streams"]
    assert any("b__" in key for key in pipeline.archived(f"quarantine/{RUN_KEY}/"))


@pytest.mark.scenarios(58)
def test_object_in_an_archive_is_left_and_named_and_the_others_go_on(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD))
    put_cold(pipeline, "streams/cold.csv", streams(GOOD))

    pipeline.move()

    outcomes = pipeline.intermediate_json("input/manifest.json")["outcomes"]
    assert [outcome["disposition"] for outcome in outcomes] == ["archive", "left"]
    assert outcomes[1]["reason"] == "in storage class GLACIER: restore it; the next run takes it"


@pytest.mark.scenarios(58)
def test_run_of_objects_in_an_archive_alone_is_skipped_and_says_why(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    put_cold(pipeline, "streams/cold.csv", streams(GOOD))

    with pytest.raises(AirflowSkipException, match=r"cold\.csv: in storage class GLACIER: restore it"):
        pipeline.move()

    listed = pipeline.s3.list_objects_v2(Bucket=pipeline.config.source_bucket, Prefix="streams/")
    assert [entry["Key"] for entry in listed["Contents"]] == ["streams/cold.csv"]
    assert pipeline.archived_json(report_key(RUN_KEY))["totals"]["left"] == 1


@pytest.mark.scenarios(44, 58)
def test_role_that_may_read_no_file_fails_and_names_the_remedy(pipeline: Pipeline, wire: Wire) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD))
    wire.once("/streams/a.csv?versionId", answer(403, DENIED))

    with pytest.raises(BadInputError, match=r"access to 1 of 1 file is denied, first s3://.*/streams/a\.csv"):
        pipeline.move()

    # The message's remedy helps.
    assert pipeline.move()["rows"] == 1


@pytest.mark.scenarios(58)
def test_catalog_in_an_archive_is_named(pipeline: Pipeline) -> None:
    pipeline.upload("users/users.csv", USERS)
    put_cold(pipeline, "songs/songs.csv", SONG_HEADER)
    pipeline.upload("streams/a.csv", streams(GOOD))

    with pytest.raises(
        BadInputError, match=r"songs catalog s3://.*songs\.csv cannot be used: in storage class"
    ):
        pipeline.move()


@pytest.mark.scenarios(59)
@pytest.mark.parametrize("character", ["k", "ü"])
def test_long_keys_find_room_in_archive_and_quarantine(pipeline: Pipeline, character: str) -> None:
    pipeline.upload_catalogs()
    stem = character * ((1024 - len("streams/.csv")) // len(character.encode()) - 1)
    pipeline.upload(f"streams/{stem}.csv", HEADER)
    pipeline.upload(f"streams/{stem}.CSV", streams(BAD))

    with pytest.raises(BadInputError, match="None of 2 stream files has a valid row"):
        pipeline.move()

    assert [key for key in pipeline.source_keys() if key.startswith("streams/")] == []
    assert all(len(key.encode()) <= 1024 for key in pipeline.archived())


@pytest.mark.scenarios(59)
def test_long_keys_that_begin_alike_stay_apart() -> None:
    def version(end: str) -> ObjectVersion:
        key = f"streams/{'k' * 1000}{end}.csv"
        return ObjectVersion(
            key=key, version_id="v", etag='"e"', size=1, last_modified=f"{DAY}T00:00:00+00:00"
        )

    keys = {
        place for end in "ab" for place in (archive_key(version(end)), quarantine_key("r" * 92, version(end)))
    }

    assert len(keys) == 4
    assert all(key.endswith(".csv") and len(key.encode()) <= 1024 - len(".redriven.json") for key in keys)
    assert max(len(key.rpartition("/")[2]) for key in keys) == MAX_NAME_BYTES


@pytest.mark.scenarios(60)
@pytest.mark.parametrize(
    ("song", "reason"),
    [
        pytest.param(f"t2,Two,B,{'g' * 1025},1,1", "line 3: track_genre has 1,025 bytes", id="genre"),
        pytest.param(f"t2,Two,B,{'ü' * 513},1,1", "line 3: track_genre has 1,026 bytes", id="genre in UTF-8"),
        pytest.param(f"t2,{'n' * 32_769},B,pop,1,1", "line 3: track_name has 32,769 bytes", id="name"),
        pytest.param(f"t2,Two,{'a' * 32_769},pop,1,1", "line 3: artists has 32,769 bytes", id="artists"),
    ],
)
def test_text_that_no_item_has_room_for_is_found_in_the_catalog(
    pipeline: Pipeline, song: str, reason: str
) -> None:
    pipeline.upload_catalogs(songs="\n".join([SONG_HEADER, "t1,One,A,pop,1,1", song, ""]))
    pipeline.upload("streams/a.csv", streams(GOOD))

    with pytest.raises(BadInputError, match=rf"songs catalog s3://.*songs\.csv cannot be used: {reason}"):
        pipeline.move()


@pytest.mark.scenarios(61)
def test_times_of_no_listen_are_rejected_row_by_row(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    rows = ["u1,t1,1970-01-01 00:00:00", "u1,t1,2199-12-31 00:00:00"]
    pipeline.upload("streams/a.csv", streams(*[GOOD] * 60, *rows))

    pipeline.move()

    (outcome,) = pipeline.intermediate_json("input/manifest.json")["outcomes"]
    assert outcome["rejected_by_reason"] == {
        "listen_time is 1970-01-01 00:00:00, which stands for no time": 1,
        "listen_time more than a day after the run": 1,
    }


@pytest.mark.scenarios(62)
@pytest.mark.parametrize("run_id", ["~", "~:~", "+", "..", "~" * 250, "2024-06-25T00:00:00+00:00"])
def test_run_of_any_id_has_keys_that_s3_and_the_glue_job_take(pipeline: Pipeline, run_id: str) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD))

    moved = pipeline.move(run_id)

    assert moved == {"run_key": run_key_of(run_id), "rows": 1}
    assert not moved["run_key"].startswith("-")


@pytest.mark.scenarios(63)
def test_complete_run_that_is_cleared_names_the_files_that_it_did_not_take(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", HEADER)
    pipeline.move()
    end_without_rows(pipeline)
    pipeline.upload("streams/b.csv", streams(GOOD))
    caplog.clear()

    delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    assert "1 new file waits in streams/ (`streams/b.csv`), which this run did not take" in caplog.text


def test_object_that_s3_refuses_for_another_reason_fails_the_task(pipeline: Pipeline, wire: Wire) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD))
    expired = DENIED.replace("AccessDenied", "ExpiredToken")
    wire.once("/streams/a.csv?versionId", answer(400, expired))

    with pytest.raises(ClientError, match="ExpiredToken"):
        pipeline.ingest()
