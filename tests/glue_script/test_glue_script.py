"""The job's transformations, on frames of a few rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from glue_job_support import assert_same_frame, at
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from glue_script import glue_script as job

DAY, NEXT_DAY = date(2024, 6, 25), date(2024, 6, 26)
NOON = at("2024-06-25 12:00:00")
IN_INPUT, IN_OWN_HISTORY, IN_OTHER_HISTORY = job.IN_INPUT, job.IN_OWN_HISTORY, job.IN_OTHER_HISTORY

DISTINCT = "listen_date date, user_id string, track_id string, listen_time timestamp, sources int"
UNIQUE_SONGS = (
    "track_id string, track_genre string, track_name string, artists string, "
    "duration_ms long, is_first boolean"
)
USERS = "user_id string, user_country string"

Frame = Callable[..., DataFrame]


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> Frame:
    def make(schema: str, *rows: tuple[Any, ...]) -> DataFrame:
        return spark.createDataFrame(list(rows), schema)

    return make


def listens_of(frame: Frame, *pairs: tuple[str | None, str | None]) -> DataFrame:
    """Return listens of one day, all in one part, by (user, track)."""
    listens = frame(DISTINCT, *[(DAY, user, track, NOON, IN_INPUT) for user, track in pairs])
    return listens.withColumn("part", F.lit(0))


def test_listen_date_is_the_utc_day(frame: Frame) -> None:
    times = [
        at("2024-06-25 23:59:59.999999"),
        at("2024-06-26 00:00:00"),
        at("2024-06-26T01:30:00+02:00"),
        at("2024-06-25T20:00:00-05:00"),
        at("1969-12-31 23:59:59.999999"),
        at("1970-01-01 00:00:00"),
        at("2199-12-31 23:59:59.999999"),
        None,
    ]
    dated = frame("listen_time timestamp", *[(time,) for time in times]).transform(job.with_listen_date)
    days = [DAY, NEXT_DAY, DAY, NEXT_DAY, date(1969, 12, 31), date(1970, 1, 1), date(2199, 12, 31), None]
    assert_same_frame(dated, frame("listen_time timestamp, listen_date date", *zip(times, days, strict=True)))


def test_repeated_listens_become_one_that_knows_all_its_sources(frame: Frame) -> None:
    second_later = at("2024-06-25 12:00:01")
    listens = frame(
        DISTINCT,
        (DAY, "u1", "t1", NOON, IN_INPUT),
        (DAY, "u1", "t1", NOON, IN_INPUT),
        (DAY, "u1", "t1", NOON, IN_OTHER_HISTORY),
        (DAY, "u1", "t1", second_later, IN_INPUT),
        (DAY, "u1", "t2", NOON, IN_OWN_HISTORY),
        (DAY, "u2", "t1", NOON, IN_OWN_HISTORY),
        (DAY, None, None, NOON, IN_INPUT),
        (DAY, None, None, NOON, IN_INPUT),
    )
    expected = frame(
        DISTINCT,
        (DAY, "u1", "t1", NOON, IN_INPUT | IN_OTHER_HISTORY),
        (DAY, "u1", "t1", second_later, IN_INPUT),
        (DAY, "u1", "t2", NOON, IN_OWN_HISTORY),
        (DAY, "u2", "t1", NOON, IN_OWN_HISTORY),
        (DAY, None, None, NOON, IN_INPUT),
    )
    assert_same_frame(listens.transform(job.distinct_listens).select(expected.columns), expected)


def test_own_history_keeps_a_listen_new_but_not_added(frame: Frame) -> None:
    sources = [
        IN_INPUT,
        IN_INPUT | IN_OWN_HISTORY,
        IN_INPUT | IN_OTHER_HISTORY,
        IN_INPUT | IN_OWN_HISTORY | IN_OTHER_HISTORY,
        IN_OWN_HISTORY,
        IN_OTHER_HISTORY,
    ]
    rows = [(DAY, f"u{number}", None, NOON, source) for number, source in enumerate(sources)]
    listens = frame(DISTINCT, *rows, (NEXT_DAY, "u1", "t1", NOON, IN_OTHER_HISTORY))
    assert_same_frame(
        listens.transform(job.daily_listen_counts),
        frame("listen_date date, total long, new long, added long", (DAY, 6, 2, 1), (NEXT_DAY, 1, 0, 0)),
    )
    assert_same_frame(
        listens.transform(job.filter_added_listens),
        frame(
            "user_id string, track_id string, listen_time timestamp, listen_date date",
            ("u0", None, NOON, DAY),
        ),
    )


def test_first_catalog_row_of_a_track_and_genre_wins(frame: Frame) -> None:
    songs = frame(
        job.SONGS_SCHEMA,
        (7, "t1", "late name", "late artists", "pop", 7),
        (2, "t1", "name", None, "pop", None),
        (1, "t1", None, "artists", "rock", 1),
        (3, "t2", "no genre", "a", None, 3),
        (4, "t2", "called Unknown", "a", "Unknown", 4),
        (5, None, None, None, None, None),
    )
    expected = frame(
        UNIQUE_SONGS,
        ("t1", "pop", "name", "Unknown", None, False),
        ("t1", "rock", "Unknown", "artists", 1, True),
        ("t2", "Unknown", "no genre", "a", 3, True),
        (None, "Unknown", "Unknown", "Unknown", None, True),
    )
    assert_same_frame(songs.transform(job.unique_songs, 2), expected)


def test_first_catalog_row_of_a_user_wins(frame: Frame) -> None:
    users = frame(
        job.USERS_SCHEMA,
        (9, "u1", "Spain"),
        (1, "u1", None),
        (2, "u2", "Ireland"),
        (3, "u2", "Spain"),
        (4, None, None),
    )
    expected = frame(USERS, ("u1", "Unknown"), ("u2", "Ireland"), (None, "Unknown"))
    assert_same_frame(users.transform(job.unique_users), expected)


def test_track_counts_in_each_of_its_genres_and_as_unknown_without_catalog_row(frame: Frame) -> None:
    track_listens = frame(
        "track_id string, listen_date date, listen_count long",
        ("t1", DAY, 2),
        ("t2", DAY, 3),
        ("t3", DAY, 5),
        (None, DAY, 7),
    )
    songs = frame(
        UNIQUE_SONGS,
        ("t1", "pop", "Song 1", "Artist 1", 100, True),
        ("t1", "rock", "Song 1b", "Artist 1", 1000, False),
        ("t2", "Unknown", "Song 2", "Unknown", None, True),
        (None, "pop", "never heard", "nobody", 1, True),
    )
    columns = "track_id", "track_genre", "track_name", "listening_ms", "unmatched_listens", "is_first"
    expected = frame(
        "track_id string, track_genre string, track_name string, listening_ms decimal(38,0), "
        "unmatched_listens long, is_first boolean",
        ("t1", "pop", "Song 1", Decimal(200), 0, True),
        ("t1", "rock", "Song 1b", Decimal(2000), 0, False),
        ("t2", "Unknown", "Song 2", Decimal(0), 0, True),
        ("t3", "Unknown", "Unknown", Decimal(0), 5, None),
        (None, "Unknown", "Unknown", Decimal(0), 7, None),
    )
    assert_same_frame(track_listens.transform(job.with_song, songs).select(*columns), expected)


def test_top_songs_tie_by_name_then_id_and_end_at_three(frame: Frame) -> None:
    song_listens = frame(
        "listen_date date, track_id string, track_genre string, track_name string, artists string, "
        "listen_count long, listening_ms decimal(38,0), unmatched_listens long, is_first boolean",
        (DAY, "t4", "pop", "B", "x", 5, Decimal(50), 0, True),
        (DAY, "t9", "pop", "A", "x", 5, Decimal(50), 0, False),
        (DAY, "t2", "pop", "B", "x", 5, Decimal(50), 0, True),
        (DAY, "t1", "pop", "Z", "x", 9, Decimal(90), 0, True),
        (DAY, "t8", "rock", "C", "x", 1, Decimal(10), 0, True),
        (NEXT_DAY, "t7", "Unknown", "Unknown", "Unknown", 2, Decimal(0), 2, None),
    )
    song = "struct<rank:int,track_id:string,track_name:string,artists:string,listen_count:long>"
    expected = frame(
        "listen_date date, track_genre string, listen_count long, listening_ms decimal(38,0), "
        "first_listening_ms decimal(38,0), unmatched_listens long, "
        f"top_3_songs_per_genre array<{song}>",
        (
            *(DAY, "pop", 24, Decimal(240), Decimal(190), 0),
            [(1, "t1", "Z", "x", 9), (2, "t9", "A", "x", 5), (3, "t2", "B", "x", 5)],
        ),
        (DAY, "rock", 1, Decimal(10), Decimal(10), 0, [(1, "t8", "C", "x", 1)]),
        (NEXT_DAY, "Unknown", 2, Decimal(0), Decimal(0), 2, [(1, "t7", "Unknown", "Unknown", 2)]),
    )
    assert_same_frame(song_listens.transform(job.top_songs_per_genre), expected)


def test_listener_of_several_tracks_of_a_genre_is_one_listener(frame: Frame) -> None:
    listens = listens_of(frame, ("u1", "t1"), ("u1", "t2"), ("u2", "t2"), ("u2", "t9"), (None, None))
    songs = frame(
        UNIQUE_SONGS,
        ("t1", "pop", "n", "a", 1, True),
        ("t2", "pop", "n", "a", 1, True),
        ("t2", "rock", "n", "a", 1, False),
    )
    expected = frame(
        "listen_date date, track_genre string, unique_listeners long",
        (DAY, "pop", 2),
        (DAY, "rock", 2),
        (DAY, "Unknown", 2),
    )
    assert_same_frame(listens.transform(job.genre_listeners, songs), expected)


def test_country_counts_listens_and_distinct_users(frame: Frame) -> None:
    listens = listens_of(
        frame, ("u1", "t1"), ("u1", "t2"), ("u2", "t1"), ("u3", "t1"), ("u4", "t1"), (None, None)
    )
    users = frame(USERS, ("u1", "Spain"), ("u2", "Spain"), ("u3", "Unknown"), ("u9", "Malta"))
    expected = frame(
        "listen_date date, user_country string, unique_listeners long, listen_count long, "
        "unmatched_listens long",
        (DAY, "Spain", 2, 3, 0),
        (DAY, "Unknown", 3, 3, 2),
    )
    user_listens = listens.transform(job.user_listen_counts)
    assert_same_frame(user_listens.transform(job.country_totals, users), expected)


def test_large_days_have_parts_of_their_own_and_small_ones_share() -> None:
    size = job.PARTITION_BYTES
    sizes = {"a": 0.4 * size, "b": 0.6 * size, "c": 0.1 * size, "d": 2.5 * size, "e": 0.0, "f": size}
    assert job.plan_parts(sizes) == {
        "a": range(0, 1),
        "b": range(0, 1),
        "c": range(1, 2),
        "d": range(2, 5),
        "e": range(5, 6),
        "f": range(5, 6),
    }


def test_users_of_a_day_are_spread_evenly_over_its_parts_alone(spark: SparkSession) -> None:
    planned = {"2024-06-25": range(0, 6), "2024-06-26": range(6, 7)}
    users = spark.range(7_000).select(
        F.col("id").cast("string").alias("user_id"),
        F.expr("date'2024-06-25' + int(id % 7 = 0)").alias("listen_date"),
    )
    placed = users.transform(job.with_part, job.part_numbers(spark, planned)).repartition(7, "part")
    counts = placed.groupBy("listen_date", F.spark_partition_id().alias("partition")).count().collect()
    assert {row["partition"]: row["listen_date"] for row in counts} == {
        **dict.fromkeys(range(6), DAY),
        6: NEXT_DAY,
    }
    assert all(900 < row["count"] < 1_100 for row in counts)


@pytest.mark.parametrize(
    ("total_ms", "shared_by", "expected"),
    [
        pytest.param(299, 1, "0.00", id="just-below-half"),
        pytest.param(300, 1, "0.01", id="half-goes-up"),
        pytest.param(60_300, 1, "1.01", id="1.005-is-no-binary-fraction"),
        pytest.param(90_300, 1, "1.51", id="even-digit-goes-up-too"),
        pytest.param(90_900, 1, "1.52", id="odd-digit-goes-up"),
        pytest.param(900, 3, "0.01", id="half-of-an-average"),
        pytest.param(899, 3, "0.00", id="average-just-below-half"),
        pytest.param(299_999_999, 1_000_000, "0.00", id="not-rounded-to-six-digits-first"),
        pytest.param(10**31 + 300, 1, "166666666666666666666666666.67", id="far-beyond-64-bits"),
        pytest.param(0, 4, "0.00", id="no-time"),
        pytest.param(-90_000, 1, "-1.50", id="below-zero"),
    ],
)
def test_minutes_are_rounded_half_up_once(total_ms: int, shared_by: int, expected: str) -> None:
    assert str(job.minutes(total_ms, shared_by)) == expected


def genre_row(name: str, listen_count: int, listening_ms: int = 0, first_ms: int = 0, **more: Any) -> Row:
    """Return a row of `top_songs_per_genre`."""
    values: dict[str, Any] = {"unmatched_listens": 0, "top_3_songs_per_genre": [], "listen_date": DAY} | more
    return Row(
        track_genre=name,
        listen_count=listen_count,
        listening_ms=Decimal(listening_ms),
        first_listening_ms=Decimal(first_ms),
        **values,
    )


def listeners_row(genre: str, listeners: int) -> Row:
    """Return a row of `genre_listeners`."""
    return Row(listen_date=DAY, track_genre=genre, unique_listeners=listeners)


def country_row(country: str, listeners: int, listens: int, unmatched: int = 0) -> Row:
    """Return a row of `country_totals`."""
    return Row(
        listen_date=DAY,
        user_country=country,
        unique_listeners=listeners,
        listen_count=listens,
        unmatched_listens=unmatched,
    )


def test_genre_and_its_day_have_the_attributes_of_the_table() -> None:
    song = Row(rank=1, track_id="t1", track_name="Song 1", artists="Artist 1", listen_count=3)
    genres = [
        genre_row("Unknown", 4, unmatched_listens=3),
        genre_row("pop", 3, 60_300, 30_000, top_3_songs_per_genre=[song]),
    ]
    listeners = [listeners_row("pop", 2), listeners_row("Unknown", 1)]
    countries = [country_row("Malta", 2, 4), country_row("Unknown", 1, 3, unmatched=2)]
    assert list(job.kpi_items(genres, listeners, countries)) == [
        {
            "date": "2024-06-25",
            "track_genre": "Unknown",
            "listen_count": 4,
            "unique_listeners": 1,
            "total_listening_time": Decimal("0.00"),
            "avg_listening_time_per_user": Decimal("0.00"),
            "top_3_songs_per_genre": [],
        },
        {
            "date": "2024-06-25",
            "track_genre": "pop",
            "listen_count": 3,
            "unique_listeners": 2,
            "total_listening_time": Decimal("1.01"),
            "avg_listening_time_per_user": Decimal("0.50"),
            "top_3_songs_per_genre": [song.asDict()],
            "genre_rank": 1,
        },
        {
            "date": "2024-06-25",
            "track_genre": "ALL_GENRES",
            "listen_count": 7,
            "unique_listeners": 3,
            "total_listening_time": Decimal("0.50"),
            "avg_listening_time_per_user": Decimal("0.17"),
            "top_5_genres_per_day": [{"rank": 1, "track_genre": "pop", "listen_count": 3}],
            "top_5_countries_per_day": [
                {"rank": 1, "user_country": "Malta", "listen_count": 4, "unique_listeners": 2}
            ],
            "unmatched_track_listens": 3,
            "unmatched_user_listens": 2,
        },
    ]


def test_ranks_tie_by_name_have_no_gaps_and_leave_out_unknown() -> None:
    counts = {"Unknown": 100, "rock": 5, "jazz": 5, "pop": 7, "a": 1, "b": 1, "c": 1}
    genres = [genre_row(name, count) for name, count in counts.items()]
    listeners = [listeners_row(name, 1) for name in counts]
    countries = [country_row(name, 1, count) for name, count in counts.items()]
    *items, totals = job.day_items("2024-06-25", genres, listeners, countries)
    ranks = {item["track_genre"]: item.get("genre_rank") for item in items}
    assert ranks == {"Unknown": None, "pop": 1, "jazz": 2, "rock": 3, "a": 4, "b": 5, "c": 6}
    for top, name in (("top_5_genres_per_day", "track_genre"), ("top_5_countries_per_day", "user_country")):
        assert [(row["rank"], row[name]) for row in totals[top]] == [
            (1, "pop"),
            (2, "jazz"),
            (3, "rock"),
            (4, "a"),
            (5, "b"),
        ]
    assert totals["listen_count"] == totals["unique_listeners"] + 113 == sum(counts.values())


def test_items_of_several_days_do_not_mix() -> None:
    genres = [genre_row("pop", 1, listen_date=NEXT_DAY), genre_row("pop", 2)]
    listeners = [listeners_row("pop", 1)]
    listeners += [Row(**row.asDict() | {"listen_date": NEXT_DAY}) for row in listeners]
    countries = [country_row("Malta", 1, 2)]
    countries += [Row(**row.asDict() | {"listen_date": NEXT_DAY, "listen_count": 1}) for row in countries]
    items = job.kpi_items(genres, listeners, countries)
    assert [(item["date"], item["track_genre"], item["listen_count"]) for item in items] == [
        ("2024-06-25", "pop", 2),
        ("2024-06-25", "ALL_GENRES", 2),
        ("2024-06-26", "pop", 1),
        ("2024-06-26", "ALL_GENRES", 1),
    ]


def test_item_is_a_line_of_json_with_exact_decimals() -> None:
    item = {
        "track_genre": 'R&B "é"\n',
        "total_listening_time": job.minutes(10**31 + 300),
        "top": [{"rank": 1}],
    }
    (line,) = job.to_json(item).splitlines(keepends=True)
    assert line.endswith("}\n")
    assert json.loads(line, parse_float=Decimal) == item
