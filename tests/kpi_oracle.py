"""The pipeline's KPI items, recomputed in plain Python from the rules; every test compares results with it.

It shares no code with the pipeline. `kpi_items` takes accepted listens and catalog rows;
`kpi_items_of_folder`
reads them from CSV files laid out as in the source bucket. Numbers are int or Decimal, which compare equal to
the numbers of a DynamoDB scan.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any, NamedTuple

Item = dict[str, Any]
Items = dict[tuple[str, str], Item]


class Listen(NamedTuple):
    user_id: str
    track_id: str
    listen_time: datetime


class Song(NamedTuple):
    track_id: str
    track_name: str | None
    artists: str | None
    track_genre: str | None
    duration_ms: int | None


class User(NamedTuple):
    user_id: str
    user_country: str | None


def kpi_items(listens: Iterable[Listen], songs: Iterable[Song], users: Iterable[User]) -> Items:
    """Return (date, track_genre) -> the KPI attributes of that item, without its keys.

    Args:
        listens: accepted listens, repeated ones allowed; `listen_time` in any time zone.
        songs: rows of the songs catalog, in the order of file and row.
        users: rows of the users catalog, in the order of file and row.
    """
    songs_of_track: dict[str, dict[str, Song]] = defaultdict(dict)
    for song in songs:
        songs_of_track[song.track_id].setdefault(song.track_genre or "Unknown", song)
    country_of_user: dict[str, str] = {}
    for user in users:
        country_of_user.setdefault(user.user_id, user.user_country or "Unknown")

    listens_of_day: dict[str, set[Listen]] = defaultdict(set)
    for listen in listens:
        instant = listen.listen_time.astimezone(UTC)
        listens_of_day[instant.date().isoformat()].add(Listen(listen.user_id, listen.track_id, instant))

    items: Items = {}
    for day, distinct in listens_of_day.items():
        items.update(_items_of_day(day, distinct, songs_of_track, country_of_user))
    return items


def _items_of_day(
    day: str,
    listens: set[Listen],
    songs_of_track: dict[str, dict[str, Song]],
    country_of_user: dict[str, str],
) -> Items:
    listens_of_genre: dict[str, list[Listen]] = defaultdict(list)
    for listen in listens:
        for genre in songs_of_track.get(listen.track_id) or ("Unknown",):
            listens_of_genre[genre].append(listen)
    genres = _top({genre: len(members) for genre, members in listens_of_genre.items() if genre != "Unknown"})

    items: Items = {}
    for genre, members in listens_of_genre.items():
        song_of_track = {track: songs[genre] for track, songs in songs_of_track.items() if genre in songs}
        items[day, genre] = {
            **_totals(members, song_of_track),
            "top_3_songs_per_genre": _top_songs(members, song_of_track)[:3],
        }
    for rank, (genre, _) in enumerate(genres, start=1):
        items[day, genre]["genre_rank"] = rank

    first_songs = {track: next(iter(songs.values())) for track, songs in songs_of_track.items()}
    items[day, "ALL_GENRES"] = {
        **_totals(listens, first_songs),
        "top_5_genres_per_day": [
            {"rank": rank, "track_genre": genre, "listen_count": count}
            for rank, (genre, count) in enumerate(genres[:5], start=1)
        ],
        "top_5_countries_per_day": _top_countries(listens, country_of_user)[:5],
        "unmatched_track_listens": sum(listen.track_id not in songs_of_track for listen in listens),
        "unmatched_user_listens": sum(listen.user_id not in country_of_user for listen in listens),
    }
    return items


def _totals(listens: Collection[Listen], song_of_track: dict[str, Song]) -> Item:
    users = {listen.user_id for listen in listens}
    known = [song_of_track[listen.track_id] for listen in listens if listen.track_id in song_of_track]
    total = Fraction(sum(song.duration_ms or 0 for song in known), 60_000)
    return {
        "listen_count": len(listens),
        "unique_listeners": len(users),
        "total_listening_time": _half_up(total),
        "avg_listening_time_per_user": _half_up(total / len(users)),
    }


def _half_up(minutes: Fraction) -> Decimal:
    return Decimal(floor(minutes * 100 + Fraction(1, 2))) / 100


def _top(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _top_songs(listens: Iterable[Listen], song_of_track: dict[str, Song]) -> list[Item]:
    ranked = []
    for track_id, count in Counter(listen.track_id for listen in listens).items():
        song = song_of_track.get(track_id)
        name = (song and song.track_name) or "Unknown"
        artists = (song and song.artists) or "Unknown"
        ranked.append((-count, name, track_id, artists))
    return [
        {
            "rank": rank,
            "track_id": track_id,
            "track_name": name,
            "artists": artists,
            "listen_count": -negative_count,
        }
        for rank, (negative_count, name, track_id, artists) in enumerate(sorted(ranked), start=1)
    ]


def _top_countries(listens: Iterable[Listen], country_of_user: dict[str, str]) -> list[Item]:
    users_of_country: dict[str, list[str]] = defaultdict(list)
    for listen in listens:
        users_of_country[country_of_user.get(listen.user_id, "Unknown")].append(listen.user_id)
    users_of_country.pop("Unknown", None)
    ranked = _top({country: len(users) for country, users in users_of_country.items()})
    return [
        {
            "rank": rank,
            "user_country": country,
            "listen_count": count,
            "unique_listeners": len(set(users_of_country[country])),
        }
        for rank, (country, count) in enumerate(ranked, start=1)
    ]


def kpi_items_of_folder(folder: Path, rejected: Collection[str] = ()) -> Items:
    """Return the KPI items of CSV files in the folders `streams/`, `songs/` and `users/`.

    Args:
        folder: holds the three folders.
        rejected: stream files to ignore, by name relative to `folder`: `streams/bad.csv`.
    """
    return kpi_items(read_listens(folder, rejected), read_songs(folder), read_users(folder))


def read_listens(folder: Path, rejected: Collection[str] = ()) -> Iterator[Listen]:
    """Yield the listens of the valid rows of all stream files except the rejected ones."""
    for row in _rows(folder, "streams", rejected):
        user_id, track_id = row["user_id"].strip(), row["track_id"].strip()
        instant = parse_listen_time(row["listen_time"])
        if user_id and track_id and instant and "\0" not in user_id + track_id:
            yield Listen(user_id, track_id, instant)


def read_songs(folder: Path) -> Iterator[Song]:
    """Yield the rows of the songs catalog that have a track id."""
    for row in _rows(folder, "songs"):
        if track_id := row["track_id"].strip():
            duration = re.fullmatch(r"([0-9]{1,15})(?:\.0*)?", row["duration_ms"].strip())
            yield Song(
                track_id,
                row["track_name"].strip() or None,
                row["artists"].strip() or None,
                row["track_genre"].strip() or None,
                int(duration[1]) if duration else None,
            )


def read_users(folder: Path) -> Iterator[User]:
    """Yield the rows of the users catalog that have a user id."""
    for row in _rows(folder, "users"):
        if user_id := row["user_id"].strip():
            yield User(user_id, row["user_country"].strip() or None)


_LISTEN_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d{1,6})?(Z|[+-]\d\d(?::?[0-5]\d)?)?", re.ASCII
)


def parse_listen_time(text: str) -> datetime | None:
    """Return the instant in UTC, or None if the text is not a valid listen time; without offset it is UTC."""
    match = _LISTEN_TIME.fullmatch(text.strip())
    if not match:
        return None
    day, clock, fraction, offset = match.groups()
    micros = (fraction or ".").ljust(7, "0")
    try:
        instant = datetime.fromisoformat(f"{day}T{clock}{micros}{offset or 'Z'}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return instant if 1970 <= instant.year <= 2199 else None


def _rows(folder: Path, kind: str, rejected: Collection[str] = ()) -> Iterator[dict[str, str]]:
    """Yield the rows that have as many fields as the header, file after file by name."""
    for path in sorted((folder / kind).iterdir()):
        if f"{kind}/{path.name}" in rejected or not path.name.endswith((".csv", ".csv.gz")):
            continue
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        header = [name.strip() for name in next(rows)]
        for row in rows:
            if len(row) == len(header):
                yield dict(zip(header, row, strict=True))
