"""Sample data in the shape of a real delivery, with the faults of real data planted in it.

`write_sample_data` writes `streams/*.csv`, `songs/songs.csv` and `users/users.csv`. It returns what it
planted, so a test or a reader can compare that with the pipeline's results. The same seed and sizes give the
same bytes. `python -m include.sample_data OUT_DIR` does the same from the command line.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from include.sample_data.catalogs import make_tracks, write_songs, write_users
from include.sample_data.streams import (
    BROKEN_ROW_KINDS,
    FIRST_DAY,
    MISNAMED_HEADER,
    STREAM_HEADER,
    DayTotals,
    Population,
    StreamFile,
    write_streams,
)

__all__ = [
    "BROKEN_ROW_KINDS",
    "FIRST_DAY",
    "MISNAMED_HEADER",
    "STREAM_HEADER",
    "DayTotals",
    "SampleData",
    "StreamFile",
    "write_sample_data",
]

PLANTED_FILE = "planted.json"
MIN_LISTENS_PER_DAY = 300
MIN_DAYS = 2
MIN_TRACKS = 200
MIN_USERS = 10


@dataclass(frozen=True)
class SampleData:
    """The contents of a sample; `planted.json` in its folder has the same.

    Attributes:
        stream_files: the files in `streams/`, ordered by number.
        days: listen day (`YYYY-MM-DD`) to its totals over all files except the misnamed one. The pipeline
            must find these.
        song_rows: rows of `songs.csv`; a track under two genres has two.
        tracks_not_in_catalog: tracks with listens but without a row in `songs.csv`.
        tracks_with_two_genres: tracks with two rows in `songs.csv`.
        user_rows: rows of `users.csv`.
    """

    stream_files: tuple[StreamFile, ...]
    days: dict[str, DayTotals]
    song_rows: int
    tracks_not_in_catalog: int
    tracks_with_two_genres: int
    user_rows: int

    @property
    def accepted_files(self) -> tuple[StreamFile, ...]:
        """The files with the right columns: all except the misnamed one."""
        return tuple(file for file in self.stream_files if file.kind != "misnamed")

    @property
    def late_file(self) -> StreamFile:
        """The file with listens of the first day that comes after files of later days."""
        return next(file for file in self.stream_files if file.kind == "late")

    @property
    def misnamed_file(self) -> StreamFile:
        """The file with a misnamed `listen_time` column; the pipeline quarantines it."""
        return next(file for file in self.stream_files if file.kind == "misnamed")

    @property
    def rows(self) -> int:
        """Data rows of all stream files."""
        return sum(file.rows for file in self.stream_files)

    @property
    def broken_rows(self) -> int:
        """Rows that the pipeline rejects one by one."""
        return sum(file.broken for file in self.accepted_files)

    @property
    def repeated_rows(self) -> int:
        """Rows whose listen already appears in another row of an accepted file."""
        return sum(file.repeated_rows for file in self.accepted_files)

    @property
    def distinct_listens(self) -> int:
        """Listens that the pipeline must count, over all days."""
        return sum(day.listens for day in self.days.values())


def write_sample_data(
    out_dir: str | Path,
    *,
    listens: int = 34_000,
    days: int = 3,
    tracks: int = 10_000,
    users: int = 50_000,
    seed: int = 7,
) -> SampleData:
    """Write a sample into `out_dir` and return what was planted.

    Args:
        out_dir: created if missing. A folder that an earlier call wrote is overwritten. Any other folder that
            is not empty is refused, so real data is never overwritten.
        listens: data rows over all stream files, including broken and repeated ones.
        days: number of listen days, from 2024-06-25 on.
        tracks: number of tracks with listens; about 0.5% of them are not in `songs.csv`.
        users: rows of `users.csv`; about 1% of the listens are by users who are not in it.
        seed: the same seed and sizes give the same bytes.

    Raises:
        ValueError: a size is too small for the planted faults. The message names it and its minimum.
        FileExistsError: `out_dir` is a file, or holds files that this function did not write.
    """
    for name, value, minimum in (
        ("days", days, MIN_DAYS),
        ("listens", listens, MIN_LISTENS_PER_DAY * max(days, MIN_DAYS)),
        ("tracks", tracks, MIN_TRACKS),
        ("users", users, MIN_USERS),
        ("seed", seed, 0),
    ):
        if value < minimum:
            raise ValueError(f"{name} is {value}; it must be at least {minimum}.")

    root = Path(out_dir)
    _prepare(root)
    # Each file kind has its own generator, so a different number of listens leaves the catalogs the same.
    for_tracks, for_users, for_streams = np.random.default_rng(seed).spawn(3)
    catalog = make_tracks(for_tracks, tracks)
    song_rows = write_songs(root / "songs" / "songs.csv", catalog, for_tracks)
    write_users(root / "users" / "users.csv", users, for_users)
    population = Population.of(catalog.track_ids, catalog.in_catalog, users)
    stream_files, totals = write_streams(root / "streams", population, listens, days, for_streams)
    planted = SampleData(
        stream_files=tuple(stream_files),
        days=totals,
        song_rows=song_rows,
        tracks_not_in_catalog=int(np.count_nonzero(~catalog.in_catalog)),
        tracks_with_two_genres=int(np.count_nonzero(catalog.second_genre >= 0)),
        user_rows=users,
    )
    _write_planted(root, asdict(planted))
    return planted


def _prepare(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} is a file; name a folder to write the sample into.")
    ours = (root / PLANTED_FILE).is_file()
    if root.is_dir() and not ours and any(root.iterdir()):
        raise FileExistsError(
            f"The folder {root} is not empty and has no {PLANTED_FILE}, so this program did not write "
            "it, and it was not changed. Name a new or empty folder."
        )
    for name in ("streams", "songs", "users"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for stale in (root / "streams").glob("streams[0-9]*.csv"):
        stale.unlink()
    # Written before the data, so an interrupted sample can be written again.
    _write_planted(root, {})


def _write_planted(root: Path, content: dict[str, object]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    (root / PLANTED_FILE).write_text(text, encoding="utf-8")
