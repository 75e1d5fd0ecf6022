"""Sample data in the shape of a real delivery, with everything planted in it that goes wrong in real life.

`write_sample_data` writes `streams/*.csv`, `songs/songs.csv` and `users/users.csv`, and returns what it
planted, so that a test or a reader can compare what the pipeline made of it. The same seed and sizes
give the same bytes. `python -m include.sample_data OUT_DIR` does the same from the command line.
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
    """What a sample holds; `planted.json` in its folder says the same.

    Attributes:
        stream_files: the files in `streams/`, in the order of their numbers.
        days: listen day (`YYYY-MM-DD`) to its totals over all files but the misnamed one: what the
            pipeline must find.
        song_rows: rows of `songs.csv`; a track under two genres has two.
        tracks_not_in_catalog: tracks that are listened to but have no row in `songs.csv`.
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
        """The files with the right columns: all but the misnamed one."""
        return tuple(file for file in self.stream_files if file.kind != "misnamed")

    @property
    def late_file(self) -> StreamFile:
        """The file that comes after those of later days, with listens of the first day."""
        return next(file for file in self.stream_files if file.kind == "late")

    @property
    def misnamed_file(self) -> StreamFile:
        """The file whose `listen_time` column has another name; the pipeline quarantines it."""
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
        """Rows whose listen another row of an accepted file already has."""
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
        out_dir: is made when missing. A folder that an earlier call wrote is written anew; any other
            folder that is not empty is refused, so real data is never overwritten.
        listens: data rows over all stream files, broken and repeated ones included.
        days: listen days, from 2024-06-25 on.
        tracks: tracks that can be listened to; about 0.5% of them are not in `songs.csv`.
        users: rows of `users.csv`; about 1% of the listens are by users who are not in it.
        seed: the same seed and sizes give the same bytes.

    Raises:
        ValueError: a size is too small for what is planted. The message names it and its minimum.
        FileExistsError: `out_dir` is a file, or holds something that this function did not write.
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
    # One generator each, so that the catalogs stay the same when only the number of listens changes.
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
            f"The folder {root} is not empty and has no {PLANTED_FILE}, so it is no sample written by this "
            "program and is left as it is. Name a new or empty folder."
        )
    for name in ("streams", "songs", "users"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for stale in (root / "streams").glob("streams[0-9]*.csv"):
        stale.unlink()
    # Written before the data, so that a sample whose writing was interrupted can be written again.
    _write_planted(root, {})


def _write_planted(root: Path, content: dict[str, object]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    (root / PLANTED_FILE).write_text(text, encoding="utf-8")
