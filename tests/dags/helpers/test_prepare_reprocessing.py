import json
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException
from pipeline_support import DAY, RUN_ID, RUN_KEY, SONGS, Pipeline, Wire, read_parquet

from helpers.contract.keys import manifest_key, report_key
from helpers.contract.records import MovedInput
from helpers.errors import BadInputError
from helpers.prepare_reprocessing import prepare_reprocessing

NEXT_DAY = "2024-06-26"


@pytest.fixture
def with_history(pipeline: Pipeline) -> Pipeline:
    """A pipeline with catalogs and the listens of two days."""
    pipeline.upload_catalogs()
    for day in (DAY, NEXT_DAY):
        pipeline.put(
            pipeline.config.archive_bucket, f"listens/listen_date={day}/b__part-0.parquet", b"listens"
        )
    return pipeline


def prepare(pipeline: Pipeline, dates: str) -> MovedInput:
    return prepare_reprocessing(RUN_ID, dates, pipeline.config)


def input_manifest(pipeline: Pipeline) -> Any:
    return json.loads(pipeline.intermediate()["input/manifest.json"])


def run_manifest(pipeline: Pipeline) -> Any:
    return json.loads(pipeline.archived()[manifest_key(RUN_KEY)])


def moved_songs(pipeline: Pipeline) -> list[str]:
    table = read_parquet(pipeline.intermediate()["input/songs/part-00000.parquet"])
    names: list[str] = table["track_name"].to_pylist()
    return names


class TestPrepareReprocessing:
    def test_glue_gets_the_days_and_todays_catalogs_and_no_listens(self, with_history: Pipeline) -> None:
        moved = prepare(with_history, f"{NEXT_DAY},{DAY}")

        manifest = input_manifest(with_history)
        assert moved == {"run_key": RUN_KEY, "rows": 0}
        assert manifest["run_key"] == RUN_KEY
        assert manifest["reprocess_dates"] == [DAY, NEXT_DAY]
        assert manifest["listens"] == {"objects": [], "rows": 0}
        assert manifest["outcomes"] == []
        assert (manifest["songs"]["objects"], manifest["songs"]["rows"]) == (["songs/part-00000.parquet"], 2)
        assert (manifest["users"]["objects"], manifest["users"]["rows"]) == (["users/part-00000.parquet"], 2)
        assert moved_songs(with_history) == ["One", "Two"]
        assert with_history.intermediate().keys() == {
            "input/manifest.json",
            "input/songs/part-00000.parquet",
            "input/users/part-00000.parquet",
        }

    @pytest.mark.parametrize("dates", ["2024-06-01..2024-06-25, 2024-06-26", "2024-06-25..2024-07-31"])
    def test_range_means_those_of_its_days_that_have_history(
        self, with_history: Pipeline, dates: str
    ) -> None:
        prepare(with_history, dates)

        assert input_manifest(with_history)["reprocess_dates"] == [DAY, NEXT_DAY]

    def test_run_is_recorded_without_files_and_with_the_versions_of_the_catalogs(
        self, with_history: Pipeline
    ) -> None:
        with_history.upload("streams/new.csv", "of no concern")
        songs = with_history.upload("songs/songs.csv", SONGS)

        prepare(with_history, DAY)

        manifest = run_manifest(with_history)
        assert (manifest["run_key"], manifest["dag_run_id"]) == (RUN_KEY, RUN_ID)
        assert (manifest["streams"], manifest["parts"]) == ([], [])
        assert manifest["songs"] == [songs]
        assert manifest["frozen_at"] == input_manifest(with_history)["frozen_at"]
        assert "streams/new.csv" in with_history.source_keys()

    def test_retry_takes_the_catalogs_that_the_first_attempt_froze(self, with_history: Pipeline) -> None:
        prepare(with_history, DAY)
        frozen = run_manifest(with_history)
        with_history.upload("songs/songs.csv", SONGS.replace("One", "Another"))
        with_history.upload("songs/more.csv", SONGS)

        prepare(with_history, DAY)

        assert run_manifest(with_history) == frozen
        assert input_manifest(with_history)["frozen_at"] == frozen["frozen_at"]
        assert moved_songs(with_history) == ["One", "Two"]

    def test_retry_reads_the_frozen_catalogs_though_they_are_gone(self, with_history: Pipeline) -> None:
        prepare(with_history, DAY)
        for key in ("songs/songs.csv", "users/users.csv"):
            with_history.s3.delete_object(Bucket=with_history.config.source_bucket, Key=key)

        prepare(with_history, DAY)

        assert moved_songs(with_history) == ["One", "Two"]

    def test_attempt_that_comes_second_takes_the_catalogs_that_the_first_froze(
        self, with_history: Pipeline, wire: Wire
    ) -> None:
        def let_another_attempt_freeze_first(request: Any, send: Any) -> Any:
            with_history.upload("songs/songs.csv", SONGS.replace("One", "Another"))
            prepare(with_history, DAY)
            return send(request)

        wire.once("PUT", let_another_attempt_freeze_first)

        prepare(with_history, DAY)

        assert moved_songs(with_history) == ["Another", "Two"]
        assert input_manifest(with_history)["frozen_at"] == run_manifest(with_history)["frozen_at"]

    def test_retry_after_a_wrong_catalog_uses_the_frozen_one_and_fails_again(
        self, with_history: Pipeline
    ) -> None:
        with_history.upload("songs/songs.csv", "track_id,track_name\n")

        for _ in range(2):
            with pytest.raises(BadInputError, match=r"songs/songs\.csv cannot be used: .*artists"):
                prepare(with_history, DAY)
            with_history.upload("songs/songs.csv", SONGS)

        assert "input/manifest.json" not in with_history.intermediate()

    @pytest.mark.parametrize(
        ("dates", "named"),
        [
            (f"{DAY},2024-06-01,{NEXT_DAY},2024-06-02", "No listens of 2024-06-01, 2024-06-02 are in"),
            (f"2024-07-01..2024-07-31,{DAY},2024-06-01", "No listens of 2024-06-01 are in"),
            ("2024-07-01..2024-07-31", r"No listens of 2024-07-01\.\.2024-07-31 are in"),
            (
                f"{DAY},someday",
                "reprocess_dates has 'someday', which is not a day in the form YYYY-MM-DD; give",
            ),
            (f"{NEXT_DAY}..{DAY}", rf"which ends before it begins: write {DAY}\.\.{NEXT_DAY}; give"),
        ],
        ids=["without history", "day beside a range", "range without history", "no day", "swapped"],
    )
    def test_wrong_days_are_named_and_nothing_is_written(
        self, with_history: Pipeline, dates: str, named: str
    ) -> None:
        archived = with_history.archived()

        with pytest.raises(AirflowFailException, match=named):
            prepare(with_history, dates)

        assert with_history.archived() == archived
        assert with_history.intermediate() == {}

    @pytest.mark.parametrize("catalog", ["songs", "users"])
    def test_missing_catalog_is_named_and_nothing_is_written(
        self, with_history: Pipeline, catalog: str
    ) -> None:
        with_history.s3.delete_object(
            Bucket=with_history.config.source_bucket, Key=f"{catalog}/{catalog}.csv"
        )

        with pytest.raises(BadInputError, match=f"No CSV file under s3://.*/{catalog}/"):
            prepare(with_history, DAY)

        assert manifest_key(RUN_KEY) not in with_history.archived()
        assert with_history.intermediate() == {}

    @pytest.mark.parametrize("dates", [DAY, "2024-06-01"], ids=["as before", "day without history"])
    def test_complete_run_changes_nothing(self, with_history: Pipeline, dates: str) -> None:
        with_history.put(with_history.config.archive_bucket, report_key(RUN_KEY), {"run_key": RUN_KEY})
        archived = with_history.archived()

        moved = prepare(with_history, dates)

        assert moved == {"run_key": RUN_KEY, "rows": 0}
        assert with_history.archived() == archived
        assert with_history.intermediate() == {}
