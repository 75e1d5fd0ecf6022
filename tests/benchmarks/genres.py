"""The Glue job's time for catalogs of few and many genres: it must not grow with the number of genres.

Each track has four genres. The number of listens, tracks and catalog rows stays the same.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq

from tests.benchmarks.glue_process import glue_command, glue_environment
from tests.benchmarks.harness import Contender, Measurement, alternate
from tests.benchmarks.listens_data import count_of, write_run

SIZES = ("60k",)
# A catalog of sample data has 114; music services have some thousands, and free tags more.
GENRES = (6_000, 1_000, 114)
TRACKS, GENRES_PER_TRACK = 5_000, 4
check_size = count_of


def measure(size: str, repeat: int, folder: Path) -> list[Measurement]:
    """Measure this number of listens with catalogs of each number of genres."""
    environment = glue_environment(folder)
    contenders = []
    for genres in GENRES:
        run = folder / str(genres)
        write_run(run, count_of(size), tracks=TRACKS)
        _give_genres(run / "input", genres)
        contenders.append(Contender(f"{genres:,} genres", glue_command(run, run / "history"), environment))
    return alternate("genres", f"{size} listens", contenders, repeat)


def _give_genres(source: Path, genres: int) -> None:
    """Replace the catalog's rows by `GENRES_PER_TRACK` rows for each of its tracks."""
    path = source / "songs" / "part-00000.parquet"
    songs = pq.read_table(path)
    first = np.unique(songs["track_id"].to_numpy(), return_index=True)[1]
    songs = songs.take(np.repeat(first, GENRES_PER_TRACK))
    names = pa.array([f"genre {row % genres}" for row in range(len(songs))])
    for name, column in (("row_id", pa.array(np.arange(len(songs)))), ("track_genre", names)):
        songs = songs.set_column(songs.column_names.index(name), name, column)
    pq.write_table(songs, path)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["songs"]["rows"] = len(songs)
    (source / "manifest.json").write_text(json.dumps(manifest))
