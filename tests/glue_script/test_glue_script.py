"""The job's transformations, on frames of a few rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from glue_job_support import assert_same_frame, at
from pyspark.sql import DataFrame, SparkSession
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
GENRES = (
    "listen_date date, track_genre string, listen_count long, unique_listeners long, genre_rank int, "
    "listening_ms decimal(38,0), first_listening_ms decimal(38,0), unmatched_listens long"
)

Frame = Callable[..., DataFrame]


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> Frame:
    def make(schema: str, *rows: tuple[Any, ...]) -> DataFrame:
        return spark.createDataFrame(list(rows), schema)

    return make


def listens_of(frame: Frame, *pairs: tuple[str | None, str | None]) -> DataFrame:
    """Return listens of one day by (user, track)."""
    return frame(DISTINCT, *[(DAY, user, track, NOON, IN_INPUT) for user, track in pairs])


def test_listen_date_is_the_utc_day(frame: Frame) -> None:
    times = [
        at("2024-06-25 23:59:59.999999"),
        at("2024-06-26 00:00:00"),
        at("2024-06-26T01:30:00+02:00"),
        at("2024-06-25T20:00:00-05:00"),
        None,
    ]
    dated = frame("listen_time timestamp", *[(time,) for time in times]).transform(job.with_listen_date)
    days = [DAY, NEXT_DAY, DAY, NEXT_DAY, None]
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
    assert_same_frame(listens.transform(job.distinct_listens), expected)


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
    assert_same_frame(songs.transform(job.unique_songs), expected)


def test_first_catalog_row_of_a_user_wins(frame: Frame) -> None:
    users = frame(
        job.USERS_SCHEMA,
        (9, "u1", "Spain"),
        (1, "u1", None),
        (2, "u2", "Ireland"),
        (3, "u2", "Spain"),
        (4, None, None),
    )
    expected = frame(
        "user_id string, user_country string", ("u1", "Unknown"), ("u2", "Ireland"), (None, "Unknown")
    )
    assert_same_frame(users.transform(job.unique_users), expected)


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
        pytest.param(None, 1, None, id="null"),
    ],
)
def test_minutes_are_rounded_half_up_once(
    frame: Frame, total_ms: int | None, shared_by: int, expected: str | None
) -> None:
    row = (None if total_ms is None else Decimal(total_ms), shared_by)
    times = frame("total_ms decimal(38,0), shared_by long", row)
    minutes = times.select(job.minutes(F.col("total_ms"), F.col("shared_by")).alias("minutes"))
    assert_same_frame(
        minutes, frame("minutes decimal(38,2)", (None if expected is None else Decimal(expected),))
    )


def test_track_counts_in_each_of_its_genres_and_as_unknown_without_catalog_row(frame: Frame) -> None:
    counts = "track_id string, listen_date date, listen_count long"
    track_listens = frame(counts, ("t1", DAY, 2), ("t2", DAY, 3), ("t3", DAY, 5), (None, DAY, 7))
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
    assert_same_frame(job.unique_listeners_per_genre(listens, songs), expected)


def test_unknown_is_left_out_of_the_ranks_which_have_no_gaps(frame: Frame) -> None:
    columns = "listen_date date, track_genre string, listen_count long"
    rows = [
        (DAY, "Unknown", 100),
        (DAY, "rock", 5),
        (DAY, "jazz", 5),
        (DAY, "pop", 7),
        (NEXT_DAY, "Unknown", 1),
    ]
    ranked = frame(columns, *rows).transform(job.with_rank_in_day, "genre_rank", "track_genre")
    ranks = [None, 3, 2, 1, None]
    expected = frame(
        f"{columns}, genre_rank int", *[(*row, rank) for row, rank in zip(rows, ranks, strict=True)]
    )
    assert_same_frame(ranked, expected)


def test_country_counts_listens_and_distinct_users(frame: Frame) -> None:
    listens = listens_of(
        frame, ("u1", "t1"), ("u1", "t2"), ("u2", "t1"), ("u3", "t1"), ("u4", "t1"), (None, None)
    )
    users = frame(
        "user_id string, user_country string",
        ("u1", "Spain"),
        ("u2", "Spain"),
        ("u3", "Unknown"),
        ("u9", "Malta"),
    )
    expected = frame(
        "listen_date date, user_country string, listen_count long, unique_listeners long, "
        "unmatched_listens long, country_rank int",
        (DAY, "Spain", 3, 2, 0, 1),
        (DAY, "Unknown", 3, 3, 2, None),
    )
    assert_same_frame(job.country_totals(listens, users), expected)


def test_top_countries_end_at_five_and_the_rest_still_counts(frame: Frame) -> None:
    countries = frame(
        "listen_date date, user_country string, listen_count long, unique_listeners long, "
        "unmatched_listens long, country_rank int",
        *[(DAY, country, 10 - rank, rank, 0, rank) for rank, country in enumerate("abcdef", start=1)],
        (DAY, "Unknown", 50, 3, 20, None),
        (NEXT_DAY, "Unknown", 1, 1, 1, None),
    )
    country = "struct<rank:int,user_country:string,listen_count:long,unique_listeners:long>"
    expected = frame(
        "listen_date date, listen_count long, unique_listeners long, unmatched_user_listens long, "
        f"top_5_countries_per_day array<{country}>",
        (DAY, 89, 24, 20, [(1, "a", 9, 1), (2, "b", 8, 2), (3, "c", 7, 3), (4, "d", 6, 4), (5, "e", 5, 5)]),
        (NEXT_DAY, 1, 1, 1, []),
    )
    assert_same_frame(countries.transform(job.top_countries_per_day), expected)


def test_top_genres_end_at_five_and_a_track_of_two_genres_has_its_time_once(frame: Frame) -> None:
    genres = frame(
        GENRES,
        *[
            (DAY, genre, 10 - rank, 1, rank, Decimal(100), Decimal(rank), 0)
            for rank, genre in enumerate("abcdef", start=1)
        ],
        (DAY, "Unknown", 50, 1, None, Decimal(0), Decimal(0), 30),
        (NEXT_DAY, "Unknown", 1, 1, None, Decimal(0), Decimal(0), 1),
    )
    expected = frame(
        "listen_date date, listening_ms decimal(38,0), unmatched_track_listens long, "
        "top_5_genres_per_day array<struct<rank:int,track_genre:string,listen_count:long>>",
        (DAY, Decimal(21), 30, [(1, "a", 9), (2, "b", 8), (3, "c", 7), (4, "d", 6), (5, "e", 5)]),
        (NEXT_DAY, Decimal(0), 1, []),
    )
    assert_same_frame(genres.transform(job.top_genres_per_day), expected)


def test_genre_item_has_the_columns_of_the_table(frame: Frame) -> None:
    genres = frame(
        GENRES,
        (DAY, "pop", 3, 2, 1, Decimal(60_300), Decimal(0), 0),
        (DAY, "Unknown", 1, 1, None, Decimal(0), Decimal(0), 1),
    ).withColumn("top_3_songs_per_genre", F.array(F.lit("t1")))
    expected = frame(
        "date string, track_genre string, listen_count long, unique_listeners long, "
        "total_listening_time decimal(38,2), avg_listening_time_per_user decimal(38,2), genre_rank int, "
        "top_3_songs_per_genre array<string>",
        ("2024-06-25", "pop", 3, 2, Decimal("1.01"), Decimal("0.50"), 1, ["t1"]),
        ("2024-06-25", "Unknown", 1, 1, Decimal("0.00"), Decimal("0.00"), None, ["t1"]),
    )
    assert_same_frame(genres.transform(job.genre_kpis), expected)
