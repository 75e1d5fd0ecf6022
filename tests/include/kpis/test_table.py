from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from helpers.contract.names import ALL_GENRES
from include.kpis.model import (
    DayKpis,
    DayStatus,
    GenreKpis,
    TopCountry,
    TopGenre,
    TopSong,
)
from include.kpis.table import (
    KpiTable,
    open_table,
    read_bounds,
    read_day,
    read_days,
    read_genre,
    read_overview,
    read_totals,
    read_trend,
)
from kpi_table_support import FIRST, SECOND, STAMP, THIRD, counted_calls, day_items, put_items

COMPUTED_AT = datetime(2024, 6, 26, 1, 2, 3, 4, tzinfo=UTC)


def test_genre_of_a_day_equals_its_item(table: KpiTable) -> None:
    assert read_genre(table, FIRST, "pop") == GenreKpis(
        date=FIRST,
        track_genre="pop",
        listen_count=40,
        unique_listeners=36,
        total_listening_time=Decimal("138.80"),
        avg_listening_time_per_user=Decimal("3.86"),
        genre_rank=2,
        status="complete",
        version=2,
        computed_at=COMPUTED_AT,
        run_key=STAMP["run_key"],
        top_3_songs_per_genre=(
            TopSong(1, "pop-1", "Song 1 of pop", "Artist 1; Other", 20),
            TopSong(2, "pop-2", "Song 2 of pop", "Artist 2; Other", 13),
            TopSong(3, "pop-3", "Song 3 of pop", "Unknown", 10),
        ),
    )


def test_totals_of_a_day_equal_their_item(table: KpiTable) -> None:
    totals = read_totals(table, FIRST)

    assert isinstance(totals, DayKpis)
    assert (totals.listen_count, totals.genre_rank, totals.unmatched_track_listens) == (150, None, 60)
    assert totals.unmatched_user_listens == 3
    assert totals.top_5_genres_per_day == (TopGenre(1, "rock", 50), TopGenre(2, "pop", 40))
    assert totals.top_5_countries_per_day[:2] == (
        TopCountry(1, "Brazil", 150, 149),
        TopCountry(2, "Japan", 75, 74),
    )


def test_genres_of_a_day_come_by_rank_with_unknown_last(table: KpiTable) -> None:
    day = read_day(table, FIRST)

    assert day is not None
    assert [(genre.genre_rank, genre.track_genre) for genre in day.genres] == [
        (1, "rock"),
        (2, "pop"),
        (None, "Unknown"),
    ]
    assert day.totals == read_totals(table, FIRST)
    assert day.genres[1] == read_genre(table, FIRST, "pop")


def test_trend_has_the_days_of_the_range_and_no_other(table: KpiTable) -> None:
    trend = read_trend(table, ["pop", "rock"], FIRST, SECOND)

    assert [(point.date, point.track_genre, point.listen_count) for point in trend.points] == [
        (FIRST, "pop", 40),
        (FIRST, "rock", 50),
        (SECOND, "pop", 300),
        (SECOND, "rock", 5),
    ]
    whole = read_trend(table, ["pop"], date.min, date.max)
    assert {point.date: point.listen_count for point in whole.points} == {FIRST: 40, SECOND: 300, THIRD: 120}


def test_trend_takes_the_totals_for_a_genre(table: KpiTable) -> None:
    trend = read_trend(table, [ALL_GENRES], FIRST, THIRD)

    assert [point.listen_count for point in trend.points] == [150, 310, 120]


def test_day_that_is_being_written_shows_wherever_it_is_read(table: KpiTable) -> None:
    day, genre, totals = (
        read_day(table, SECOND),
        read_genre(table, SECOND, "pop"),
        read_totals(table, SECOND),
    )
    trend = read_trend(table, ["pop"], FIRST, THIRD)

    assert day is not None
    assert genre is not None
    assert totals is not None
    assert {day.status, genre.status, totals.status} == {"updating"}
    assert {kpis.status for kpis in day.genres} == {"updating"}
    assert [point.status for point in trend.points] == ["complete", "updating", "complete"]
    assert list(trend.days) == read_days(table)
    assert read_days(table)[1] == DayStatus(SECOND, "updating")


def test_day_that_is_written_for_the_first_time_is_listed_without_numbers(
    table: KpiTable, dynamodb: Any
) -> None:
    """The writer marks the day before it writes any number."""
    day = THIRD + timedelta(days=1)
    mark = {"date": day.isoformat(), "track_genre": ALL_GENRES, "status": "updating", "version": 1}
    put_items(dynamodb, table.name, [mark])

    found = read_day(table, day)

    assert found is not None
    assert (found.status, found.genres, found.totals) == ("updating", (), None)
    assert read_totals(table, day) is None
    assert read_trend(table, [ALL_GENRES], day, day).points == ()
    assert read_trend(table, [ALL_GENRES], day, day).days == (DayStatus(day, "updating"),)


def test_days_are_those_of_the_range(table: KpiTable) -> None:
    assert [day.date for day in read_days(table)] == [FIRST, SECOND, THIRD]
    assert [day.date for day in read_days(table, SECOND)] == [SECOND, THIRD]
    assert [day.date for day in read_days(table, FIRST, FIRST)] == [FIRST]
    assert read_bounds(table) == (FIRST, THIRD)


def test_what_is_not_there_is_none(table: KpiTable) -> None:
    missing = SECOND + timedelta(days=1)

    assert read_day(table, missing) is None
    assert read_totals(table, missing) is None
    assert read_genre(table, THIRD, "rock") is None
    assert read_trend(table, ["no such genre"], FIRST, THIRD).points == ()


def test_empty_table_has_no_days(empty_table: KpiTable) -> None:
    assert read_days(empty_table) == []
    assert read_bounds(empty_table) is None


def test_answer_of_several_pages_is_whole(empty_table: KpiTable, dynamodb: Any) -> None:
    genres = {f"{'a long name ' * 20}{number:04d}": 2_000 - number for number in range(800)}
    put_items(dynamodb, empty_table.name, day_items(FIRST, genres))

    with counted_calls(empty_table.dynamodb) as calls:
        day = read_day(empty_table, FIRST)

    assert day is not None
    assert {genre.track_genre: genre.listen_count for genre in day.genres} == genres
    assert len(calls) > 1


@pytest.mark.parametrize("days", [3, 60], ids=["few days", "many days"])
def test_number_of_reads_does_not_grow_with_the_table(
    days: int, empty_table: KpiTable, dynamodb: Any
) -> None:
    all_days = [FIRST + timedelta(days=number) for number in range(days)]
    for day in all_days:
        put_items(dynamodb, empty_table.name, day_items(day, {"pop": 40, "rock": 50}))
    last = FIRST + timedelta(days=2)

    with counted_calls(empty_table.dynamodb) as calls:
        read_bounds(empty_table)
        read_day(empty_table, last)
        read_totals(empty_table, last)
        read_genre(empty_table, last, "pop")
        trend = read_trend(empty_table, ["pop", "rock"], FIRST, last)

    assert len(trend.points) == 6
    assert sorted(calls) == ["GetItem"] * 3 + ["Query"] * 6


def test_table_is_named_by_argument_variable_or_default(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_table().name == "music_kpis_table"
    monkeypatch.setenv("KPI_TABLE_NAME", "of_the_variable")
    assert open_table().name == "of_the_variable"
    assert open_table("of_the_argument").name == "of_the_argument"


def test_overview_has_the_totals_of_each_day_in_order(table: KpiTable) -> None:
    assert read_overview(table, FIRST, THIRD) == [
        totals for day in (FIRST, SECOND, THIRD) if (totals := read_totals(table, day))
    ]
