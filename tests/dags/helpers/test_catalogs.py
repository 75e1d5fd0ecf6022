from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from pipeline_support import SONGS, USERS, Pipeline, read_parquet

from helpers.aws import s3_client
from helpers.catalogs import SONGS_SCHEMA, USERS_SCHEMA, songs_table, users_table, write_songs, write_users
from helpers.config import SONG_COLUMNS, USER_COLUMNS, PipelineConfig
from helpers.csv_reader import records_schema
from helpers.errors import BadInputError
from helpers.manifest import CatalogSummary
from helpers.s3_objects import ObjectVersion

SONG_HEADER = SONGS.splitlines()[0]
USER_HEADER = USERS.splitlines()[0]


def records(columns: tuple[str, ...], *rows: tuple[str, ...]) -> pa.RecordBatch:
    fields = [dict(zip(columns, row, strict=True)) for row in rows]
    return pa.RecordBatch.from_pylist(fields, schema=records_schema(columns))


def song(
    track_id: str = "t", genre: str = "pop", duration_ms: str = "1", popularity: str = "1"
) -> tuple[str, ...]:
    return (track_id, "name", "artist", genre, duration_ms, popularity)


class TestSongsTable:
    def test_rows_are_typed_trimmed_numbered_and_null_where_nothing_is(self) -> None:
        batch = records(
            SONG_COLUMNS,
            (" t1 ", 'Say "Hi", you', "A;B", "pop", "60000", "5"),
            ("t2", "", " ", "\t", "", ""),
            ("t1", "Again", "C", "pop", "1", "1"),
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
                    "popularity": [5, None, 1],
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

    def test_genre_with_the_name_of_the_totals_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'ALL_GENRES' is reserved for the totals of a day"):
            songs_table(records(SONG_COLUMNS, song(), song(genre=" ALL_GENRES ")), 0, Counter())

    def test_no_rows_are_an_empty_table(self) -> None:
        assert songs_table(records(SONG_COLUMNS), 0, Counter()).equals(SONGS_SCHEMA.empty_table())


def test_users_are_trimmed_numbered_and_null_where_nothing_is() -> None:
    notes: Counter[str] = Counter()
    batch = records(USER_COLUMNS, ("u1", "Ann", " Norway "), ("", "Nobody", "Chile"), ("NA", "", ""))

    assert users_table(batch, 5, notes).equals(
        pa.table(
            {
                "row_id": [5, 7],
                "user_id": ["u1", "NA"],
                "user_name": ["Ann", None],
                "user_country": ["Norway", None],
            },
            schema=USERS_SCHEMA,
        )
    )
    assert notes == {"empty user_id": 1}


def upload(pipeline: Pipeline, name: str, *contents: str | bytes) -> list[ObjectVersion]:
    return [pipeline.upload(f"{name}/{index}.csv", content) for index, content in enumerate(contents)]


def write(pipeline: Pipeline, name: str, *contents: str | bytes) -> CatalogSummary:
    writer = {"songs": write_songs, "users": write_users}[name]
    return writer(s3_client(), pipeline.config, upload(pipeline, name, *contents), "in/")


def written(pipeline: Pipeline, name: str) -> list[dict[str, Any]]:
    content = pipeline.objects(pipeline.config.intermediate_bucket)[f"in/{name}/part-00000.parquet"]
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

        write_users(s3_client(), pipeline.config, versions, "in/")

        assert [row["user_id"] for row in written(pipeline, "users")] == ["u1", "u2"]

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            pytest.param(
                "songs", SONGS.replace("duration_ms", "length"), "missing column duration_ms", id="column"
            ),
            pytest.param("users", "user_id,user_name\nu1,Ann\n", "missing column user_country", id="country"),
            pytest.param("users", USERS.replace(",", ";"), "is the delimiter a comma", id="semicolons"),
            pytest.param("users", b"", "the file is empty", id="zero bytes"),
            pytest.param("users", USERS.replace("Ann", "Zoë").encode("latin-1"), "not UTF-8", id="latin-1"),
            pytest.param("songs", SONGS.encode("utf-16"), "not UTF-8: byte 0xff", id="UTF-16"),
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

        assert pipeline.objects(pipeline.config.intermediate_bucket) == {}

    @pytest.mark.parametrize(
        ("name", "content", "counts"),
        [
            pytest.param("songs", SONG_HEADER, r"0 of 0 rows are usable", id="header alone"),
            pytest.param(
                "users", f"{USER_HEADER}\n,Ann,Norway\n", r"0 of 1 rows .*'empty user_id': 1", id="no id"
            ),
            pytest.param(
                "users",
                USER_HEADER + "\nu,n,c" * 18 + "\ntoo,few\n,n,c",
                r"18 of 20 rows .*'empty user_id': 1, 'wrong number of fields': 1",
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

        assert pipeline.objects(pipeline.config.intermediate_bucket) == {}

    def test_bad_rows_up_to_the_fraction_are_passed_over(self, pipeline: Pipeline) -> None:
        summary = write(pipeline, "users", USER_HEADER + "\nu,n,c" * 19 + "\ntoo,few")

        assert summary["rows"] == 19
        assert summary["notes"] == {"wrong number of fields": 1}

    def test_catalog_that_changed_in_an_unversioned_bucket_is_an_error(self, make_pipeline: Any) -> None:
        pipeline = make_pipeline(versioned=False)
        versions = upload(pipeline, "users", USERS)
        upload(pipeline, "users", USERS + "u3,Cat,Peru\n")

        with pytest.raises(BadInputError, match=r"users/0.csv cannot be used: it changed after the run had"):
            write_users(s3_client(), pipeline.config, versions, "in/")
