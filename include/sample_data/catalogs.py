"""The two catalogs, with the names, scripts and gaps of real ones. All names are invented."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

SONG_COLUMNS = (
    "id",
    "track_id",
    "artists",
    "album_name",
    "track_name",
    "popularity",
    "duration_ms",
    "explicit",
    "danceability",
    "energy",
    "key",
    "loudness",
    "mode",
    "speechiness",
    "acousticness",
    "instrumentalness",
    "liveness",
    "valence",
    "tempo",
    "time_signature",
    "track_genre",
)
USER_COLUMNS = ("user_id", "user_name", "user_age", "user_country", "created_at")

_MOODS = (
    "amber",
    "basalt",
    "cedar",
    "cobalt",
    "coral",
    "dusk",
    "ember",
    "fjord",
    "glass",
    "harbor",
    "indigo",
    "juniper",
    "lunar",
    "marble",
    "neon",
    "opal",
    "prairie",
    "quartz",
    "velvet",
)
_FORMS = ("chant", "drift", "groove", "hush", "pulse", "strum")
# 19 x 6 = 114, the number of genres in a real catalog.
GENRES = tuple(f"{mood}-{form}" for mood in _MOODS for form in _FORMS)

_SYLLABLES = (
    "Bal",
    "Cor",
    "Dre",
    "Fen",
    "Gal",
    "Hol",
    "Ilm",
    "Jas",
    "Kel",
    "Lum",
    "Mor",
    "Nev",
    "Orr",
    "Pel",
    "Quin",
    "Ros",
    "Sel",
    "Tov",
    "Ulm",
    "Ver",
)
_ENDINGS = (
    "adan",
    "asta",
    "edo",
    "elin",
    "eris",
    "ette",
    "iano",
    "idra",
    "imar",
    "olan",
    "onde",
    "oris",
    "udra",
    "una",
    "yra",
)
WORDS = tuple(syllable + ending for syllable in _SYLLABLES for ending in _ENDINGS)
OTHER_SCRIPTS = (
    ("夜の海", "雨と星", "風の丘", "月光", "별빛 바다"),
    ("ليل طويل", "بحر هادئ", "مطر خفيف", "نجمة بعيدة"),
    ("ночной дождь", "далёкий свет", "тихая река", "звёзды"),
    ("🎧", "🌙 🌊", "🔥🔥🔥", "✨"),
)
COUNTRIES = ("United States", "Brazil", "Germany", "India", "Japan", "Mexico", "Nigeria", "Côte d'Ivoire")
COUNTRY_WEIGHTS = (30, 18, 14, 12, 10, 8, 6, 2)

# By rank instead of at random: the most popular tracks, which appear in the KPIs, show each of these.
RANK_WITHOUT_NAMES = 4
RANKS_PER_STYLE_CYCLE = 40


@dataclass(frozen=True)
class Tracks:
    """Tracks by rank, the most popular first.

    Attributes:
        track_ids: 22 letters and digits each.
        genre: position in `GENRES`.
        second_genre: position in `GENRES`, or -1.
        in_catalog: whether `songs.csv` has the track.
    """

    track_ids: list[str]
    genre: npt.NDArray[np.int64]
    second_genre: npt.NDArray[np.int64]
    in_catalog: npt.NDArray[np.bool_]


def make_tracks(rng: np.random.Generator, count: int) -> Tracks:
    """Create tracks: 0.5% are not in the catalog, 1% have two genres, and every genre has a popular one."""
    alphabet = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", dtype="S1")
    letters = alphabet[rng.integers(0, len(alphabet), (count, 22))]
    rank = np.arange(count)
    genre = rng.integers(0, len(GENRES), count)
    genre[: len(GENRES)] = rng.permutation(len(GENRES))
    other_genre = (genre + rng.integers(1, len(GENRES), count)) % len(GENRES)
    return Tracks(
        track_ids=[row.tobytes().decode() for row in letters],
        genre=genre,
        second_genre=np.where(rank % 100 == 30, other_genre, -1),
        in_catalog=rank % 200 != 100,
    )


def write_songs(path: Path, tracks: Tracks, rng: np.random.Generator) -> int:
    """Write `songs.csv` with one row per track and genre, not ordered by popularity; return its rows."""
    count = len(tracks.track_ids)
    words = rng.integers(0, len(WORDS), (count, 4))
    artists = rng.integers(0, len(WORDS), (max(1, count // 4), 2))
    artists_of = rng.integers(0, len(artists), (count, 3))
    artist_count = np.where(rng.integers(0, 4, count) == 0, rng.integers(2, 4, count), 1)
    duration_ms = rng.integers(90_000, 420_000, count)
    thousandths = rng.integers(0, 1_001, (count, 7))
    tempo_tenths = rng.integers(600, 2_000, count)
    loudness_tenths = rng.integers(-300, 0, count)
    rows = []
    for rank in np.flatnonzero(tracks.in_catalog).tolist():
        named = rank != RANK_WITHOUT_NAMES
        first, second, third, album = (WORDS[word] for word in words[rank])
        credited = (artists[artist] for artist in artists_of[rank, : artist_count[rank]])
        features = [f"{value / 1_000:.3f}" for value in thousandths[rank].tolist()]
        row = (
            tracks.track_ids[rank],
            ";".join(f"{WORDS[one]} {WORDS[two]}" for one, two in credited) if named else "",
            f"{album} {1 + rank % 9}" if named else "",
            _track_name(rank, first, second, third) if named else "",
            100 - 100 * rank // count,
            int(duration_ms[rank]),
            rank % 11 == 3,
            *features[:2],
            rank % 12,
            f"{loudness_tenths[rank] / 10:.1f}",
            rank % 2,
            *features[2:],
            f"{tempo_tenths[rank] / 10:.1f}",
            4 if rank % 20 else 3,
        )
        rows.append((*row, GENRES[tracks.genre[rank]]))
        if tracks.second_genre[rank] >= 0:
            rows.append((*row, GENRES[tracks.second_genre[rank]]))
    order = rng.permutation(len(rows)).tolist()
    _write_csv(path, SONG_COLUMNS, ((number, *rows[position]) for number, position in enumerate(order)))
    return len(rows)


def write_users(path: Path, count: int, rng: np.random.Generator) -> None:
    """Write `users.csv` with the users 1 to `count`."""
    names = rng.integers(0, len(WORDS), (count, 2))
    ages = rng.integers(18, 70, count).tolist()
    country_edges = np.cumsum(COUNTRY_WEIGHTS)
    countries = np.searchsorted(country_edges, rng.integers(0, country_edges[-1], count), side="right")
    joined = [(date(2023, 1, 1) + timedelta(days=day)).isoformat() for day in range(500)]
    created = rng.integers(0, len(joined), count).tolist()
    _write_csv(
        path,
        USER_COLUMNS,
        (
            (
                user + 1,
                f"{WORDS[first]} {WORDS[last]}",
                ages[user],
                COUNTRIES[countries[user]],
                joined[created[user]],
            )
            for user, (first, last) in enumerate(names)
        ),
    )


def _track_name(rank: int, first: str, second: str, third: str) -> str:
    plain = f"{first} {second}"
    cycle, style = divmod(rank, RANKS_PER_STYLE_CYCLE)
    if style < len(OTHER_SCRIPTS):
        names = OTHER_SCRIPTS[style]
        return f"{names[cycle % len(names)]} {first}"
    special = {
        5: f'{plain} "{third}" Mix',
        6: f"{plain}, {third}",
        7: f'"{first}", {second} & "{third}"',
        8: f"{plain}\n{third}" if cycle % 10 == 0 else plain,
    }
    return special.get(style, plain)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
