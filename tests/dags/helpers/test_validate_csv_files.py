import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from pipeline_support import BAD, DAY, GOOD, RUN_ID, RUN_KEY, Pipeline, read_parquet, streams

from helpers import validate_csv_files as validation
from helpers.contract.keys import report_key
from helpers.contract.names import STREAM_COLUMNS
from helpers.contract.records import CombinedPart, FileOutcome
from helpers.errors import ReconciliationError
from helpers.ingest import parquet_sink
from helpers.ingest.csv_reader import CsvReader
from helpers.ingest.row_rules import (
    VALID_SCHEMA,
    check_rows,
)
from helpers.list_stream_files import list_stream_files
from helpers.validate_csv_files import REJECTED_COLUMNS, validate_csv_files


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def validate(pipeline: Pipeline) -> Any:
    (part,) = pipeline.ingest()
    return part


def outcomes(pipeline: Pipeline) -> list[FileOutcome]:
    result: list[FileOutcome] = pipeline.intermediate_json("validated/part-00000.json")
    return result


def valid_rows(pipeline: Pipeline) -> list[tuple[Any, ...]]:
    table = read_parquet(pipeline.intermediate()["validated/part-00000.parquet"])
    assert table.schema == VALID_SCHEMA
    return [tuple(row.values()) for row in table.to_pylist()]


def rejected_rows(pipeline: Pipeline) -> list[dict[str, str]]:
    content = pipeline.intermediate()["rejected/part-00000.csv"].decode()
    return list(csv.DictReader(io.StringIO(content, newline="")))


@pytest.fixture
def lenient(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline in which half of a file's rows may be bad."""
    return with_fraction(pipeline, "0.5", monkeypatch)


def with_fraction(pipeline: Pipeline, fraction: str, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setenv("MAX_REJECTED_FRACTION", fraction)
    return Pipeline(pipeline.endpoint_url, type(pipeline.config).from_env())


TIME = instant(f"{DAY}T10:00:00")


class TestValidateCsvFiles:
    def test_valid_and_rejected_rows_are_kept_apart(self, lenient: Pipeline) -> None:
        lenient.upload_catalogs()
        lenient.upload("streams/a.csv", streams("u1,t1,2024-06-25T12:00:00+02:00", BAD, GOOD, "1,2", GOOD))
        lenient.upload("streams/b.csv", streams(f" u3 ,NA,{DAY} 10:00:00"))

        part = validate(lenient)

        assert part == {
            "run_key": RUN_KEY,
            "part": 0,
            "files": 2,
            "rows": 6,
            "valid": 4,
            "rejected": 2,
        }
        assert sorted(valid_rows(lenient)) == [(0, "u1", "t1", TIME)] * 3 + [(1, "u3", "NA", TIME)]
        first, second = outcomes(lenient)
        assert (first["rows"], first["valid"], first["rejected"]) == (5, 3, 2)
        assert first["rejected_by_reason"] == {"invalid listen_time": 1, "wrong number of fields": 1}
        assert (first["disposition"], first["reason"]) == ("archive", None)
        assert (second["rows"], second["valid"], second["rejected"]) == (1, 1, 0)

    def test_rejected_rows_say_file_row_reason_and_the_raw_values(self, lenient: Pipeline) -> None:
        lenient.upload_catalogs()
        lenient.upload("streams/a.csv", streams(GOOD, ' u1 ,"t,1","say ""x"""', GOOD, "", "1,2", GOOD))

        validate(lenient)

        assert sorted(rejected_rows(lenient), key=lambda row: row["row"]) == [
            {
                "source_file": "streams/a.csv",
                "row": "2",
                "line": "3",
                "reason": "invalid listen_time",
                "user_id": " u1 ",
                "track_id": "t,1",
                "listen_time": 'say "x"',
                "malformed_record": "",
            },
            {
                "source_file": "streams/a.csv",
                "row": "4",
                "line": "6",
                "reason": "wrong number of fields",
                "user_id": "",
                "track_id": "",
                "listen_time": "",
                "malformed_record": "1,2",
            },
        ]

    @pytest.mark.parametrize(
        ("track_id", "value"),
        [
            pytest.param("a", "a", id="plain"),
            pytest.param("NA", "NA", id="NA"),
            pytest.param('"a,b"', "a,b", id="comma"),
            pytest.param('"a""b"', 'a"b', id="quote"),
        ],
    )
    def test_rejected_rows_can_be_corrected_and_delivered_as_a_stream_file(
        self, lenient: Pipeline, track_id: str, value: str
    ) -> None:
        lenient.upload_catalogs()
        lenient.upload("streams/a.csv", streams(GOOD, GOOD, f"u1,{track_id},x", "1,2"))
        validate(lenient)

        content = lenient.intermediate()["rejected/part-00000.csv"]
        reader = CsvReader(io.BytesIO(content), STREAM_COLUMNS)
        batches = list(reader)

        assert reader.extra_columns == [name for name in REJECTED_COLUMNS if name not in STREAM_COLUMNS]
        assert [bad for batch in batches for bad in batch.malformed] == []
        read = [row for batch in batches for row in batch.records.to_pylist()]
        assert sorted(row["track_id"] for row in read) == ["", value]

    @pytest.mark.parametrize(
        ("fraction", "bad", "rows", "disposition"),
        [
            ("0.05", 5, 100, "archive"),
            ("0.05", 6, 100, "quarantine"),
            ("0.05", 1, 19, "quarantine"),
            ("0.05", 1, 20, "archive"),
            ("0.29", 29, 100, "archive"),
            ("0.29", 30, 100, "quarantine"),
            ("0", 0, 10, "archive"),
            ("0", 1, 10, "quarantine"),
            ("1", 10, 10, "archive"),
        ],
    )
    def test_file_is_rejected_above_the_fraction_of_bad_rows_and_not_at_it(
        self,
        pipeline: Pipeline,
        monkeypatch: pytest.MonkeyPatch,
        fraction: str,
        bad: int,
        rows: int,
        disposition: str,
    ) -> None:
        pipeline = with_fraction(pipeline, fraction, monkeypatch)
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(*[BAD] * bad, *[GOOD] * (rows - bad)))

        validate(pipeline)

        (outcome,) = outcomes(pipeline)
        assert outcome["disposition"] == disposition
        expected = (rows - bad, bad) if disposition == "archive" else (0, rows)
        assert (outcome["valid"], outcome["rejected"]) == expected

    def test_file_that_is_rejected_as_a_whole_takes_only_its_own_rows_along(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(*[GOOD] * 30, BAD))
        pipeline.upload("streams/b.csv", streams(GOOD, BAD, BAD))
        pipeline.upload("streams/c.csv", streams(GOOD))
        pipeline.upload("streams/d.csv", "no,header\n")

        part = validate(pipeline)

        assert (part["rows"], part["valid"], part["rejected"]) == (35, 31, 4)
        assert sorted(valid_rows(pipeline)) == [(0, "u1", "t1", TIME)] * 30 + [(2, "u1", "t1", TIME)]
        assert [row["source_file"] for row in rejected_rows(pipeline)] == ["streams/a.csv"]
        _, second, _, fourth = outcomes(pipeline)
        assert second["disposition"] == "quarantine"
        assert second["reason"] == (
            "2 of 3 rows are bad: invalid listen_time in 2 rows, such as 'yesterday' in line 3: write it "
            "like 2024-06-25 17:43:13 (UTC) or 2024-06-25T19:43:13+02:00 (MAX_REJECTED_FRACTION allows a "
            "fraction of 0.05)"
        )
        assert second["rejected_by_reason"] == {"invalid listen_time": 2}
        assert (fourth["disposition"], fourth["rows"]) == ("quarantine", 0)

    def test_rejected_file_has_a_sample_of_its_bad_rows(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD, *[BAD] * 20))
        pipeline.upload("streams/b.csv", streams(GOOD))

        validate(pipeline)

        first, second = outcomes(pipeline)
        sample = first["sample_of_rejected_rows"]
        assert [row["row"] for row in sample] == list(range(2, 12))
        assert sample[0] == {
            "row": 2,
            "line": 3,
            "user_id": "u1",
            "track_id": "t1",
            "listen_time": "yesterday",
            "malformed_record": None,
            "reason": "invalid listen_time",
        }
        assert "sample_of_rejected_rows" not in second

    def test_newest_valid_listen_of_each_accepted_file_is_noted(self, lenient: Pipeline) -> None:
        lenient.upload_catalogs()
        lenient.upload(
            "streams/a.csv", streams(GOOD, f"u1,t1,{DAY}T09:30:00-02:00", "u1,t1,2999-01-01 00:00:00")
        )
        lenient.upload("streams/b.csv", streams(f"u1,t1,{DAY} 08:00:00"))
        lenient.upload("streams/c.csv", streams(GOOD, BAD, BAD))
        lenient.upload("streams/d.csv", streams())

        validate(lenient)

        assert [outcome.get("newest_listen") for outcome in outcomes(lenient)] == [
            f"{DAY}T11:30:00+00:00",
            f"{DAY}T08:00:00+00:00",
            None,
            None,
        ]

    def test_header_alone_is_a_valid_file_without_rows(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", "user_id,track_id,listen_time\n")

        part = validate(pipeline)

        assert (part["files"], part["rows"], part["valid"]) == (1, 0, 0)
        (outcome,) = outcomes(pipeline)
        assert outcome["disposition"] == "archive"
        assert valid_rows(pipeline) == []
        assert "rejected/part-00000.csv" not in pipeline.intermediate()

    def test_rejected_rows_have_one_header_however_many_there_are(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in (
            "helpers.ingest.parquet_sink.ROWS_PER_GROUP",
            "helpers.validate_csv_files.ROWS_PER_GROUP",
        ):
            monkeypatch.setattr(name, 2)
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(BAD, BAD, BAD, BAD))
        pipeline.upload("streams/b.csv", streams(*[GOOD] * 99, BAD, BAD, BAD))

        validate(pipeline)

        assert [(row["source_file"], row["row"]) for row in rejected_rows(pipeline)] == [
            ("streams/b.csv", "100"),
            ("streams/b.csv", "101"),
            ("streams/b.csv", "102"),
        ]

    def test_bad_rows_all_over_a_part_are_looked_at_together_and_none_is_lost(
        self, lenient: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(validation, "ROWS_PER_GROUP", 5)
        monkeypatch.setattr(parquet_sink, "ROWS_PER_GROUP", 5)
        monkeypatch.setattr(validation, "_DOUBTFUL_ROWS", 6)
        looks: list[int] = []
        monkeypatch.setattr(
            validation,
            "check_rows",
            lambda records, latest: looks.append(len(records)) or check_rows(records, latest),
        )
        lenient.upload_catalogs()
        rows = [f"{n},a,{'yesterday' if n % 3 == 0 else '2024-06-25 17:43:13'}" for n in range(1, 51)]
        lenient.upload("streams/a.csv", streams(*rows[:20]))
        lenient.upload("streams/b.csv", streams(*rows[20:]))

        part = validate(lenient)

        assert (part["valid"], part["rejected"]) == (34, 16)
        assert {row[1] for row in valid_rows(lenient)} == {str(n) for n in range(1, 51) if n % 3}
        assert {row["user_id"] for row in rejected_rows(lenient)} == {str(n) for n in range(3, 51, 3)}
        assert sum(looks) == 16
        assert all(count >= 6 for count in looks[:-1])

    def test_retry_gives_the_same(self, lenient: Pipeline) -> None:
        lenient.upload_catalogs()
        lenient.upload("streams/a.csv", streams(GOOD, BAD))
        first_result = validate(lenient)
        first = lenient.intermediate()

        assert validate(lenient) == first_result
        assert lenient.intermediate() == first

    def test_times_with_and_without_offset_in_one_part_are_what_they_say(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(f"u1,t1,{DAY}T12:00:00+02:00"))
        pipeline.upload("streams/b.csv", streams(GOOD))

        validate(pipeline)

        assert sorted(valid_rows(pipeline)) == [(0, "u1", "t1", TIME), (1, "u1", "t1", TIME)]

    def test_part_of_a_complete_run_changes_nothing(self, pipeline: Pipeline) -> None:
        pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), {"status": "complete"})

        part = validate_csv_files(CombinedPart(run_key=RUN_KEY, part=0, files=1, rows=1), pipeline.config)

        assert (part["files"], part["rows"], part["valid"], part["rejected"]) == (0, 0, 0, 0)
        assert pipeline.intermediate() == {}

    def test_part_that_was_not_combined_says_what_to_clear(self, pipeline: Pipeline) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD))
        list_stream_files(RUN_ID, pipeline.config)

        with pytest.raises(ReconciliationError, match=r"Part 0 .* clear list_stream_files"):
            validate_csv_files(CombinedPart(run_key=RUN_KEY, part=0, files=1, rows=1), pipeline.config)
