import gzip
import json
from typing import Any

import pytest
from airflow.exceptions import AirflowSkipException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline_support import (
    GOOD,
    RUN_ID,
    RUN_KEY,
    SONGS,
    USERS,
    Pipeline,
    Wire,
    answer_after_commit,
    fail_after_commit,
    streams,
)

from helpers import list_stream_files as module
from helpers.contract.keys import ending_key, manifest_key, report_key
from helpers.errors import BadInputError
from helpers.extract_and_combine_streams import extract_and_combine_streams
from helpers.list_stream_files import MAX_PARTS, PART_BYTES, PART_FILES, group_into_parts, list_stream_files
from helpers.run.store import RunStore
from helpers.validate_csv_files import validate_csv_files


def manifest(pipeline: Pipeline) -> Any:
    return pipeline.archived_json(manifest_key(RUN_KEY))


def pieces(pipeline: Pipeline) -> dict[str, Any]:
    """Return the run's temporary objects by name; listing leaves no others than the pieces."""
    return {name: json.loads(content) for name, content in pipeline.intermediate().items()}


def pieces_of(frozen: Any) -> dict[str, Any]:
    """Return the pieces that a manifest must have."""
    return {
        f"listed/part-{number:05}.json": {
            "frozen_at": frozen["frozen_at"],
            "files": [{"index": index, **frozen["streams"][index]} for index in part],
        }
        for number, part in enumerate(frozen["parts"])
    }


class TestListStreamFiles:
    def test_manifest_pins_the_current_versions_of_streams_and_catalogs(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/b.csv", "old")
        newest = [
            pipeline.upload("streams/2024/a b+ü.csv.gz", "a"),
            pipeline.upload("streams/b.csv", streams(GOOD)),
        ]
        catalogs = [pipeline.upload("songs/songs.csv", "s"), pipeline.upload("users/users.csv.gz", "u")]

        parts = list_stream_files(RUN_ID, pipeline.config)

        assert parts == [{"run_key": RUN_KEY, "part": 0}]
        written = manifest(pipeline)
        assert written.pop("frozen_at").endswith("+00:00")
        assert written == {
            "run_key": RUN_KEY,
            "dag_run_id": RUN_ID,
            "streams": newest,
            "songs": catalogs[:1],
            "users": catalogs[1:],
            "ignored_keys": [],
            "parts": [[0, 1]],
        }

    def test_retry_works_on_the_first_list_though_files_have_come_changed_and_gone(
        self, pipeline: Pipeline
    ) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD))
        pipeline.upload("streams/b.csv", streams(GOOD))
        parts = list_stream_files(RUN_ID, pipeline.config)
        first = manifest(pipeline)
        pipeline.upload("streams/a.csv", streams(GOOD, GOOD))
        pipeline.upload("streams/c.csv", streams(GOOD))
        for key in ("streams/b.csv", "songs/songs.csv"):
            pipeline.s3.delete_object(Bucket=pipeline.config.source_bucket, Key=key)

        assert list_stream_files(RUN_ID, pipeline.config) == parts
        assert manifest(pipeline) == first

    def test_attempt_whose_response_was_lost_works_on_its_own_list(
        self, pipeline: Pipeline, wire: Wire
    ) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD))
        wire.once("PUT", answer_after_commit(503))

        assert list_stream_files(RUN_ID, pipeline.config) == [{"run_key": RUN_KEY, "part": 0}]
        assert [version["key"] for version in manifest(pipeline)["streams"]] == ["streams/a.csv"]

    def test_two_attempts_at_a_time_work_on_one_list(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD))
        freeze = module.freeze

        def freeze_after_the_other(*arguments: Any) -> Any:
            frozen = freeze(*arguments)
            monkeypatch.setattr(module, "freeze", freeze)
            pipeline.upload("streams/b.csv", streams(GOOD))
            list_stream_files(RUN_ID, pipeline.config)
            return frozen

        monkeypatch.setattr(module, "freeze", freeze_after_the_other)
        monkeypatch.setattr(module, "PART_FILES", 1)

        # the other attempt was first and saw two files
        assert len(list_stream_files(RUN_ID, pipeline.config)) == 2
        assert len(manifest(pipeline)["streams"]) == 2
        assert pieces(pipeline) == pieces_of(manifest(pipeline))

    def test_pieces_are_the_parts_of_the_manifest(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline.upload_catalogs()
        for name in "abcde":
            pipeline.upload(f"streams/{name}.csv", streams(GOOD))
        monkeypatch.setattr(module, "PART_FILES", 2)

        list_stream_files(RUN_ID, pipeline.config)

        assert manifest(pipeline)["parts"] == [[0, 1], [2, 3], [4]]
        assert pieces(pipeline) == pieces_of(manifest(pipeline))

    @pytest.mark.parametrize(
        "last_write", ["archive/runs/{}/manifest.json", "intermediate/runs/{}/listed/part-00001.json"]
    )
    def test_retry_of_an_attempt_that_died_writes_the_pieces_of_the_first_list(
        self, pipeline: Pipeline, wire: Wire, monkeypatch: pytest.MonkeyPatch, last_write: str
    ) -> None:
        class ProcessDiedError(BaseException):
            """Nothing handles it, as if the process had been killed."""

        pipeline.upload_catalogs()
        for name in "abc":
            pipeline.upload(f"streams/{name}.csv", streams(GOOD))
        monkeypatch.setattr(module, "PART_FILES", 1)
        place = pipeline.config.source_bucket.removesuffix("source") + last_write.format(RUN_KEY)
        wire.once(f"PUT {pipeline.endpoint_url}/{place}", fail_after_commit(ProcessDiedError()))
        with pytest.raises(ProcessDiedError):
            list_stream_files(RUN_ID, pipeline.config)
        first = manifest(pipeline)
        pipeline.upload("streams/a.csv", streams(GOOD, GOOD))
        pipeline.upload("streams/0.csv", streams(GOOD))

        assert len(list_stream_files(RUN_ID, pipeline.config)) == 3
        assert manifest(pipeline) == first
        written = pieces(pipeline)
        assert [file["key"] for name in sorted(written) for file in written[name]["files"]] == [
            "streams/a.csv",
            "streams/b.csv",
            "streams/c.csv",
        ]
        assert written == pieces_of(first)

    def test_cleared_task_of_a_complete_run_brings_no_temporary_object_back(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD))
        parts = list_stream_files(RUN_ID, pipeline.config)
        pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), {"status": "complete"})
        RunStore(RUN_KEY, pipeline.config).delete_temporary_objects()

        assert list_stream_files(RUN_ID, pipeline.config) == parts
        assert pieces(pipeline) == {}

    def test_mapped_tasks_read_their_own_piece_and_no_manifest(
        self, pipeline: Pipeline, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline.upload_catalogs()
        for name in "ab":
            pipeline.upload(f"streams/{name}.csv", streams(GOOD))
        monkeypatch.setattr(module, "PART_FILES", 1)
        _, part = list_stream_files(RUN_ID, pipeline.config)
        wire.requests.clear()

        combined = extract_and_combine_streams(part, pipeline.config)
        validate_csv_files(combined, pipeline.config)

        assert wire.count("GET") > 0
        assert wire.count("manifest.json") == 0
        assert wire.count("listed/") == wire.count("listed/part-00001.json") == 2

    def test_other_run_lists_for_itself(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD))
        list_stream_files("other", pipeline.config)
        pipeline.upload("streams/b.csv", streams(GOOD))
        list_stream_files(RUN_ID, pipeline.config)

        assert [version["key"] for version in manifest(pipeline)["streams"]] == [
            "streams/a.csv",
            "streams/b.csv",
        ]

    def test_keys_of_other_files_are_recorded_and_left(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        for key in ("streams/", "streams/a.json", "streams/a.csv.tmp", "streams/csv"):
            pipeline.upload(key, "")
        pipeline.upload("streams/a.csv", streams(GOOD))

        list_stream_files(RUN_ID, pipeline.config)

        assert [version["key"] for version in manifest(pipeline)["streams"]] == ["streams/a.csv"]
        assert manifest(pipeline)["ignored_keys"] == [
            "streams/",
            "streams/a.csv.tmp",
            "streams/a.json",
            "streams/csv",
        ]

    @pytest.mark.scenarios(57)
    def test_suffixes_in_any_case_are_taken(self, pipeline: Pipeline) -> None:
        pipeline.upload("songs/SONGS.CSV", SONGS)
        pipeline.upload("users/users.Csv.GZ", gzip.compress(USERS.encode()))
        for key in ("streams/EXPORT.CSV", "streams/b.Csv", "streams/c.csv.GZ"):
            pipeline.upload(key, streams(GOOD))

        list_stream_files(RUN_ID, pipeline.config)

        frozen = manifest(pipeline)
        assert [version["key"] for version in frozen["streams"]] == [
            "streams/EXPORT.CSV",
            "streams/b.Csv",
            "streams/c.csv.GZ",
        ]
        assert [frozen[name][0]["key"] for name in ("songs", "users")] == [
            "songs/SONGS.CSV",
            "users/users.Csv.GZ",
        ]

    @pytest.mark.scenarios(57)
    def test_skipped_run_names_what_it_ignored(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/notes.txt", "")

        with pytest.raises(
            AirflowSkipException, match=r"neither in \.csv nor in \.csv\.gz: `streams/notes\.txt`"
        ):
            list_stream_files(RUN_ID, pipeline.config)

    @pytest.mark.parametrize("keys", [[], ["streams/", "streams/a.json"]], ids=["no file", "no CSV"])
    def test_run_without_a_csv_is_skipped_and_leaves_only_that_it_was(
        self, pipeline: Pipeline, keys: list[str]
    ) -> None:
        pipeline.upload_catalogs()
        for key in keys:
            pipeline.upload(key, "")

        with pytest.raises(AirflowSkipException, match=r"No CSV file under .*/streams/: nothing to do"):
            list_stream_files(RUN_ID, pipeline.config)

        assert set(pipeline.archived()) == {ending_key(RUN_KEY)}
        ending = pipeline.archived_json(ending_key(RUN_KEY))
        assert (ending["state"], ending["task_id"]) == ("skipped", "list_stream_files")
        assert ending["reason"].startswith("No CSV file under s3://")

    @pytest.mark.parametrize(
        ("missing", "column"),
        [("songs", "track_id, track_name, artists"), ("users", "user_id, user_country")],
    )
    def test_missing_catalog_is_named_with_its_columns_and_nothing_is_frozen(
        self, pipeline: Pipeline, missing: str, column: str
    ) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        pipeline.upload_catalogs()
        pipeline.s3.delete_object(Bucket=pipeline.config.source_bucket, Key=f"{missing}/{missing}.csv")
        pipeline.upload(f"{missing}/readme.txt", "no CSV")

        with pytest.raises(
            BadInputError, match=f"No CSV file under .*/{missing}/: upload .* {column}.* clear"
        ):
            list_stream_files(RUN_ID, pipeline.config)

        assert pipeline.archived() == {}

    def test_two_missing_catalogs_are_named_at_once(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))

        with pytest.raises(BadInputError, match=r"/songs/: upload .*/users/: upload .* clear this task"):
            list_stream_files(RUN_ID, pipeline.config)

    def test_files_of_an_unversioned_bucket_are_pinned_by_etag(self, make_pipeline: Any) -> None:
        pipeline = make_pipeline(versioned=False)
        pipeline.upload_catalogs()
        version = pipeline.upload("streams/a.csv", streams(GOOD))

        list_stream_files(RUN_ID, pipeline.config)

        assert manifest(pipeline)["streams"] == [version]
        assert version["version_id"] is None


class TestGroupIntoParts:
    @pytest.mark.parametrize(
        ("sizes", "parts"),
        [
            pytest.param([], [], id="nothing"),
            pytest.param([0], [[0]], id="empty file"),
            pytest.param([4, 6, 1], [[0, 1], [2]], id="full to the byte"),
            pytest.param([4, 7, 1], [[0], [1, 2]], id="one byte too many"),
            pytest.param([1, 50, 1], [[0], [1], [2]], id="large file alone"),
        ],
    )
    def test_files_are_grouped_in_order(self, sizes: list[int], parts: list[list[int]]) -> None:
        assert group_into_parts(sizes, part_bytes=10) == parts

    # Generating takes long on a loaded machine, which must not fail the test.
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.integers(0, 3 * PART_BYTES), max_size=3000))
    def test_every_file_is_in_exactly_one_part_of_a_bounded_size(self, sizes: list[int]) -> None:
        parts = group_into_parts(sizes)

        assert [index for part in parts for index in part] == list(range(len(sizes)))
        assert all(len(part) <= PART_FILES for part in parts)
        limit = max(PART_BYTES, 2 * sum(sizes) // MAX_PARTS)
        assert all(len(part) == 1 or sum(sizes[index] for index in part) <= limit for part in parts)

    @pytest.mark.parametrize(
        "sizes",
        [
            pytest.param([1] * 10_000, id="10,000 small files"),
            pytest.param([PART_BYTES] * 10_000, id="10,000 files of a part's size"),
            pytest.param([PART_BYTES // 2 + 1] * 10_000, id="10,000 files of half a part's size"),
            pytest.param([1, 2 * PART_BYTES] * 5_000, id="small and large in turn"),
            pytest.param([0] * 3_000_000, id="3,000,000 empty files"),
        ],
    )
    def test_there_are_never_more_parts_than_airflow_maps_over(self, sizes: list[int]) -> None:
        assert len(group_into_parts(sizes)) <= 1000
