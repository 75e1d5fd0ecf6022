from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from pipeline_support import RUN_KEY, SONGS, USERS, Pipeline, read_parquet

from helpers.aws.clients import s3_client
from helpers.contract.names import SONG_COLUMNS, USER_COLUMNS
from helpers.contract.records import CatalogSummary, ObjectVersion
from helpers.contract.settings import PipelineConfig
from helpers.errors import BadInputError, CatalogError
from helpers.ingest.catalogs import (
    SONGS_SCHEMA,
    USERS_SCHEMA,
    move_catalogs,
    songs_table,
    users_table,
)
from helpers.ingest.csv_reader import records_schema
from helpers.ingest.id_forms import IdSample

SONG_HEADER = SONGS.splitlines()[0]
USER_HEADER = USERS.splitlines()[0]


def records(columns: tuple[str, ...], *rows: tuple[str, ...]) -> pa.RecordBatch:
    fields = [dict(zip(columns, row, strict=True)) for row in rows]
    return pa.RecordBatch.from_pylist(fields, schema=records_schema(columns))


def song(track_id: str = "t", genre: str = "pop", duration_ms: str = "1") -> tuple[str, ...]:
    return (track_id, "name", "artist", genre, duration_ms)


class TestSongsTable:
    def test_rows_are_typed_trimmed_numbered_and_null_where_nothing_is(self) -> None:
        batch = records(
            SONG_COLUMNS,
            (" t1 ", 'Say "Hi", you', "A;B", "pop", "60000"),
            ("t2", "", " ", "\t", ""),
            ("t1", "Again", "C", "pop", "1"),
        )

        table = songs_table(batch, 10, Counter())

        assert table.equals(
            pa.table(
                {
                    "row_id": [10, 11, 12],
                    "track_id": ["t1", "t2", "t1"],
                    "track_name": ['Say "Hi", you', None, "Again"],
                    "artists": ["A;B", None, "C"],
                    "track_genre": ["pop", None, "pop"],
                    "duration_ms": [60000, None, 1],
                },
                schema=SONGS_SCHEMA,
            )
        )

    @pytest.mark.parametrize(
        ("text", "duration_ms"),
        [
            ("0", 0),
            ("215733", 215733),
            ("215733.0", 215733),
            ("1e5", 100_000),
            (" 7 ", 7),
            ("2147483647", 2**31 - 1),
            ("2147483648", None),
            ("-1", None),
            ("-0.4", None),
            ("", None),
            ("3:35", None),
            ("unknown", None),
            ("NaN", None),
            ("inf", None),
            ("1e400", None),
            ("99999999999999999999", None),
        ],
    )
    @pytest.mark.parametrize("neighbour", ["1000", "unknown"])
    def test_unreadable_duration_is_null_and_counted(
        self, text: str, duration_ms: int | None, neighbour: str
    ) -> None:
        notes: Counter[str] = Counter()
        batch = records(SONG_COLUMNS, song("t1", duration_ms=text), song("t2", duration_ms=neighbour))

        table = songs_table(batch, 0, notes)

        assert table["duration_ms"].to_pylist() == [duration_ms, 1000 if neighbour == "1000" else None]
        assert notes["unreadable duration_ms"] == (duration_ms is None) + (neighbour == "unknown")

    def test_rows_without_id_are_passed_over_and_counted_but_keep_their_number(self) -> None:
        notes: Counter[str] = Counter()

        table = songs_table(records(SONG_COLUMNS, song("t1"), song("  "), song("t3")), 0, notes)

        assert table.select(["row_id", "track_id"]).to_pydict() == {
            "row_id": [0, 2],
            "track_id": ["t1", "t3"],
        }
        assert notes["empty track_id"] == 1

    def test_no_rows_are_an_empty_table(self) -> None:
        assert songs_table(records(SONG_COLUMNS), 0, Counter()).equals(SONGS_SCHEMA.empty_table())


def test_users_are_trimmed_numbered_and_null_where_nothing_is() -> None:
    notes: Counter[str] = Counter()
    batch = records(USER_COLUMNS, ("u1", " Norway "), ("", "Chile"), ("NA", ""))

    assert users_table(batch, 5, notes).equals(
        pa.table(
            {
                "row_id": [5, 7],
                "user_id": ["u1", "NA"],
                "user_country": ["Norway", None],
            },
            schema=USERS_SCHEMA,
        )
    )
    assert notes == {"empty user_id": 1}


def upload(pipeline: Pipeline, name: str, *contents: str | bytes) -> list[ObjectVersion]:
    return [pipeline.upload(f"{name}/{index}.csv", content) for index, content in enumerate(contents)]


def move(pipeline: Pipeline, versions: dict[str, list[ObjectVersion]]) -> dict[str, CatalogSummary]:
    """Move the catalogs; that of which no version is given is good."""
    good = {"songs": SONGS, "users": USERS}
    versions = {name: versions.get(name) or upload(pipeline, name, good[name]) for name in good}
    manifest: Any = {"run_key": RUN_KEY, **versions}
    songs, users = move_catalogs(
        s3_client(), pipeline.config, manifest, IdSample("track", []), IdSample("user", [])
    )
    return {"songs": songs, "users": users}


def write(pipeline: Pipeline, name: str, *contents: str | bytes) -> CatalogSummary:
    return move(pipeline, {name: upload(pipeline, name, *contents)})[name]


def written(pipeline: Pipeline, name: str) -> list[dict[str, Any]]:
    content = pipeline.intermediate()[f"input/{name}/part-00000.parquet"]
    return read_parquet(content).to_pylist()


class TestWrite:
    def test_rows_of_all_files_are_written_in_the_order_of_file_and_row(self, pipeline: Pipeline) -> None:
        other_order = "region,user_country,user_name,user_id\nEU,Peru,Second,u1\nEU,Chile,Bob,u3\n"

        summary = write(pipeline, "users", USERS, other_order)

        assert [
            (row["row_id"], row["user_id"], row["user_country"]) for row in written(pipeline, "users")
        ] == [
            (0, "u1", "Norway"),
            (1, "u2", "Chile"),
            (2, "u1", "Peru"),
            (3, "u3", "Chile"),
        ]
        assert summary == {
            "objects": ["users/part-00000.parquet"],
            "rows": 4,
            "files": ["users/0.csv", "users/1.csv"],
            "notes": {},
        }

    def test_row_numbers_leave_room_for_what_was_passed_over(
        self, pipeline: Pipeline, monkeypatch: Any
    ) -> None:
        monkeypatch.setenv("MAX_REJECTED_FRACTION", "0.5")
        pipeline = Pipeline(pipeline.endpoint_url, PipelineConfig.from_env())

        summary = write(
            pipeline, "users", f"{USER_HEADER}\nu1,,\ntoo,few\n", f"{USER_HEADER}\n,No id,\nu2,,\nu3,,\n"
        )

        assert [(row["row_id"], row["user_id"]) for row in written(pipeline, "users")] == [
            (0, "u1"),
            (3, "u2"),
            (4, "u3"),
        ]
        assert summary["rows"] == 3
        assert summary["notes"] == {"wrong number of fields": 1, "empty user_id": 1}

    def test_unreadable_durations_are_reported_and_used_as_null(self, pipeline: Pipeline) -> None:
        summary = write(pipeline, "songs", f"{SONGS}t3,Three,C,pop,3:35,5\n")

        assert [row["duration_ms"] for row in written(pipeline, "songs")] == [60000, 90000, None]
        assert summary["notes"] == {"unreadable duration_ms": 1}

    def test_frozen_version_is_written_though_a_newer_one_has_come(self, pipeline: Pipeline) -> None:
        versions = upload(pipeline, "users", USERS)
        upload(pipeline, "users", f"{USER_HEADER}\nu9,New,Peru\n")

        move(pipeline, {"users": versions})

        assert [row["user_id"] for row in written(pipeline, "users")] == ["u1", "u2"]

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            pytest.param(
                "songs", SONGS.replace("duration_ms", "length"), "missing column duration_ms", id="column"
            ),
            pytest.param("users", "user_id,user_name\nu1,Ann\n", "missing column user_country", id="country"),
            pytest.param("users", USERS.replace(",", ";"), "looks semicolon-separated", id="semicolons"),
            pytest.param("users", b"", "the file is empty", id="zero bytes"),
            pytest.param("users", USERS.replace("Ann", "Zoë").encode("latin-1"), "not UTF-8", id="latin-1"),
            pytest.param("songs", SONGS.encode("utf-16"), "looks like UTF-16 text", id="UTF-16"),
            pytest.param(
                "songs",
                SONGS + "t3,Three,C,ALL_GENRES,1,1\n",
                "track_genre 'ALL_GENRES' is reserved",
                id="reserved genre",
            ),
        ],
    )
    def test_wrong_file_is_named_with_the_reason(
        self, pipeline: Pipeline, name: str, content: str | bytes, reason: str
    ) -> None:
        good = {"songs": SONGS, "users": USERS}[name]

        with pytest.raises(
            BadInputError, match=rf"^The {name} catalog s3://.*/{name}/1\.csv cannot .*{reason}"
        ):
            write(pipeline, name, good, content)

        assert f"input/{name}/part-00000.parquet" not in pipeline.intermediate()

    @pytest.mark.parametrize(
        ("name", "content", "counts"),
        [
            pytest.param("songs", SONG_HEADER, r"0 of 0 rows are usable", id="header alone"),
            pytest.param(
                "users",
                f"{USER_HEADER}\n,Ann,Norway\n",
                r"0 of 1 row are usable: empty user_id in 1 row\.",
                id="no id",
            ),
            pytest.param(
                "users",
                USER_HEADER + "\nu,n,c" * 18 + "\ntoo,few\n,n,c",
                r"18 of 20 rows are usable: empty user_id in 1 row; wrong number of fields in 1 row, such as "
                "'too,few' in line 20: give the row",
                id="too many bad rows",
            ),
        ],
    )
    def test_catalog_without_enough_usable_rows_is_named_with_counts(
        self, pipeline: Pipeline, name: str, content: str, counts: str
    ) -> None:
        with pytest.raises(
            BadInputError, match=rf"The {name} catalog .*{name}/0.csv cannot be used: {counts}"
        ):
            write(pipeline, name, content)

        assert f"input/{name}/part-00000.parquet" not in pipeline.intermediate()

    def test_bad_rows_up_to_the_fraction_are_passed_over(self, pipeline: Pipeline) -> None:
        summary = write(pipeline, "users", USER_HEADER + "\nu,n,c" * 19 + "\ntoo,few")

        assert summary["rows"] == 19
        assert summary["notes"] == {"wrong number of fields": 1}

    def test_catalog_that_changed_in_an_unversioned_bucket_is_an_error(self, make_pipeline: Any) -> None:
        pipeline = make_pipeline(versioned=False)
        versions = upload(pipeline, "users", USERS)
        upload(pipeline, "users", USERS + "u3,Cat,Peru\n")

        with pytest.raises(BadInputError, match=r"users/0.csv cannot be used: it changed after the run had"):
            move(pipeline, {"users": versions})


def test_everything_that_is_wrong_in_both_catalogs_is_named_at_once(pipeline: Pipeline) -> None:
    long_name = "x" * 32_769
    songs = upload(
        pipeline,
        "songs",
        SONGS.replace("track_id", "Track ID"),
        f'{SONG_HEADER}\nt1,"One,A,pop,1,1\nt2,{long_name},A,ALL_GENRES,1,1\n',
    )
    users = upload(pipeline, "users", USERS.replace(",", ";"))

    with pytest.raises(CatalogError) as raised:
        move(pipeline, {"songs": songs, "users": users})

    first, second, third = str(raised.value).splitlines()
    assert "/songs/0.csv cannot be used: missing column track_id; column 'Track ID' differs" in first
    assert "/songs/1.csv cannot be used: quote that is not closed in 1 row, such as" in second
    assert "line 3: track_genre 'ALL_GENRES' is reserved" in second
    assert "line 3: track_name has 32,769 bytes" in second
    assert "/users/0.csv cannot be used: missing column user_id, user_country; the file looks semi" in third
    assert third.endswith("Upload corrected files and trigger a new run. Nothing was moved.")


def test_columns_that_nothing_reads_may_be_absent(pipeline: Pipeline) -> None:
    songs = "duration_ms,track_genre,artists,track_name,track_id\n1,pop,A,One,t1\n"

    summaries = move(
        pipeline,
        {
            "songs": upload(pipeline, "songs", songs),
            "users": upload(pipeline, "users", "user_country,user_id\nPeru,u1\n"),
        },
    )

    assert {name: summary["rows"] for name, summary in summaries.items()} == {"songs": 1, "users": 1}


@pytest.mark.scenarios(46, 47, 48)
@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        pytest.param(
            ['t1,"One,A,pop,1,1', "t2,Two,B,pop,1,1"],
            "quote that is not closed .*'t1,\"One,A,pop,1,1' in line 2: close",
            id="open",
        ),
        pytest.param(
            ["t1,One,A,pop,1,1", 't2,"T"wo,B,pop,1,1'],
            "text after a closing quote .* in line 3: end",
            id="text",
        ),
        pytest.param(['t1,O"ne,A,pop,1,1'], "quote inside an unquoted field .* line 2: put", id="stray"),
        pytest.param(
            ['"t\n1",One,A,pop,1,1'], "line break in track_id .* line 2: write", id="line break in the id"
        ),
        pytest.param(['t1,"Say \\"One\\"",A,pop,1,1'], "quote escaped by .* line 2: write", id="backslash"),
        pytest.param(
            ['t1,"One,A,pop,1,1', "t2,Two,A,pop,1,1", 't3,Three",A,pop,1,1'],
            "line 2: the quote before .* is closed only 2 lines below",
            id="one name or three songs",
        ),
    ],
)
def test_catalog_whose_quoting_would_swallow_songs_is_unusable(
    pipeline: Pipeline, rows: list[str], reason: str
) -> None:
    with pytest.raises(BadInputError, match=rf"songs catalog s3://.*/songs/0\.csv cannot be used: {reason}"):
        write(pipeline, "songs", "\n".join([SONG_HEADER, *rows, ""]))
