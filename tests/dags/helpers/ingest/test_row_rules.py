from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from pipeline_support import DAY

from helpers.contract.names import STREAM_COLUMNS
from helpers.contract.records import RejectedExample
from helpers.extract_and_combine_streams import COMBINED_SCHEMA
from helpers.ingest import row_rules
from helpers.ingest.row_rules import (
    LISTEN_TIME,
    RULES,
    VALID_SCHEMA,
    RowRule,
    check_rows,
    example_of,
    parse_listen_times,
    split_plain_rows,
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


# The run's time plus a day.
LATEST = datetime(2024, 6, 28, 12, tzinfo=UTC)
EPOCH = "listen_time is 1970-01-01 00:00:00, which stands for no time"
AHEAD = "listen_time more than a day after the run"


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
    malformed = {"malformed_record": malformed_record} if malformed_record else {}
    reason = {"malformed_reason": "wrong number of fields"} if malformed_record else {}
    return {"file": 0, "row": row, "line_offset": 1, **fields, **malformed, **reason}


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

        checked = check_rows(records, LATEST).drop(columns=["line_offset", "malformed_reason"])
        assert_frame_equal(checked, table.to_pandas(types_mapper=pd.ArrowDtype))

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            pytest.param(("u", "t", f"{DAY} 10:00:00"), None, id="valid"),
            pytest.param(("", "t", f"{DAY} 10:00:00"), "empty user_id", id="no user"),
            pytest.param((" \t ", "t", f"{DAY} 10:00:00"), "empty user_id", id="blank user"),
            pytest.param(("u", "", f"{DAY} 10:00:00"), "empty track_id", id="no track"),
            pytest.param(("u", "\u00a0", f"{DAY} 10:00:00"), "empty track_id", id="no-break space as track"),
            pytest.param(("u", "t", ""), "invalid listen_time", id="no time"),
            pytest.param(("u", "t", "1970-01-01 00:00:00"), EPOCH, id="epoch"),
            pytest.param(("u", "t", "1970-01-01T02:00:00.000+02:00"), EPOCH, id="epoch elsewhere"),
            pytest.param(("u", "t", "1970-01-01 00:00:00.000001"), None, id="just after the epoch"),
            pytest.param(("u", "t", "1970-01-01 00:00:01"), None, id="a second after the epoch"),
            pytest.param(("u", "t", "2024-06-28 12:00:00"), None, id="a day ahead"),
            pytest.param(("u", "t", "2024-06-28 12:00:01"), AHEAD, id="more than a day ahead"),
            pytest.param(("u", "t", "2024-06-28T12:00:00-00:01"), AHEAD, id="ahead by its offset"),
            pytest.param(("u", "t", "2199-12-31 00:00:00"), AHEAD, id="far ahead"),
            pytest.param(("u", "é" * 16_384, f"{DAY} 10:00:00"), None, id="track of 32 KiB"),
            pytest.param(
                ("u", "é" * 16_384 + "t", f"{DAY} 10:00:00"), "track_id too long", id="track over 32 KiB"
            ),
            pytest.param(("u\0", "t", f"{DAY} 10:00:00"), "NUL character", id="NUL in user"),
            pytest.param(
                ("\ufeffu", "t", f"{DAY} 10:00:00"), "byte order mark", id="byte order mark in user"
            ),
            pytest.param(("u", "\uff54", f"{DAY} 10:00:00"), None, id="bytes like a byte order mark's"),
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
        (result,) = check_rows(frame([record(1, *values)]), LATEST)["reason"]

        assert (None if pd.isna(result) else result) == reason

    @pytest.mark.parametrize("text", ["NA", "null", "None", "nan", "007", "1e5", "-1", "0", "TRUE", "#N/A"])
    def test_id_stays_the_string_that_it_is(self, text: str) -> None:
        checked = check_rows(frame([record(1, text, text, f"{DAY} 10:00:00")]), LATEST)

        assert checked.loc[0, ["user_id", "track_id"]].tolist() == [text, text]
        assert checked["reason"].isna().all()


ids = st.one_of(st.just("a"), st.sampled_from(["", " ", "\u3000", "\0", "a\0b", " a ", "ä", "a\tb", None]))
times = st.one_of(
    st.just("2024-06-25 17:43:13"),
    st.sampled_from(["2024-06-28 12:00:00", "2024-06-28 12:00:01"]),
    st.sampled_from([*GOOD_TIMES, *BAD_TIMES, None, "2024-06-25 17:43:1\0"]),
)


BROKEN = {
    "malformed record": record(1, malformed_record="too,few"),
    "NUL character": record(1, "u", "t\0", f"{DAY} 10:00:00"),
    "byte order mark": record(1, "\ufeffu", "t", f"{DAY} 10:00:00"),
    "empty user_id": record(1, " ", "t", f"{DAY} 10:00:00"),
    "empty track_id": record(1, "u", "", f"{DAY} 10:00:00"),
    "track_id too long": record(1, "u", "t" * 32_769, f"{DAY} 10:00:00"),
    "invalid listen_time": record(1, "u", "t", "1969-12-31 23:59:59"),
    EPOCH: record(1, "u", "t", "1970-01-01 00:00:00"),
    AHEAD: record(1, "u", "t", "2024-06-28 12:00:01"),
}
NO_BOB = RowRule("no Bob", "user_id", "ask Bob", lambda rows: rows.user_id == "bob")


class TestOneListOfRules:
    def test_every_rule_has_a_row_here_that_breaks_it(self) -> None:
        assert [rule.reason for rule in RULES] == list(BROKEN)

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
    def test_row_that_breaks_a_rule_does_not_pass_it_at_a_glance_whatever_the_other_rules_say(
        self, rule: RowRule, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(row_rules, "RULES", [rule])
        good = record(2, "u", "t", f"{DAY} 10:00:00")
        records = pa.Table.from_pylist([BROKEN[rule.reason], good], schema=COMBINED_SCHEMA)

        plain, doubtful = split_plain_rows(records, LATEST)

        assert (plain.num_rows, doubtful["row"].to_pylist()) == (1, [1])

    def test_rule_that_is_added_is_obeyed_by_ordinary_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(row_rules, "RULES", [*RULES, NO_BOB])
        rows = [record(1, "bob", "t", f"{DAY} 10:00:00"), record(2, "u", "t", f"{DAY} 10:00:00")]
        records = pa.Table.from_pylist(rows, schema=COMBINED_SCHEMA)

        plain, doubtful = split_plain_rows(records, LATEST)
        checked = check_rows(doubtful.to_pandas(types_mapper=pd.ArrowDtype), LATEST)

        assert plain.num_rows == 0
        assert checked["reason"].fillna("").tolist() == ["no Bob", ""]


class TestExampleOf:
    def example(self, reason: str, *rows: dict[str, Any]) -> RejectedExample:
        records = frame(list(rows))
        return example_of(reason, records.assign(line=records["row"] + records["line_offset"]))

    def test_example_is_a_row_of_the_most_common_form(self) -> None:
        texts = ["05/06/2024 10:00", " 25/06/2024 17:43 "]
        rows = [record(number, "u", "t", text) for number, text in enumerate(texts, 1)]

        example = self.example("invalid listen_time", *rows)

        assert (example["line"], example["value"]) == (3, "25/06/2024 17:43")
        assert example["looks_like"] == "day/month/year"
        assert "2024-06-25 17:43:13" in example["remedy"]

    def test_malformed_record_is_shown_with_the_remedy_of_its_fault(self) -> None:
        example = self.example("wrong number of fields", BROKEN["malformed record"])

        assert (example["line"], example["value"]) == (2, "too,few")
        assert example["remedy"].startswith("give the row the header's number of fields")

    @pytest.mark.parametrize(("delimiter", "name"), [("\t", "tab"), (";", "semicolon"), ("|", "bar")])
    def test_row_with_another_delimiter_is_recognized(self, delimiter: str, name: str) -> None:
        row = BROKEN["malformed record"] | {"malformed_record": delimiter.join("abc")}

        example = self.example("wrong number of fields", row)

        assert example["looks_like"] == f"a {name}-separated row"
        assert example["remedy"] == "separate its values by commas"

    @pytest.mark.parametrize("reason", ["empty user_id", "NUL character", "byte order mark"])
    def test_user_id_is_not_shown(self, reason: str) -> None:
        assert self.example(reason, BROKEN[reason])["value"] is None


class TestSplitPlainRows:
    # Generating takes long on a loaded machine, which must not fail the test.
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
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

        plain, doubtful = split_plain_rows(records, LATEST)

        checked = check_rows(records.to_pandas(types_mapper=pd.ArrowDtype), LATEST)
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

        plain, doubtful = split_plain_rows(records, LATEST)

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
            ("1", "a", "1970-01-01 00:00:00"),
            ("1", "a", "2024-06-28 12:00:01"),
            ("1", "a" * 32_769, "2024-06-25 17:43:13"),
            (None, None, None),
        ],
        ids=repr,
    )
    def test_bad_row_alone_needs_a_closer_look(self, bad: tuple[str | None, ...]) -> None:
        good = ("1", "a", "2024-06-25 17:43:13")
        rows = [record(number, *row) for number, row in enumerate([good, bad, good])]

        plain, doubtful = split_plain_rows(pa.Table.from_pylist(rows, schema=COMBINED_SCHEMA), LATEST)

        assert plain["user_id"].to_pylist() == ["1", "1"]
        assert doubtful["row"].to_pylist() == [1]
