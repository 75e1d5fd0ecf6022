"""Realistic stream files of any size; the same seed gives the same files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

FILES = 8
HEADER = b"user_id,track_id,listen_time\n"
CATALOGS = {
    "songs/songs.csv": "track_id,track_name,artists,track_genre,duration_ms,popularity\nt,One,A,pop,6000,5\n",
    "users/users.csv": "user_id,user_name,user_country\nu,Ann,Norway\n",
}
_USERS = 50_000
_TRACKS = 100_000
_ROWS_AT_ONCE = 400_000
_FIRST_DAY = np.datetime64("2024-06-25", "s")
_LETTERS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", np.uint8)
_UNITS = {"KB": 1000, "MB": 1000**2, "GB": 1000**3}

# Ways for a row to be bad. None ends in an empty field, which Polars reads as a missing one.
_SPOILED: tuple[Callable[[str, str, str], str], ...] = (
    lambda user, track, time: f"{user},{track}",
    lambda user, track, time: f"{user},{track},{time},web",
    lambda user, track, time: f",{track},{time}",
    lambda user, track, time: f"{user}, ,{time}",
    lambda user, track, time: f"{user},{track},{time[8:10]}/{time[5:7]}/{time[:4]}{time[10:]}",
    lambda user, track, time: f"{user},{track},2024-02-30{time[10:]}",
    lambda user, track, time: f"{user},{track}\0,{time}",
)
# Ways for a row to be good but unusual.
_UNUSUAL: tuple[Callable[[str, str, str], str], ...] = (
    lambda user, track, time: f" {user},{track} ,{time}",
    lambda user, track, time: f'{user},"{track}",{time}',
    lambda user, track, time: f"{user},{track},{time[:10]}T{time[11:]}+02:00",
    lambda user, track, time: f"{user},{track},{time}.25",
)


def bytes_of(size: str) -> int:
    """Return the number of bytes of a text such as `500MB`.

    Raises:
        ValueError: it is not a number with KB, MB or GB.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(KB|MB|GB)", size.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise ValueError(f"{size!r} is no size; write a number above 0 with KB, MB or GB, like 500MB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def write_stream_files(folder: Path, size: int, bad_fraction: float, seed: int = 1) -> list[Path]:
    """Write `FILES` stream files with a total of about `size` bytes, a day each.

    `bad_fraction` of the rows are bad, and as many good ones are unusual: quoted, padded, with an offset.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tracks = _tracks(np.random.default_rng(seed))
    paths = []
    for number in range(FILES):
        generator = np.random.default_rng([seed, number])
        path = folder / f"streams{number + 1}.csv"
        with path.open("wb") as file:
            file.write(HEADER)
            # 49 bytes per row
            left = max(1, size // FILES // 49)
            while left:
                rows = min(left, _ROWS_AT_ONCE)
                file.write(_lines(generator, tracks, number, rows, bad_fraction))
                left -= rows
        paths.append(path)
    return paths


def _tracks(generator: np.random.Generator) -> pa.Array:
    characters = _LETTERS[generator.integers(0, len(_LETTERS), (_TRACKS, 22))]
    return pa.array(characters.view("S22").ravel()).cast(pa.string())


def _lines(
    generator: np.random.Generator, tracks: pa.Array, day: int, rows: int, bad_fraction: float
) -> memoryview:
    # Squared, so some users and tracks occur much more often than others.
    users = pa.array((_USERS * generator.random(rows) ** 2).astype(np.int64) + 1).cast(pa.string())
    heard = tracks.take(pa.array((_TRACKS * generator.random(rows) ** 3).astype(np.int64)))
    seconds = _FIRST_DAY + day * 86_400 + generator.integers(0, 86_400, rows)
    times = pa.array(seconds.astype("datetime64[s]")).cast(pa.string())
    lines: Any = pc.binary_join_element_wise(users, heard, times, ",")
    count = generator.binomial(rows, bad_fraction) if bad_fraction else 0
    if count:
        where = generator.choice(rows, min(rows, 2 * count), replace=False)
        changed = np.zeros(rows, bool)
        changed[where] = True
        texts = lines.filter(pa.array(changed)).to_pylist()
        forms = (_SPOILED, _UNUSUAL)
        new = [
            forms[index % 2][index // 2 % len(forms[index % 2])](*text.split(","))
            for index, text in enumerate(texts)
        ]
        lines = pc.replace_with_mask(lines, pa.array(changed), pa.array(new))
    ended = pc.binary_join_element_wise(lines, "", "\n")
    # An Arrow array stores its strings consecutively, which is the file's text.
    return memoryview(ended.buffers()[2])
