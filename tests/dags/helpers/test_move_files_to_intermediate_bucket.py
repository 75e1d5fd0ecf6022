import json
from typing import Any

import pytest
from airflow.exceptions import AirflowSkipException
from pipeline_support import BAD, DAY, GOOD, RUN_ID, RUN_KEY, SONGS, Pipeline, read_parquet, streams

from helpers import list_stream_files as list_module
from helpers.contract.keys import report_key
from helpers.contract.records import MovedInput, ValidatedPart
from helpers.errors import BadInputError, ReconciliationError
from helpers.extract_and_combine_streams import extract_and_combine_streams
from helpers.list_stream_files import list_stream_files
from helpers.move_files_to_intermediate_bucket import move_files_to_intermediate_bucket
from helpers.validate_csv_files import validate_csv_files


def move(pipeline: Pipeline, validated: list[ValidatedPart]) -> MovedInput:
    return move_files_to_intermediate_bucket(RUN_ID, validated, pipeline.config)


@pytest.fixture
def one_file_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_module, "PART_FILES", 1)


class TestInput:
    @pytest.mark.usefixtures("one_file_a_part")
    def test_glue_finds_the_valid_rows_and_the_catalogs_and_a_manifest_of_them(
        self, pipeline: Pipeline
    ) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(*[GOOD] * 20, BAD))
        pipeline.upload("streams/b.csv", "no,header\n")
        pipeline.upload("streams/c.csv", streams(f"u2,t2,{DAY} 11:00:00"))

        moved = pipeline.move()

        assert moved == {"run_key": RUN_KEY, "rows": 21}
        manifest = pipeline.intermediate_json("input/manifest.json")
        outcomes = manifest.pop("outcomes")
        assert manifest == {
            "run_key": RUN_KEY,
            "frozen_at": pipeline.archived_json(f"runs/{RUN_KEY}/manifest.json")["frozen_at"],
            "listens": {"objects": ["listens/part-00000.parquet", "listens/part-00002.parquet"], "rows": 21},
            "songs": {
                "objects": ["songs/part-00000.parquet"],
                "rows": 2,
                "files": ["songs/songs.csv"],
                "notes": {},
            },
            "users": {
                "objects": ["users/part-00000.parquet"],
                "rows": 2,
                "files": ["users/users.csv"],
                "notes": {},
            },
            "reprocess_dates": [],
            "checks": manifest["checks"],
            "accept_checks": False,
            "newest_day_before": None,
            "frozen_at_before": None,
        }
        counts = [
            tuple(outcome[name] for name in ("disposition", "rows", "valid", "rejected"))
            for outcome in outcomes
        ]
        assert counts == [("archive", 21, 20, 1), ("quarantine", 0, 0, 0), ("archive", 1, 1, 0)]

    def test_every_object_that_the_manifest_names_is_there_with_its_rows(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD, f"u2,t2,{DAY} 11:00:00"))

        pipeline.move()

        manifest, objects = pipeline.intermediate_json("input/manifest.json"), pipeline.intermediate()
        for name in ("listens", "songs", "users"):
            tables = [read_parquet(objects[f"input/{key}"]) for key in manifest[name]["objects"]]
            assert sum(table.num_rows for table in tables) == manifest[name]["rows"]

    def test_repeated_catalog_rows_keep_the_order_in_which_the_first_wins(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs(songs=SONGS + "t1,Later,A,pop,1,1\n")
        pipeline.upload("songs/z_more.csv", SONGS.replace("One", "Last"))
        pipeline.upload("streams/a.csv", streams(GOOD))

        pipeline.move()

        songs = read_parquet(pipeline.intermediate()["input/songs/part-00000.parquet"]).to_pylist()
        rows = [(song["row_id"], song["track_name"]) for song in songs if song["track_id"] == "t1"]
        assert rows == [(0, "One"), (2, "Later"), (3, "Last")]

    def test_source_files_stay_where_they_are(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD))
        before = pipeline.objects(pipeline.config.source_bucket)

        pipeline.move()

        assert pipeline.objects(pipeline.config.source_bucket) == before

    def test_retry_gives_the_same(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD))
        validated = pipeline.ingest()
        first_result = move(pipeline, validated)
        first = pipeline.intermediate()

        assert move(pipeline, validated) == first_result
        assert pipeline.intermediate() == first

    def test_file_without_rows_beside_a_good_one_is_not_an_error(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", "user_id,track_id,listen_time\n")
        pipeline.upload("streams/b.csv", streams(GOOD))

        assert pipeline.move()["rows"] == 1


class TestAccounting:
    @pytest.fixture
    def validated(self, pipeline: Pipeline) -> list[ValidatedPart]:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD, GOOD))
        return pipeline.ingest()

    def change_outcome(self, pipeline: Pipeline, **changes: Any) -> None:
        (outcome,) = pipeline.intermediate_json("validated/part-00000.json")
        key = f"runs/{RUN_KEY}/validated/part-00000.json"
        pipeline.put(pipeline.config.intermediate_bucket, key, [outcome | changes])

    def assert_nothing_was_moved(self, pipeline: Pipeline) -> None:
        assert not [key for key in pipeline.intermediate() if key.startswith("input/")]
        assert set(pipeline.archived()) == {f"runs/{RUN_KEY}/manifest.json"}
        assert "streams/a.csv" in pipeline.source_keys()

    def test_part_that_is_missing_is_told(self, pipeline: Pipeline, validated: list[ValidatedPart]) -> None:
        with pytest.raises(
            ReconciliationError, match=r"have 0 files, the run's manifest has 1.* clear list_stream"
        ):
            move(pipeline, [])

        self.assert_nothing_was_moved(pipeline)

    def test_part_that_is_there_twice_is_told(
        self, pipeline: Pipeline, validated: list[ValidatedPart]
    ) -> None:
        with pytest.raises(ReconciliationError, match="have 2 files, the run's manifest has 1"):
            move(pipeline, validated * 2)

        self.assert_nothing_was_moved(pipeline)

    def test_file_whose_rows_do_not_add_up_is_told(
        self, pipeline: Pipeline, validated: list[ValidatedPart]
    ) -> None:
        self.change_outcome(pipeline, rows=3)

        with pytest.raises(ReconciliationError, match=r"streams/a\.csv: 3 rows, but 2 valid \+ 0 rejected"):
            move(pipeline, validated)

        self.assert_nothing_was_moved(pipeline)

    def test_file_whose_rows_do_not_account_for_its_lines_is_refused(
        self, pipeline: Pipeline, validated: list[ValidatedPart]
    ) -> None:
        self.change_outcome(pipeline, rows=3, valid=3)

        with pytest.raises(ReconciliationError, match=r"streams/a\.csv: 3 rows do not account for its lines"):
            move(pipeline, validated)

        self.assert_nothing_was_moved(pipeline)

    def test_task_that_counted_other_rows_than_its_object_says_is_told(
        self, pipeline: Pipeline, validated: list[ValidatedPart]
    ) -> None:
        self.change_outcome(pipeline, rows=3, valid=3, lines=None)

        with pytest.raises(ReconciliationError, match="tasks counted 2 valid rows, their objects have 3"):
            move(pipeline, validated)

        self.assert_nothing_was_moved(pipeline)

    def test_run_without_a_manifest_is_told(self, pipeline: Pipeline) -> None:
        with pytest.raises(ReconciliationError, match="clear the task list_stream_files"):
            move(pipeline, [])


@pytest.mark.parametrize(
    ("catalogs", "message"),
    [
        (
            {"songs": SONGS.replace("artists", "artist")},
            "songs catalog .*songs.csv .* missing column artists",
        ),
        (
            {"users": "user_id,user_name,user_country\n"},
            "users catalog .*users.csv .* 0 of 0 rows are usable",
        ),
    ],
    ids=["songs", "users"],
)
@pytest.mark.parametrize("row", [GOOD, BAD], ids=["valid rows", "no valid row"])
def test_wrong_catalog_fails_the_run_and_touches_nothing(
    pipeline: Pipeline, catalogs: dict[str, str], message: str, row: str
) -> None:
    pipeline.upload_catalogs(**catalogs)
    pipeline.upload("streams/a.csv", streams(row))
    validated = pipeline.ingest()
    before = pipeline.objects(pipeline.config.source_bucket), pipeline.archived()

    with pytest.raises(BadInputError, match=message):
        move(pipeline, validated)

    assert (pipeline.objects(pipeline.config.source_bucket), pipeline.archived()) == before
    assert "input/manifest.json" not in pipeline.intermediate()


def test_stream_files_to_correct_are_named_beside_a_wrong_catalog(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs(songs=SONGS.replace("artists", "artist"))
    pipeline.upload("streams/a.csv", streams(*[f"u1,t1,25/06/{year} 17:43" for year in (2023, 2024)]))

    with pytest.raises(BadInputError) as raised:
        pipeline.move()

    assert "missing column artists" in str(raised.value)
    assert "Stream files to correct as well: streams/a.csv: 2 of 2 rows are bad: " in str(raised.value)


class TestNoValidRow:
    @pytest.fixture
    def validated(self, pipeline: Pipeline) -> list[ValidatedPart]:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(BAD, "1,2"))
        pipeline.upload("streams/b.csv", "no,header\n")
        pipeline.upload("streams/c.csv", "user_id,track_id,listen_time\n")
        pipeline.put(
            pipeline.config.archive_bucket, f"listens/listen_date={DAY}/b__part-0.parquet", b"history"
        )
        kpi = {"date": {"S": DAY}, "track_genre": {"S": "pop"}}
        pipeline.dynamodb.put_item(TableName=pipeline.config.kpi_table, Item=kpi)
        return pipeline.ingest()

    def test_run_ends_red_with_the_reasons(self, pipeline: Pipeline, validated: list[ValidatedPart]) -> None:
        with pytest.raises(BadInputError) as raised:
            move(pipeline, validated)

        message = str(raised.value)
        assert message.startswith(
            "None of 3 stream files has a valid row: streams/a.csv: 2 of 2 rows are bad"
        )
        assert "streams/b.csv: missing column user_id, track_id, listen_time" in message
        assert "streams/c.csv" not in message
        assert f"/quarantine/{RUN_KEY}/ with the reasons" in message

    def test_files_are_in_quarantine_first_with_their_reasons(
        self, pipeline: Pipeline, validated: list[ValidatedPart]
    ) -> None:
        contents = pipeline.objects(pipeline.config.source_bucket, "streams/")
        header = contents.pop("streams/c.csv")
        with pytest.raises(BadInputError):
            move(pipeline, validated)

        assert list(pipeline.archived("streams/").values()) == [header]
        assert pipeline.source_keys() == ["songs/songs.csv", "users/users.csv"]
        quarantine = pipeline.archived(f"quarantine/{RUN_KEY}/")
        reasons = {key: json.loads(text) for key, text in quarantine.items() if key.endswith(".reason.json")}
        kept = {
            reasons[f"{key}.reason.json"]["key"]: quarantine[key] for key in quarantine if key not in reasons
        }
        assert kept == contents
        by_key = {reason["key"]: reason for reason in reasons.values()}
        sample = by_key["streams/a.csv"]["sample_of_rejected_rows"]
        assert [(row["row"], row["reason"]) for row in sample] == [
            (1, "invalid listen_time"),
            (2, "wrong number of fields"),
        ]

    def test_report_says_no_valid_rows_and_adds_up(
        self, pipeline: Pipeline, validated: list[ValidatedPart]
    ) -> None:
        with pytest.raises(BadInputError):
            move(pipeline, validated)

        report = pipeline.archived_json(report_key(RUN_KEY))
        assert report["status"] == "no_valid_rows"
        assert report["totals"] == {
            "files": 3,
            "archived": 1,
            "quarantined": 2,
            "left": 0,
            "rows": 2,
            "valid": 0,
            "rejected": 2,
            "rejected_by_reason": {"invalid listen_time": 1, "wrong number of fields": 1},
        }
        assert all(pipeline.archived(file["destination"]) for file in report["files"])

    def test_kpis_history_and_temporary_objects(
        self, pipeline: Pipeline, validated: list[ValidatedPart]
    ) -> None:
        items = pipeline.items()
        with pytest.raises(BadInputError):
            move(pipeline, validated)

        assert pipeline.items() == items
        assert list(pipeline.archived("listens/")) == [f"listens/listen_date={DAY}/b__part-0.parquet"]
        assert pipeline.intermediate() == {}

    def test_clearing_any_of_its_tasks_ends_red_again_and_changes_nothing(
        self, pipeline: Pipeline, validated: list[ValidatedPart]
    ) -> None:
        with pytest.raises(BadInputError) as first:
            move(pipeline, validated)
        archived = pipeline.archived()

        again = pipeline.ingest()
        with pytest.raises(BadInputError) as second:
            move(pipeline, again)

        assert str(second.value) == str(first.value)
        assert pipeline.archived() == archived
        assert pipeline.intermediate() == {}

    def test_crash_after_the_files_were_moved_is_made_good_by_the_retry(
        self, pipeline: Pipeline, validated: list[ValidatedPart], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = "helpers.move_files_to_intermediate_bucket.write_report"
        with monkeypatch.context() as patch:
            patch.setattr(name, lambda *_: (_ for _ in ()).throw(ConnectionError("crash")))
            with pytest.raises(ConnectionError):
                move(pipeline, validated)

        with pytest.raises(BadInputError, match="None of 3 stream files has a valid row"):
            move(pipeline, validated)

        assert pipeline.archived_json(report_key(RUN_KEY))["totals"]["quarantined"] == 2
        assert len(pipeline.archived(f"quarantine/{RUN_KEY}/")) == 4


def test_run_whose_files_all_changed_since_is_skipped_and_leaves_them(make_pipeline: Any) -> None:
    pipeline = make_pipeline(versioned=False)
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD))
    parts = list_stream_files(RUN_ID, pipeline.config)
    pipeline.upload("streams/a.csv", streams(GOOD, GOOD))
    combined = [extract_and_combine_streams(part, pipeline.config) for part in parts]
    validated = [validate_csv_files(part, pipeline.config) for part in combined]

    with pytest.raises(AirflowSkipException, match=r"1 file left in .*a\.csv: changed after it was listed"):
        move(pipeline, validated)

    assert "streams/a.csv" in pipeline.source_keys()
    assert pipeline.archived("quarantine/") == {}


def test_complete_run_changes_nothing(pipeline: Pipeline) -> None:
    report = {"status": "complete", "totals": {"valid": 7}}
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), report)

    assert move(pipeline, []) == {"run_key": RUN_KEY, "rows": 7}
    assert pipeline.intermediate() == {}
