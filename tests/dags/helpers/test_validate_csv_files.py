import csv
import io
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from pipeline_support import BAD, DAY, GOOD, RUN_ID, RUN_KEY, Pipeline, read_parquet, streams

from helpers import parquet_sink
from helpers import validate_csv_files as validation
from helpers.config import STREAM_COLUMNS
from helpers.csv_reader import CsvReader
from helpers.errors import ReconciliationError
from helpers.extract_and_combine_streams import COMBINED_SCHEMA, CombinedPart
from helpers.list_stream_files import list_stream_files
from helpers.manifest import FileOutcome
from helpers.run_key import report_key
from helpers.validate_csv_files import (
    LISTEN_TIME,
    REJECTED_COLUMNS,
    VALID_SCHEMA,
    check_rows,
    parse_listen_times,
    split_plain_rows,
    validate_csv_files,
)

GOOD_TIMES = {
    "2024-06-25 17:43:13": "2024-06-25T17:43:13",
    "2024-06-25T17:43:13": "2024-06-25T17:43:13",
    "2024-06-25T17:43:13Z": "2024-06-25T17:43:13",
    "2024-06-25 17:43:13.5": "2024-06-25T17:43:13.500000",
    "2024-06-25T17:43:13.123456": "2024-06-25T17:43:13.123456",
    "2024-06-25T17:43:13.123456Z": "2024-06-25T17:43:13.123456",
    "2024-06-25T17:43:13+02:00": "2024-06-25T15:43:13",
    "2024-06-25T17:43:13+0530": "2024-06-25T12:13:13",
    "2024-06-25T17:43:13-08": "2024-06-26T01:43:13",
    "2024-06-25T00:30:00+01:00": "2024-06-24T23:30:00",
    "2024-06-25T17:43:13-00:00": "2024-06-25T17:43:13",
    "2024-06-25T17:43:13.25-14:00": "2024-06-26T07:43:13.250000",
    "2024-02-29 00:00:00": "2024-02-29T00:00:00",
    "2024-06-25 23:59:59.999999": "2024-06-25T23:59:59.999999",
    "1970-01-01 00:00:00": "1970-01-01T00:00:00",
    "2199-12-31 23:59:59": "2199-12-31T23:59:59",
}
BAD_TIMES = [
    "",
    "null",
    "NaT",
    "now",
    "yesterday",
    "1719337393",
    "2024-06-25",
    "2024-06-25 17:43",
    "2024-06-25 17:43+02",
    "2024-06-25T17",
    "20240625T174313",
    "2024-6-25 17:43:13",
    "2024-W26-2T17:43:13",
    "25/06/2024 17:43:13",
    "06-25-2024 17:43:13",
    "2024-06-25  17:43:13",
    "2024-06-25t17:43:13",
    "2024-06-25T17:43:13z",
    "2024-06-25T17:43:13 Z",
    "2024-06-25T17:43:13,5",
    "2024-06-25T17:43:13.",
    "2024-06-25T17:43:13.1234567",
    "2024-06-25T17:43:13+2",
    "2024-06-25T17:43:13+02:",
    "2024-06-25T17:43:13+24:00",
    "2024-06-25T17:43:13+02:60",
    "2024-06-25 24:00:00",
    "2024-06-25 17:60:00",
    "2024-06-25 17:43:60",
    "2024-06-31 17:43:13",
    "2023-02-29 17:43:13",
    "2024-13-01 17:43:13",
    "2024-00-01 17:43:13",
    "0000-01-01 00:00:00",
    "1969-12-31 23:59:59",
    "1970-01-01T00:00:00+01:00",
    "2200-01-01 00:00:00",
    "9999-12-31T23:59:59Z",
    "٢٠٢٤-06-25 17:43:13",
    "2024-06-25 17:43:13\n2024-06-25 17:43:13",
]


def texts(*values: str | None) -> pd.Series:
    return pd.Series(values, dtype=pd.ArrowDtype(pa.string()))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class TestParseListenTimes:
    @pytest.mark.parametrize(("text", "expected"), GOOD_TIMES.items())
    def test_good_form_is_the_instant_that_it_says(self, text: str, expected: str) -> None:
        assert parse_listen_times(texts(text)).tolist() == [instant(expected)]

    @pytest.mark.parametrize("text", BAD_TIMES, ids=repr)
    def test_bad_form_is_no_instant(self, text: str) -> None:
        assert parse_listen_times(texts(text)).isna().tolist() == [True]

    @pytest.mark.parametrize("neighbour", [*GOOD_TIMES, "2024-02-30 00:00:00", "", None])
    def test_time_is_the_same_whatever_stands_before_and_after_it(self, neighbour: str | None) -> None:
        column = [text for time in GOOD_TIMES for text in (neighbour, time, neighbour)]

        parsed = parse_listen_times(texts(*column))

        assert parsed[1::3].tolist() == [instant(expected) for expected in GOOD_TIMES.values()]

    def test_bad_forms_are_told_among_good_ones(self) -> None:
        column = [text for bad in BAD_TIMES for text in (bad, "2024-06-25 17:43:13")]

        parsed = parse_listen_times(texts(*column))

        assert parsed.isna().tolist() == [True, False] * len(BAD_TIMES)
        assert set(parsed.dropna()) == {instant("2024-06-25T17:43:13")}

    def test_instants_are_utc_microseconds_under_the_texts_own_index(self) -> None:
        column = pd.Series(["2024-06-25 17:43:13", None], index=[7, 3], dtype=pd.ArrowDtype(pa.string()))

        parsed = parse_listen_times(column)

        assert parsed.dtype == pd.ArrowDtype(LISTEN_TIME)
        assert parsed.index.tolist() == [7, 3]
        assert parsed.isna().tolist() == [False, True]

    def test_no_times_are_no_instants(self) -> None:
        assert parse_listen_times(texts()).tolist() == []


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pa.Table.from_pylist(rows, schema=COMBINED_SCHEMA).to_pandas(types_mapper=pd.ArrowDtype)


def record(row: int, *values: str | None, malformed_record: str | None = None) -> dict[str, Any]:
    fields = dict(zip(STREAM_COLUMNS, values, strict=True)) if values else {}
    return {"file": 0, "row": row, **fields, "malformed_record": malformed_record}


class TestCheckRows:
    def test_rows_are_trimmed_typed_and_given_their_reason(self) -> None:
        records = frame(
            [
                record(1, " u1\t", "t1", f" {DAY} 10:00:00 "),
                record(2, "", "t1", f"{DAY} 10:00:00"),
                record(3, malformed_record="too,few"),
                record(4, "u4", "t4", "yesterday"),
            ]
        )
        schema = pa.schema(
            [
                ("file", pa.int32()),
                ("row", pa.int64()),
                ("user_id", pa.string()),
                ("track_id", pa.string()),
                ("listen_time", LISTEN_TIME),
                ("malformed_record", pa.string()),
                ("reason", pa.string()),
            ]
        )
        time = instant(f"{DAY}T10:00:00")
        expected = [
            (0, 1, "u1", "t1", time, None, None),
            (0, 2, "", "t1", time, None, "empty user_id"),
            (0, 3, None, None, None, "too,few", "wrong number of fields"),
            (0, 4, "u4", "t4", None, None, "invalid listen_time"),
        ]
        columns = [list(column) for column in zip(*expected, strict=True)]
        table = pa.Table.from_arrays(
            [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)],
            schema=schema,
        )

        assert_frame_equal(check_rows(records), table.to_pandas(types_mapper=pd.ArrowDtype))

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            pytest.param(("u", "t", f"{DAY} 10:00:00"), None, id="valid"),
            pytest.param(("", "t", f"{DAY} 10:00:00"), "empty user_id", id="no user"),
            pytest.param((" \t ", "t", f"{DAY} 10:00:00"), "empty user_id", id="blank user"),
            pytest.param(("u", "", f"{DAY} 10:00:00"), "empty track_id", id="no track"),
            pytest.param(("u", "\u00a0", f"{DAY} 10:00:00"), "empty track_id", id="no-break space as track"),
            pytest.param(("u", "t", ""), "invalid listen_time", id="no time"),
            pytest.param(("u\0", "t", f"{DAY} 10:00:00"), "NUL character", id="NUL in user"),
            pytest.param(("u", "\0", f"{DAY} 10:00:00"), "NUL character", id="NUL as track"),
            pytest.param(("u", "t", f"{DAY} 10:00:00\0"), "NUL character", id="NUL in time"),
            pytest.param(("", "", ""), "empty user_id", id="user before track and time"),
            pytest.param(("u", "", "x"), "empty track_id", id="track before time"),
            pytest.param(("", "\0", ""), "NUL character", id="NUL before empty ids"),
        ],
    )
    def test_first_rule_that_a_row_breaks_is_its_reason(
        self, values: tuple[str, str, str], reason: str | None
    ) -> None:
        (result,) = check_rows(frame([record(1, *values)]))["reason"]

        assert (None if pd.isna(result) else result) == reason

    @pytest.mark.parametrize("text", ["NA", "null", "None", "nan", "007", "1e5", "-1", "0", "TRUE", "#N/A"])
    def test_id_stays_the_string_that_it_is(self, text: str) -> None:
        checked = check_rows(frame([record(1, text, text, f"{DAY} 10:00:00")]))

        assert checked.loc[0, ["user_id", "track_id"]].tolist() == [text, text]
        assert checked["reason"].isna().all()


ids = st.one_of(st.just("a"), st.sampled_from(["", " ", "\u3000", "\0", "a\0b", " a ", "ä", "a\tb", None]))
times = st.one_of(
    st.just("2024-06-25 17:43:13"), st.sampled_from([*GOOD_TIMES, *BAD_TIMES, None, "2024-06-25 17:43:1\0"])
)


class TestSplitPlainRows:
    @given(st.lists(st.tuples(ids, ids, times), max_size=8), st.integers(0, 3), st.booleans())
    def test_glance_tells_the_same_as_the_closer_look(
        self, rows: list[tuple[str | None, str | None, str | None]], skipped: int, in_chunks: bool
    ) -> None:
        records = pa.Table.from_pylist(
            [record(n, *row) for n, row in enumerate(rows)], schema=COMBINED_SCHEMA
        )
        if in_chunks:
            records = pa.concat_tables([records.slice(0, 2), records.slice(2)])
        records = records.slice(skipped)

        plain, doubtful = split_plain_rows(records)

        checked = check_rows(records.to_pandas(types_mapper=pd.ArrowDtype))
        valid = checked[checked["reason"].isna()]
        is_doubtful = valid["row"].isin(doubtful["row"].to_pylist())
        assert plain.schema == VALID_SCHEMA
        assert plain.num_rows + doubtful.num_rows == records.num_rows
        assert (
            plain.to_pylist()
            == pa.Table.from_pandas(
                valid.loc[~is_doubtful, VALID_SCHEMA.names], schema=VALID_SCHEMA, preserve_index=False
            ).to_pylist()
        )
        assert doubtful.to_pylist() == [
            row for row in records.to_pylist() if row["row"] in set(doubtful["row"].to_pylist())
        ]

    def test_clean_rows_need_no_closer_look(self) -> None:
        rows = [record(number, "1", "a", "2024-06-25 17:43:13") for number in range(3)]
        records = pa.Table.from_pylist(rows, schema=COMBINED_SCHEMA)

        plain, doubtful = split_plain_rows(records)

        assert plain.num_rows == 3
        assert doubtful.num_rows == 0

    @pytest.mark.parametrize(
        "bad",
        [
            ("", "a", "2024-06-25 17:43:13"),
            ("1", "a\0", "2024-06-25 17:43:13"),
            ("1", "a", "2024-06-31 17:43:13"),
            ("1", "a", "2200-01-01 00:00:00"),
            ("1", "a", "1969-12-31 23:59:59"),
            ("1", "a", "0000-01-01 00:00:00"),
            (None, None, None),
        ],
        ids=repr,
    )
    def test_bad_row_alone_needs_a_closer_look(self, bad: tuple[str | None, ...]) -> None:
        good = ("1", "a", "2024-06-25 17:43:13")
        rows = [record(number, *row) for number, row in enumerate([good, bad, good])]

        plain, doubtful = split_plain_rows(pa.Table.from_pylist(rows, schema=COMBINED_SCHEMA))

        assert plain["user_id"].to_pylist() == ["1", "1"]
        assert doubtful["row"].to_pylist() == [1]


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
        lenient.upload("streams/a.csv", streams(GOOD, ' u1 ,"t,1","say ""x""\n"', GOOD, "1,2", GOOD))

        validate(lenient)

        assert sorted(rejected_rows(lenient), key=lambda row: row["row"]) == [
            {
                "source_file": "streams/a.csv",
                "row": "2",
                "reason": "invalid listen_time",
                "user_id": " u1 ",
                "track_id": "t,1",
                "listen_time": 'say "x"\n',
                "malformed_record": "",
            },
            {
                "source_file": "streams/a.csv",
                "row": "4",
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
            pytest.param('"a\nb"', "a\nb", id="LF"),
            pytest.param('"a\rb"', "a\rb", id="CR"),
            pytest.param('"a\r\nb"', "a\r\nb", id="CRLF"),
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
            "2 of 3 rows are bad, more than the fraction 0.05 that MAX_REJECTED_FRACTION allows"
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
            "user_id": "u1",
            "track_id": "t1",
            "listen_time": "yesterday",
            "malformed_record": None,
            "reason": "invalid listen_time",
        }
        assert "sample_of_rejected_rows" not in second

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
        for name in ("helpers.parquet_sink.ROWS_PER_GROUP", "helpers.validate_csv_files.ROWS_PER_GROUP"):
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
            validation, "check_rows", lambda records: looks.append(len(records)) or check_rows(records)
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

        with pytest.raises(ReconciliationError, match=r"Part 0 .* clear extract_and_combine_streams"):
            validate_csv_files(CombinedPart(run_key=RUN_KEY, part=0, files=1, rows=1), pipeline.config)
