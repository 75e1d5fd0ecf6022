"""Seeded input of the Glue job: three days of listens and the catalogs, in the form of the move task.

The number of users grows with the listens, from 50,000 to one per 50 listens. The catalog is the same at
every
size: about 90,000 tracks of 114 genres, one in a hundred of them under two. Popularity follows Zipf's law,
flattened at the top. One listen in 100 is repeated, one in 100 has a user that is not in the catalog, and
about one in 200 such a track.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from pyarrow import parquet as pq

from include.sample_data.catalogs import make_tracks, write_songs, write_users

SEED = 20240625
FIRST_DAY = np.datetime64("2024-06-25", "s")
# Shares of the listens by day: a file that was exported at noon, and late arrivals.
SHARE_OF_DAYS = (0.03, 0.82, 0.15)
MOST_TRACKS, FEWEST_USERS, LISTENS_OF_A_USER = 90_000, 50_000, 50
ROWS_PER_CHUNK, ROWS_PER_PART, ROWS_PER_GROUP = 1_000_000, 4_000_000, 128 * 1024

LISTENS = pa.schema(
    [("user_id", pa.string()), ("track_id", pa.string()), ("listen_time", pa.timestamp("us", tz="UTC"))]
)
# Written like the ingest's files.
WRITER_OPTIONS: dict[str, Any] = {
    "use_dictionary": False,
    "column_encoding": {"listen_time": "DELTA_BINARY_PACKED"},
    "compression": "none",
}
SONG_TYPES = {
    "track_id": pa.string(),
    "track_name": pa.string(),
    "artists": pa.string(),
    "track_genre": pa.string(),
    "duration_ms": pa.int64(),
    "popularity": pa.int64(),
}
USER_TYPES = {"user_id": pa.string(), "user_name": pa.string(), "user_country": pa.string()}


@dataclass(frozen=True)
class Population:
    """The users' and tracks' ids, and the cumulated weights of the tracks."""

    users: pa.StringArray
    known_users: int
    tracks: pa.StringArray
    popularity: npt.NDArray[np.int64]


def count_of(size: str) -> int:
    """Return the number of listens for a size such as `34k` or `10M`.

    Raises:
        ValueError: the text is not a size.
    """
    match = re.fullmatch(r"([1-9]\d*)([kM]?)", size)
    if not match:
        raise ValueError(f"{size!r} is not a number of listens; write one like 500, 34k or 10M")
    return int(match[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[match[2]]


def write_population(
    folder: Path, listens: int, rng: np.random.Generator, tracks: int = MOST_TRACKS
) -> Population:
    """Write `songs/songs.csv` and `users/users.csv` for this number of listens."""
    for name in ("songs", "users"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    known = max(FEWEST_USERS, listens // LISTENS_OF_A_USER)
    made = make_tracks(rng, tracks)
    write_songs(folder / "songs" / "songs.csv", made, rng)
    write_users(folder / "users" / "users.csv", known, rng)
    return Population(
        users=pa.array(np.arange(1, known + known // 10 + 1)).cast(pa.string()),
        known_users=known,
        tracks=pa.array(made.track_ids),
        popularity=np.cumsum(10**12 // (np.arange(tracks, dtype=np.int64) + 50)),
    )


def draw_listens(
    population: Population,
    count: int,
    rng: np.random.Generator,
    share_of_days: Sequence[float] = SHARE_OF_DAYS,
) -> Iterator[pa.Table]:
    """Yield `count` unordered listens, as tables of up to `ROWS_PER_CHUNK` rows."""
    for first in range(0, count, ROWS_PER_CHUNK):
        rows = min(ROWS_PER_CHUNK, count - first)
        user = rng.integers(0, population.known_users, rows)
        stranger = rng.integers(population.known_users, len(population.users), rows)
        user = np.where(rng.integers(0, 100, rows) == 0, stranger, user)
        track = np.searchsorted(
            population.popularity, rng.integers(0, population.popularity[-1], rows), side="right"
        )
        day = np.searchsorted(np.cumsum(share_of_days[:-1]), rng.random(rows), side="right")
        second = FIRST_DAY.astype(np.int64) + day * 86_400 + rng.integers(0, 86_400, rows)
        # The last hundredth of the rows repeats others.
        last, repeated = rows - rows // 100, rng.integers(0, rows, rows // 100)
        for column in (user, track, second):
            column[last:] = column[repeated]
        yield pa.table(
            [
                population.users.take(pa.array(user)),
                population.tracks.take(pa.array(track)),
                pa.array(second * 1_000_000).cast(pa.timestamp("us", tz="UTC")),
            ],
            schema=LISTENS,
        )


def write_run(
    folder: Path,
    listens: int,
    *,
    with_csv: bool = False,
    tracks: int = MOST_TRACKS,
    users_of: int | None = None,
    share_of_days: Sequence[float] = SHARE_OF_DAYS,
) -> None:
    """Write a run's input below `folder/input`; on request, also the same rows as CSV below `folder/csv`.

    `users_of` is the number of listens whose users the catalog has, usually those of the run itself.
    """
    rng = np.random.default_rng(SEED)
    population = write_population(folder / "csv", users_of or listens, rng, tracks)
    source = folder / "input"
    manifest = {
        name: {"objects": [f"{name}/part-00000.parquet"], "rows": _write_catalog(folder, name, types)}
        for name, types in (("songs", SONG_TYPES), ("users", USER_TYPES))
    }
    (source / "listens").mkdir()
    (folder / "csv" / "streams").mkdir()
    objects: list[str] = []
    writer: pq.ParquetWriter | None = None
    for number, table in enumerate(draw_listens(population, listens, rng, share_of_days)):
        if number % (ROWS_PER_PART // ROWS_PER_CHUNK) == 0:
            objects.append(f"listens/part-{len(objects):05d}.parquet")
            if writer:
                writer.close()
            writer = pq.ParquetWriter(source / objects[-1], LISTENS, **WRITER_OPTIONS)
        assert writer
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        if with_csv:
            _write_csv(folder / "csv" / "streams" / f"streams{number:04d}.csv", table)
    if writer:
        writer.close()
    manifest["listens"] = {"objects": objects, "rows": listens}
    (source / "manifest.json").write_text(json.dumps({"run_key": "bench", **manifest}))


def write_day(path: Path, listens: pa.Table) -> None:
    """Write a file of listens in the form in which a run adds them to the history."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(listens, path, row_group_size=ROWS_PER_GROUP)


def _write_catalog(folder: Path, name: str, types: dict[str, pa.DataType]) -> int:
    rows = csv.read_csv(
        folder / "csv" / name / f"{name}.csv",
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
        ),
    )
    path = folder / "input" / name / "part-00000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(rows.add_column(0, "row_id", [pa.array(np.arange(len(rows)))]), path)
    return len(rows)


def _write_csv(path: Path, listens: pa.Table) -> None:
    times = listens["listen_time"].cast(pa.timestamp("s")).cast(pa.string())
    lines = pc.binary_join_element_wise(listens["user_id"], listens["track_id"], times, ",").combine_chunks()
    with path.open("wb") as file:
        file.write(b"user_id,track_id,listen_time\n")
        file.write(pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")[0].as_buffer())
        file.write(b"\n")
