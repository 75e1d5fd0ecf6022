"""The batch of all fault tests: small, but it makes a run do everything that a run can do.

An earlier run left a day with a genre that the current catalogs no longer have. The batch brings a late file
for that day with repeated and new listens, a file of a new day with rejected rows, and a file for the
quarantine.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.data import FIRST_DAY, SECOND_DAY, csv_bytes, stream_file

Rows = list[tuple[str, str, str]]

_SONGS = (
    ("track_id", "track_name", "artists", "track_genre", "duration_ms", "popularity"),
    ("t1", "One", "Adele", "blues", "180001", "1"),
    ("t2", "Two", "Beyoncé", "disco", "60000", "2"),
    ("t2", "Two", "Beyoncé", "emo", "60000", "2"),
)
_USERS = (("user_id", "user_name", "user_country"), ("u1", "Ann", "Norway"), ("u2", "Bob", "Chile"))


def catalogs(first_genre: str = "blues") -> dict[str, bytes]:
    """Return the catalogs by key, with another genre for the first track if given."""
    songs = [_SONGS[0], (*_SONGS[1][:3], first_genre, *_SONGS[1][4:]), *_SONGS[2:]]
    return {"songs/songs.csv": csv_bytes(songs), "users/users.csv": csv_bytes(_USERS)}


def listens(day: str, start: int, count: int, tracks: Sequence[str] = ("t1", "t2", "t3")) -> Rows:
    """Return `count` different listens of a day, the same for the same `start`."""
    numbers = range(start, start + count)
    return [(f"u{n % 3}", tracks[n % len(tracks)], f"{day} 10:{n // 60:02}:{n % 60:02}") for n in numbers]


EARLIER = listens(FIRST_DAY, 0, 12)
EARLIER_CATALOGS = catalogs(first_genre="acoustic")
EARLIER_FILES = {"streams/early.csv": stream_file(EARLIER)}

BROKEN_FILES = {
    "streams/broken.csv": b"who,what\nu1,t1\n",
    "streams/too many bad rows.csv": stream_file([("u1", "t1", "yesterday")]),
}

CATALOGS = catalogs()
FILES = {
    "streams/broken.csv": BROKEN_FILES["streams/broken.csv"],
    "streams/late.csv": stream_file([*EARLIER[:4], *listens(FIRST_DAY, 20, 6)]),
    "streams/new.csv": stream_file(
        [
            *listens(SECOND_DAY, 0, 40),
            *listens(FIRST_DAY, 20, 2),
            ("u1", "t1", "yesterday"),
            ("", "t1", f"{SECOND_DAY} 10:00:00"),
        ]
    ),
}
