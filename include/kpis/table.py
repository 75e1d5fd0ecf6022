"""Access patterns of the KPI table. Each uses its keys or index, so a query reads only the items it returns.

    table = open_table()
    read_day(table, date(2024, 6, 25))                          # all genres of a day, ranked, and its totals
    read_genre(table, date(2024, 6, 25), "pop")                 # one genre and day, with its top songs
    read_trend(table, ["pop", ALL_GENRES], date(2024, 6, 1), date(2024, 6, 30))
    read_totals(table, date(2024, 6, 25))                       # totals, top genres and countries of a day
    read_overview(table, date(2024, 6, 1), date(2024, 6, 30))   # the same of each day of a range
    read_days(table)                                            # all days that have KPIs

Every function raises `problems.ReadError` when the table cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import boto3
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config

from helpers.contract.kpis import kpi_values
from helpers.contract.names import ALL_GENRES, KPI_INDEX
from include.kpis.model import (
    Day,
    DayKpis,
    DayStatus,
    GenreKpis,
    Kpis,
    TopCountry,
    TopGenre,
    TopSong,
    Trend,
)
from include.kpis.problems import explained

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TABLE_VARIABLE = "KPI_TABLE_NAME"
DEFAULT_TABLE = "music_kpis_table"

# A user who waits for an answer should soon learn that none will come.
CLIENT_CONFIG = Config(
    connect_timeout=3,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 3},
)


@dataclass(frozen=True)
class KpiTable:
    """The table's name and the client to read it with."""

    dynamodb: DynamoDBClient
    name: str


def open_table(name: str | None = None) -> KpiTable:
    """Return the table of that name, or of KPI_TABLE_NAME, or `music_kpis_table`; makes no call yet."""
    name = name or os.environ.get(TABLE_VARIABLE, "").strip() or DEFAULT_TABLE
    with explained(f"table {name}", TABLE_VARIABLE):
        return KpiTable(boto3.Session().client("dynamodb", config=CLIENT_CONFIG), name)


def read_genre(table: KpiTable, day: date, genre: str) -> GenreKpis | None:
    """Return a genre's KPIs and top songs on a day, or None if it has no listens."""
    item = _get(table, day, genre)
    if item is None:
        return None
    totals = _get(table, day, ALL_GENRES) or {}
    return _genre_kpis(item, _status(totals))


def read_totals(table: KpiTable, day: date) -> DayKpis | None:
    """Return the day's totals with its top genres and countries, or None if the table has none yet."""
    item = _get(table, day, ALL_GENRES)
    return _day_kpis(item) if item else None


def read_day(table: KpiTable, day: date) -> Day | None:
    """Return everything about a day, or None if the table does not have it."""
    items = list(_query(table, "#date = :date", {":date": day.isoformat()}))
    if not items:
        return None
    totals = next((item for item in items if item["track_genre"] == ALL_GENRES), {})
    status = _status(totals)
    genres = [_genre_kpis(item, status) for item in items if item is not totals]
    genres.sort(key=lambda kpis: (kpis.genre_rank is None, kpis.genre_rank, kpis.track_genre))
    return Day(day, status, tuple(genres), _day_kpis(totals) if totals else None)


def read_trend(table: KpiTable, genres: Sequence[str], first: date, last: date) -> Trend:
    """Return the KPIs of genres (including `ALL_GENRES`) from the day `first` to the day `last`."""
    totals = list(_query_genre(table, ALL_GENRES, first, last))
    statuses = {item["date"]: _status(item) for item in totals}
    points = []
    for genre in dict.fromkeys(genres):
        own = genre == ALL_GENRES
        for item in totals if own else _query_genre(table, genre, first, last):
            # Totals without numbers belong to a day that is being written for the first time.
            if "listen_count" in item:
                points.append(Kpis(**_kpis(item, statuses.get(item["date"], _status({})))))
    points.sort(key=lambda point: point.date)
    days = (DayStatus(date.fromisoformat(day), status) for day, status in statuses.items())
    return Trend(tuple(days), tuple(points))


def read_overview(table: KpiTable, first: date, last: date) -> list[DayKpis]:
    """Return the totals of the days from `first` to `last`, in order; a day without totals is left out."""
    days = (_day_kpis(item) for item in _query_genre(table, ALL_GENRES, first, last))
    return [day for day in days if day]


def read_days(table: KpiTable, first: date = date.min, last: date = date.max) -> list[DayStatus]:
    """Return the table's days from `first` to `last`, in order."""
    items = _query_genre(table, ALL_GENRES, first, last)
    return [DayStatus(date.fromisoformat(item["date"]), _status(item)) for item in items]


def read_bounds(table: KpiTable) -> tuple[date, date] | None:
    """Return the first and last day of the table, always in two reads; None if it is empty."""
    ends = [
        next(_query_genre(table, ALL_GENRES, date.min, date.max, forward=forward, limit=1), None)
        for forward in (True, False)
    ]
    days = [date.fromisoformat(item["date"]) for item in ends if item]
    return (days[0], days[-1]) if days else None


def _get(table: KpiTable, day: date, genre: str) -> dict[str, Any] | None:
    key = _serialized({"date": day.isoformat(), "track_genre": genre})
    with explained(f"table {table.name}", TABLE_VARIABLE):
        item = table.dynamodb.get_item(TableName=table.name, Key=key).get("Item")
    return _deserialized(item) if item else None


def _query_genre(
    table: KpiTable,
    genre: str,
    first: date,
    last: date,
    *,
    forward: bool = True,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    return _query(
        table,
        "#track_genre = :genre AND #date BETWEEN :first AND :last",
        {":genre": genre, ":first": first.isoformat(), ":last": last.isoformat()},
        IndexName=KPI_INDEX,
        ScanIndexForward=forward,
        ExpressionAttributeNames={"#date": "date", "#track_genre": "track_genre"},
        PaginationConfig={"PageSize": limit, "MaxItems": limit},
    )


def _query(
    table: KpiTable, condition: str, values: dict[str, str], **options: Any
) -> Iterator[dict[str, Any]]:
    request = {
        "TableName": table.name,
        "KeyConditionExpression": condition,
        "ExpressionAttributeNames": {"#date": "date"},
        "ExpressionAttributeValues": _serialized(values),
        **options,
    }
    with explained(f"table {table.name}", TABLE_VARIABLE):
        for page in table.dynamodb.get_paginator("query").paginate(**request):
            yield from (_deserialized(item) for item in page["Items"])


def _kpis(item: dict[str, Any], status: str) -> dict[str, Any]:
    return {
        "date": date.fromisoformat(item["date"]),
        "track_genre": item["track_genre"],
        **kpi_values(item),
        "status": status,
        "version": int(item["version"]),
        "computed_at": datetime.fromisoformat(item["computed_at"]),
        "run_key": item["run_key"],
    }


def _genre_kpis(item: dict[str, Any], status: str) -> GenreKpis:
    songs = (TopSong(**_whole_numbers(song)) for song in item["top_3_songs_per_genre"])
    return GenreKpis(**_kpis(item, status), top_3_songs_per_genre=tuple(songs))


def _day_kpis(item: dict[str, Any]) -> DayKpis | None:
    if "listen_count" not in item:
        return None
    genres = (TopGenre(**_whole_numbers(genre)) for genre in item["top_5_genres_per_day"])
    countries = (TopCountry(**_whole_numbers(country)) for country in item["top_5_countries_per_day"])
    return DayKpis(
        **_kpis(item, _status(item)),
        top_5_genres_per_day=tuple(genres),
        top_5_countries_per_day=tuple(countries),
        unmatched_track_listens=int(item["unmatched_track_listens"]),
        unmatched_user_listens=int(item["unmatched_user_listens"]),
    )


def _status(totals: dict[str, Any]) -> str:
    """Return the day's status; a day without totals may be incomplete, so it counts as being updated."""
    return str(totals.get("status", "updating"))


def _whole_numbers(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: int(value) if isinstance(value, Decimal) else value for name, value in entry.items()}


def _serialized(values: dict[str, Any]) -> dict[str, Any]:
    serialize = TypeSerializer().serialize
    return {name: serialize(value) for name, value in values.items()}


def _deserialized(item: dict[str, Any]) -> dict[str, Any]:
    deserialize = TypeDeserializer().deserialize
    return {name: deserialize(value) for name, value in item.items()}
