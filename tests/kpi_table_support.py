"""KPI items as the pipeline stores them, in a table of local AWS; needs only boto3."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeSerializer

Item = dict[str, Any]

# Days of a small table, without 26 June.
FIRST, SECOND, THIRD = (date(2024, 6, day) for day in (24, 25, 27))

STAMP = {
    "run_key": "manual_2024-06-26-abc12345",
    "computed_at": "2024-06-26T01:02:03.000004+00:00",
    "version": 2,
    "catalogs_frozen_at": "2024-06-26T01:00:00+00:00",
}


def make_table(dynamodb: Any, name: str | None = None) -> str:
    """Make an empty table with the keys and the index of include/stack.yaml, and return its name."""
    name = name or f"kpis-{uuid.uuid4().hex[:8]}"
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": key, "AttributeType": "S"} for key in ("date", "track_genre")
        ],
        KeySchema=_key("date", "track_genre"),
        GlobalSecondaryIndexes=[
            {
                "IndexName": "track_genre-date-index",
                "KeySchema": _key("track_genre", "date"),
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    return name


def day_items(day: date, genres: Mapping[str, int], status: str = "complete") -> list[Item]:
    """Return the items of a day: its genres, with their listens as given, then its totals."""
    ranked = sorted(genres.items(), key=lambda entry: (-entry[1], entry[0]))
    known = [genre for genre, _ in ranked if genre != "Unknown"]
    items = [_genre_item(day, genre, listens) for genre, listens in ranked]
    for item in items:
        if item["track_genre"] in known:
            item["genre_rank"] = known.index(item["track_genre"]) + 1
    total = sum(genres.values())
    totals = _item(day, "ALL_GENRES", total) | {
        "top_5_genres_per_day": [
            {"rank": rank, "track_genre": genre, "listen_count": genres[genre]}
            for rank, genre in enumerate(known[:5], start=1)
        ],
        "top_5_countries_per_day": [
            {
                "rank": rank,
                "user_country": country,
                "listen_count": total // rank,
                "unique_listeners": total // rank - 1,
            }
            for rank, country in enumerate(("Brazil", "Japan", "Côte d'Ivoire", "Peru", "Chad"), start=1)
        ],
        "unmatched_track_listens": genres.get("Unknown", 0),
        "unmatched_user_listens": 3,
        "status": status,
    }
    return [*items, totals]


def put_items(dynamodb: Any, table: str, items: Iterable[Item]) -> None:
    serialize = TypeSerializer().serialize
    requests = [
        {"PutRequest": {"Item": {name: serialize(value) for name, value in item.items()}}} for item in items
    ]
    for start in range(0, len(requests), 25):
        dynamodb.batch_write_item(RequestItems={table: requests[start : start + 25]})


@contextmanager
def counted_calls(client: Any) -> Iterator[list[str]]:
    """Collect the names of the API calls that the client makes in the block."""
    calls: list[str] = []

    def count(request: Any, **_: Any) -> None:
        calls.append(request.headers.get("X-Amz-Target", b"").decode().rpartition(".")[2])

    client.meta.events.register("before-send", count)
    try:
        yield calls
    finally:
        client.meta.events.unregister("before-send", count)


def _key(partition: str, sort: str) -> Sequence[Mapping[str, str]]:
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": sort, "KeyType": "RANGE"},
    ]


def _item(day: date, genre: str, listens: int) -> Item:
    listeners = max(1, listens * 9 // 10)
    minutes = Decimal(listens * 347) / 100
    return {
        "date": day.isoformat(),
        "track_genre": genre,
        "listen_count": listens,
        "unique_listeners": listeners,
        "total_listening_time": minutes,
        "avg_listening_time_per_user": round(minutes / listeners, 2),
        **STAMP,
    }


def _genre_item(day: date, genre: str, listens: int) -> Item:
    return _item(day, genre, listens) | {
        "top_3_songs_per_genre": [
            {
                "rank": rank,
                "track_id": f"{genre}-{rank}",
                "track_name": f"Song {rank} of {genre}",
                "artists": "Unknown" if rank == 3 else f"Artist {rank}; Other",
                "listen_count": listens // (rank + 1),
            }
            for rank in (1, 2, 3)
        ]
    }
