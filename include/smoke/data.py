"""Two tiny deliveries and their expected results, computed by hand.

On 25 June, pop has six listens of Amber (3 minutes) and four of Birch (4 minutes), rock seven of Cobalt (1
minute), jazz three of Dune (1.5 minutes). The late batch adds two of Dune, repeats one of Cobalt, and brings
26 June with two of Amber and one of Cobalt.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from helpers.contract.names import ALL_GENRES

DAY, NEXT_DAY = "2024-06-25", "2024-06-26"
Items = dict[tuple[str, str], dict[str, Any]]

CATALOGS = {
    "songs/songs.csv": """\
track_id,track_name,artists,track_genre,duration_ms,popularity
amber,Amber,Ada,pop,180000,50
birch,Birch,Ben,pop,240000,40
cobalt,Cobalt,Cleo,rock,60000,30
dune,Dune,Dora,jazz,90000,20
""",
    "users/users.csv": """\
user_id,user_name,user_country
ann,Ann,DE
bob,Bob,FR
cat,Cat,DE
""",
}

FIRST = """\
user_id,track_id,listen_time
ann,amber,2024-06-25 00:00:00
ann,amber,2024-06-25 08:00:00
ann,amber,2024-06-25 09:00:00
bob,amber,2024-06-25 10:00:00
bob,amber,2024-06-25 11:00:00
cat,amber,2024-06-25 12:00:00
ann,birch,2024-06-25 08:10:00
ann,birch,2024-06-25 09:10:00
bob,birch,2024-06-25 10:10:00
bob,birch,2024-06-25 11:10:00
bob,cobalt,2024-06-25 08:20:00
bob,cobalt,2024-06-25 09:20:00
bob,cobalt,2024-06-25 10:20:00
bob,cobalt,2024-06-25 11:20:00
cat,cobalt,2024-06-25 12:20:00
cat,cobalt,2024-06-25 13:20:00
cat,cobalt,2024-06-25T14:20:00+00:00
cat,dune,2024-06-25 15:30:00
cat,dune,2024-06-25 16:30:00
cat,dune,2024-06-25 23:59:59
,dune,2024-06-25 17:30:00
"""
# The header has another name for the time.
BROKEN = """\
user_id,track_id,played_at
ann,amber,2024-06-25 18:00:00
"""
LATE = """\
user_id,track_id,listen_time
ann,dune,2024-06-25 20:00:00
ann,dune,2024-06-25 21:00:00
bob,cobalt,2024-06-25 08:20:00
bob,amber,2024-06-26 08:00:00
bob,amber,2024-06-26 09:00:00
cat,cobalt,2024-06-26 10:00:00
"""

FIRST_BATCH = {"streams/first.csv": FIRST, "streams/broken.csv": BROKEN}
LATE_BATCH = {"streams/late.csv": LATE}


def _song(rank: int, track_id: str, track_name: str, artists: str, listen_count: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "track_id": track_id,
        "track_name": track_name,
        "artists": artists,
        "listen_count": listen_count,
    }


def _genres(**listens: int) -> list[dict[str, Any]]:
    return [
        {"rank": rank, "track_genre": genre, "listen_count": count}
        for rank, (genre, count) in enumerate(listens.items(), 1)
    ]


def _countries(*entries: tuple[str, int, int]) -> list[dict[str, Any]]:
    return [
        {"rank": rank, "user_country": country, "listen_count": count, "unique_listeners": listeners}
        for rank, (country, count, listeners) in enumerate(entries, 1)
    ]


def _counts(listens: int, listeners: int, minutes: str, per_listener: str) -> dict[str, Any]:
    return {
        "listen_count": listens,
        "unique_listeners": listeners,
        "total_listening_time": Decimal(minutes),
        "avg_listening_time_per_user": Decimal(per_listener),
    }


_COMPLETE = {"status": "complete", "unmatched_track_listens": 0, "unmatched_user_listens": 0}

ITEMS_AFTER_FIRST: Items = {
    # 6 x 3 and 4 x 4 minutes, by three listeners
    (DAY, "pop"): _counts(10, 3, "34.00", "11.33")
    | {
        "genre_rank": 1,
        "top_3_songs_per_genre": [
            _song(1, "amber", "Amber", "Ada", 6),
            _song(2, "birch", "Birch", "Ben", 4),
        ],
    },
    # 7 x 1 minute, by Bob and Cat
    (DAY, "rock"): _counts(7, 2, "7.00", "3.50")
    | {"genre_rank": 2, "top_3_songs_per_genre": [_song(1, "cobalt", "Cobalt", "Cleo", 7)]},
    # 3 x 1.5 minutes, by Cat; the row without a user does not count
    (DAY, "jazz"): _counts(3, 1, "4.50", "4.50")
    | {"genre_rank": 3, "top_3_songs_per_genre": [_song(1, "dune", "Dune", "Dora", 3)]},
    # 34 + 7 + 4.5 minutes; Ann 5 and Cat 7 listens in DE, Bob 8 in FR
    (DAY, ALL_GENRES): _counts(20, 3, "45.50", "15.17")
    | {
        "top_5_genres_per_day": _genres(pop=10, rock=7, jazz=3),
        "top_5_countries_per_day": _countries(("DE", 12, 2), ("FR", 8, 1)),
    }
    | _COMPLETE,
}

ITEMS_AFTER_LATE: Items = {
    (DAY, "pop"): ITEMS_AFTER_FIRST[DAY, "pop"],
    # the repeated listen counts once
    (DAY, "rock"): ITEMS_AFTER_FIRST[DAY, "rock"],
    # 5 x 1.5 minutes, by Cat and Ann
    (DAY, "jazz"): _counts(5, 2, "7.50", "3.75")
    | {"genre_rank": 3, "top_3_songs_per_genre": [_song(1, "dune", "Dune", "Dora", 5)]},
    # 34 + 7 + 7.5 minutes; Ann 7 and Cat 7 listens in DE
    (DAY, ALL_GENRES): _counts(22, 3, "48.50", "16.17")
    | {
        "top_5_genres_per_day": _genres(pop=10, rock=7, jazz=5),
        "top_5_countries_per_day": _countries(("DE", 14, 2), ("FR", 8, 1)),
    }
    | _COMPLETE,
    # 2 x 3 minutes, by Bob
    (NEXT_DAY, "pop"): _counts(2, 1, "6.00", "6.00")
    | {"genre_rank": 1, "top_3_songs_per_genre": [_song(1, "amber", "Amber", "Ada", 2)]},
    # 1 x 1 minute, by Cat
    (NEXT_DAY, "rock"): _counts(1, 1, "1.00", "1.00")
    | {"genre_rank": 2, "top_3_songs_per_genre": [_song(1, "cobalt", "Cobalt", "Cleo", 1)]},
    (NEXT_DAY, ALL_GENRES): _counts(3, 2, "7.00", "3.50")
    | {
        "top_5_genres_per_day": _genres(pop=2, rock=1),
        "top_5_countries_per_day": _countries(("FR", 2, 1), ("DE", 1, 1)),
    }
    | _COMPLETE,
}

_EMPTY: dict[str, Any] = {
    "stream files left in the source": [],
    "objects of runs left in the intermediate bucket": [],
    "unfinished uploads": [],
    "objects of the history that are not Parquet": [],
}
_REJECTED: dict[str, Any] = {
    "archive/first.csv": ("GLACIER_IR", FIRST),
    "quarantine/broken.csv": BROKEN,
    "reason of broken.csv": "missing column listen_time; the header has: user_id, track_id, played_at",
    "rejected rows": [("streams/first.csv", "21", "", "dune", "2024-06-25 17:30:00")],
}

AFTER_FIRST: dict[str, Any] = {
    **_EMPTY,
    **_REJECTED,
    **{f"item {day} {genre}": item for (day, genre), item in ITEMS_AFTER_FIRST.items()},
    "days of the history": [DAY],
    "report of broken.csv, first.csv": {
        "files": 2,
        "archived": 1,
        "quarantined": 1,
        "rows": 21,
        "valid": 20,
        "rejected": 1,
        "new": 20,
        "repeated": 0,
    },
}
AFTER_LATE: dict[str, Any] = {
    **AFTER_FIRST,
    **{f"item {day} {genre}": item for (day, genre), item in ITEMS_AFTER_LATE.items()},
    "archive/late.csv": ("GLACIER_IR", LATE),
    "days of the history": [DAY, NEXT_DAY],
    "report of late.csv": {
        "files": 1,
        "archived": 1,
        "quarantined": 0,
        "rows": 6,
        "valid": 6,
        "rejected": 0,
        "new": 5,
        "repeated": 1,
    },
}
