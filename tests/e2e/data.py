"""Small deliveries: catalogs with the oddities of real ones, and matching listening events."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from random import Random

STREAM_HEADER = ("user_id", "track_id", "listen_time")
DAYS = FIRST_DAY, SECOND_DAY = "2024-06-25", "2024-06-26"
GENRES = ("acoustic", "blues", "classical", "disco", "emo", "funk", "gospel")

_SONG_ROWS = [
    ("track_id", "track_name", "artists", "track_genre", "duration_ms", "popularity"),
    ("quoted", 'Say "Hello", World', "Adele, the Real one", "acoustic", "215733", "73"),
    ("newline", "First line\nSecond line", "Beyoncé;Zoë", "blues", "180001", "12"),
    ("two-genres", "Both", "Cher", "classical", "100000", "50"),
    ("two-genres", "Both, but longer", "Cher", "disco", "300000", "50"),
    ("repeated", "The first row wins", "Dido", "disco", "60000", "1"),
    ("repeated", "The second row does not", "Dido", "disco", "999999", "2"),
    ("nameless", "", "", "emo", "61234", "0"),
    ("timeless", "No duration", "Enya", "funk", "unknown", "33"),
    ("genreless", "No genre", "Feist", "", "200000", "44"),
    *(
        (f"{genre}-{number}", f"{genre.title()} {number}", "Various", genre, str(150_000 + 7 * number), "10")
        for genre in GENRES
        for number in range(5)
    ),
]
_USER_ROWS = [
    ("user_id", "user_name", "user_age", "user_country", "created_at"),
    *((f"u{n}", f"User {n}", str(18 + n), f"Country {n % 7}", "2024-02-07") for n in range(20)),
    ("u1", "The first row wins", "99", "Nowhere", "2024-02-07"),
    ("stateless", "No country", "40", "", "2024-02-07"),
]
TRACKS = [*dict.fromkeys(row[0] for row in _SONG_ROWS[1:]), "not-in-catalog"]
USERS = [*dict.fromkeys(row[0] for row in _USER_ROWS[1:]), "not-in-catalog"]


def csv_bytes(rows: Iterable[Sequence[str]]) -> bytes:
    """Write rows as CSV, quoted where needed."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def stream_file(rows: Iterable[Sequence[str]]) -> bytes:
    """Return a stream file of these (user_id, track_id, listen_time)."""
    return csv_bytes([STREAM_HEADER, *rows])


def listens(seed: int, count: int, days: Sequence[str] = (FIRST_DAY,)) -> list[tuple[str, str, str]]:
    """Return random listens of the days, the same for the same seed; some have an unknown user or track."""
    random = Random(seed)
    return [
        (random.choice(USERS), random.choice(TRACKS), f"{random.choice(days)} {_time(random)}")
        for _ in range(count)
    ]


def catalogs(song_rows: Iterable[Sequence[str]] = tuple(_SONG_ROWS)) -> dict[str, bytes]:
    """Return the catalogs by object key."""
    return {"songs/songs.csv": csv_bytes(song_rows), "users/users.csv": csv_bytes(_USER_ROWS)}


def songs_with_genres(**genres: str) -> list[Sequence[str]]:
    """Return the songs with another genre for each track or genre that is named."""
    return [(*row[:3], genres.get(row[0]) or genres.get(row[3]) or row[3], *row[4:]) for row in _SONG_ROWS]


def songs_without(column: str) -> list[Sequence[str]]:
    """Return the songs without a column."""
    position = _SONG_ROWS[0].index(column)
    return [(*row[:position], *row[position + 1 :]) for row in _SONG_ROWS]


def _time(random: Random) -> str:
    return f"{random.randrange(24):02}:{random.randrange(60):02}:{random.randrange(60):02}"
