"""The stream files: random listens with the faults of real deliveries, written file by file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

FIRST_DAY = date(2024, 6, 25)
ROWS_PER_FILE = 1_000_000
STREAM_HEADER = "user_id,track_id,listen_time"
MISNAMED_HEADER = "user_id,track_id,played_at"
BROKEN_ROW_KINDS = ("empty_user_id", "empty_track_id", "impossible_listen_time", "short_row")

SECONDS_PER_DAY = 86_400
# Relative listens per second for each hour: a quiet night, two commutes, a busy evening.
HOURLY_WEIGHTS = np.array(
    [3, 2, 1, 1, 1, 2, 4, 7, 9, 8, 7, 7, 8, 8, 7, 7, 8, 10, 12, 13, 14, 13, 10, 6], dtype=np.int64
)
HOUR_STARTS = np.concatenate(([0], np.cumsum(3_600 * HOURLY_WEIGHTS)))
IMPOSSIBLE_TIMES = ("2024-02-30 10:15:00", "2024-06-25 25:61:07", "0000-00-00 00:00:00", "yesterday")

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
FileKind = Literal["daily", "late", "misnamed"]


@dataclass(frozen=True)
class StreamFile:
    """A file in `streams/`.

    Attributes:
        name: file name, such as `streams1.csv`.
        kind: `daily`; `late`: holds listens of a day that earlier files already covered; `misnamed`: has no
            `listen_time` column.
        rows: data rows, including broken and repeated ones.
        broken_rows: kind of fault to number of rows that have it.
        repeated_rows: valid rows whose listen already appears in another row of this or an earlier file.
    """

    name: str
    kind: FileKind
    rows: int
    broken_rows: dict[str, int]
    repeated_rows: int

    @property
    def broken(self) -> int:
        """Broken rows of every kind."""
        return sum(self.broken_rows.values())


@dataclass(frozen=True)
class DayTotals:
    """A day's distinct listens, and how many of them have a track or user that no catalog has."""

    listens: int = 0
    unmatched_track_listens: int = 0
    unmatched_user_listens: int = 0


@dataclass(frozen=True)
class Population:
    """The users and tracks. Listens refer to them by their position here.

    Attributes:
        user_ids: the users of the catalog, then those it does not have.
        known_users: number of users in the catalog.
        track_ids: the most popular first.
        track_in_catalog: whether each track is in the catalog.
    """

    user_ids: pa.StringArray
    known_users: int
    track_ids: pa.StringArray
    track_in_catalog: Booleans

    @classmethod
    def of(cls, track_ids: list[str], track_in_catalog: Booleans, known_users: int) -> Population:
        """Create the population of `known_users` (ids from 1) and some users beyond them."""
        everyone = known_users + max(1, known_users // 100)
        user_ids = pa.array(np.arange(1, everyone + 1)).cast(pa.string())
        return cls(user_ids, known_users, pa.array(track_ids), track_in_catalog)


@dataclass(frozen=True)
class Listens:
    """Listens as arrays of equal length: seconds since 1970 in UTC, and positions of user and track."""

    second: Integers
    user: Integers
    track: Integers

    def __len__(self) -> int:
        return len(self.second)

    def __getitem__(self, rows: slice | Integers) -> Listens:
        return Listens(self.second[rows], self.user[rows], self.track[rows])

    def some(self, rng: np.random.Generator, count: int) -> Listens:
        """Draw `count` listens, with replacement."""
        return self[rng.integers(0, len(self), count)]

    def __add__(self, other: Listens) -> Listens:
        return Listens(
            np.concatenate([self.second, other.second]),
            np.concatenate([self.user, other.user]),
            np.concatenate([self.track, other.track]),
        )


@dataclass(frozen=True)
class _Part:
    """One file's share of a day: the seconds of the day from `first` up to, but not including, `end`."""

    day: int
    first: int
    end: int
    rows: int


def write_streams(
    folder: Path, population: Population, rows: int, days: int, rng: np.random.Generator
) -> tuple[list[StreamFile], dict[str, DayTotals]]:
    """Write `streams1.csv`, `streams2.csv`, ... into `folder`, with one file in memory at a time.

    Each daily file covers a stretch of one day. It repeats a few of its own rows and a few of the file before
    it, and has a few broken rows. The last two files have the rows that the first and the last day held back:
    a late file, and one with a wrong header.

    Raises:
        ValueError: there are too few users and tracks for this number of different listens.
    """
    popularity = _popularity(len(population.track_ids))
    side_rows = max(20, min(rows // 50, ROWS_PER_FILE // 10))
    late_repeats = max(1, side_rows // 20)
    parts = list(_parts(rows - 2 * side_rows, days))
    end_of_first_day = [part for part in parts if part.day == 0][-1]
    held_back = {end_of_first_day: side_rows - late_repeats, parts[-1]: side_rows}
    names = (folder / f"streams{number}.csv" for number in itertools.count(1))

    files: list[StreamFile] = []
    totals: dict[str, DayTotals] = {}
    earlier: Listens | None = None
    for part in parts:
        of_a_kind = max(1, part.rows // 1_000)
        broken = of_a_kind * len(BROKEN_ROW_KINDS)
        twice = max(1, part.rows // 200)
        again = max(1, part.rows // 500) if earlier else 0
        fresh = part.rows - broken - twice - again
        drawn = _different_listens(rng, population, popularity, part, fresh + held_back.get(part, 0))
        listens = drawn[:fresh]
        valid = listens + listens.some(rng, twice)
        if earlier:
            valid += earlier.some(rng, again)
        lines = [_lines(population, valid), _broken_lines(_lines(population, listens.some(rng, broken)))]
        faults = dict.fromkeys(BROKEN_ROW_KINDS, of_a_kind)
        files.append(_write(next(names), "daily", pa.concat_arrays(lines), rng, faults, twice + again))
        _count(totals, part.day, population, listens)
        earlier = listens
        if part == end_of_first_day:
            late = drawn[fresh:]
            _count(totals, part.day, population, late)
            late += listens.some(rng, late_repeats)

    files.append(_write(next(names), "late", _lines(population, late), rng, {}, late_repeats))
    files.append(_write(next(names), "misnamed", _lines(population, drawn[fresh:]), rng, {}, 0))
    return files, totals


def _popularity(tracks: int) -> Integers:
    """Return cumulated weights of the tracks: Zipf's law, flattened so no track has a tenth of all listens.

    The weights are whole numbers, because rounding of fractions may differ between processors.
    """
    return np.cumsum(10**12 // (np.arange(tracks, dtype=np.int64) + 5))


def _parts(rows: int, days: int) -> Iterator[_Part]:
    total = int(HOUR_STARTS[-1])
    for day in range(days):
        rows_of_day = rows * (day + 1) // days - rows * day // days
        count = -(-rows_of_day // ROWS_PER_FILE)
        for number in range(count):
            first, end = (total * edge // count for edge in (number, number + 1))
            yield _Part(
                day=day,
                first=int(_second_of_day(np.array([first]))[0]),
                end=SECONDS_PER_DAY if number == count - 1 else int(_second_of_day(np.array([end]))[0]),
                rows=rows_of_day * (number + 1) // count - rows_of_day * number // count,
            )


def _second_of_day(weight: Integers) -> Integers:
    """Return the second at which the day's cumulated weight passes `weight`."""
    hour = np.searchsorted(HOUR_STARTS, weight, side="right") - 1
    second: Integers = hour * 3_600 + (weight - HOUR_STARTS[hour]) // HOURLY_WEIGHTS[hour]
    return second


def _weight_before(second: int) -> int:
    if second == SECONDS_PER_DAY:
        return int(HOUR_STARTS[-1])
    hour, rest = divmod(second, 3_600)
    return int(HOUR_STARTS[hour] + rest * HOURLY_WEIGHTS[hour])


def _different_listens(
    rng: np.random.Generator, population: Population, popularity: Integers, part: _Part, count: int
) -> Listens:
    """Draw listens without duplicates; parts do not overlap, so their listens differ too."""
    users, tracks = len(population.user_ids), len(population.track_ids)
    keys = np.empty(0, dtype=np.int64)
    for _ in range(10):
        wanted = count - len(keys) + count // 100 + 100
        weight = rng.integers(_weight_before(part.first), _weight_before(part.end), wanted)
        user = rng.integers(0, population.known_users, wanted)
        stranger = rng.integers(population.known_users, users, wanted)
        user = np.where(rng.integers(0, 100, wanted) == 0, stranger, user)
        track = np.searchsorted(popularity, rng.integers(0, popularity[-1], wanted), side="right")
        keys = np.unique(np.concatenate([keys, (_second_of_day(weight) * users + user) * tracks + track]))
        if len(keys) >= count:
            break
    else:
        raise ValueError(
            f"{users} users and {tracks} tracks do not give {count} different listens in one file; "
            "ask for fewer listens, or for more users, tracks or days."
        )
    rest, track = np.divmod(rng.permutation(keys)[:count], tracks)
    second, user = np.divmod(rest, users)
    midnight = datetime.combine(FIRST_DAY + timedelta(days=part.day), datetime.min.time(), UTC)
    return Listens(second + int(midnight.timestamp()), user, track)


def _lines(population: Population, listens: Listens) -> pa.StringArray:
    return pc.binary_join_element_wise(
        population.user_ids.take(pa.array(listens.user)),
        population.track_ids.take(pa.array(listens.track)),
        pa.array(listens.second).cast(pa.timestamp("s")).cast(pa.string()),
        ",",
    )


def _broken_lines(lines: pa.StringArray) -> pa.StringArray:
    """Break each line in one way; the kinds take turns."""
    broken = []
    for number, line in enumerate(lines.to_pylist()):
        user_id, track_id, listen_time = line.split(",")
        turn, kind = divmod(number, len(BROKEN_ROW_KINDS))
        impossible = IMPOSSIBLE_TIMES[turn % len(IMPOSSIBLE_TIMES)]
        fields = {
            "empty_user_id": ("", track_id, listen_time),
            "empty_track_id": (user_id, "", listen_time),
            "impossible_listen_time": (user_id, track_id, impossible),
            "short_row": (user_id, track_id),
        }[BROKEN_ROW_KINDS[kind]]
        broken.append(",".join(fields))
    return pa.array(broken, type=pa.string())


def _write(
    path: Path,
    kind: FileKind,
    lines: pa.StringArray,
    rng: np.random.Generator,
    broken_rows: dict[str, int],
    repeated_rows: int,
) -> StreamFile:
    shuffled = lines.take(pa.array(rng.permutation(len(lines))))
    text = pc.binary_join(pa.ListArray.from_arrays([0, len(shuffled)], shuffled), "\n")[0]
    header = MISNAMED_HEADER if kind == "misnamed" else STREAM_HEADER
    with path.open("wb") as file:
        file.write(f"{header}\n".encode())
        file.write(text.as_buffer())
        file.write(b"\n")
    return StreamFile(path.name, kind, len(lines), broken_rows, repeated_rows)


def _count(totals: dict[str, DayTotals], day: int, population: Population, listens: Listens) -> None:
    name = (FIRST_DAY + timedelta(days=day)).isoformat()
    before = totals.get(name, DayTotals())
    totals[name] = DayTotals(
        listens=before.listens + len(listens),
        unmatched_track_listens=before.unmatched_track_listens
        + int(np.count_nonzero(~population.track_in_catalog[listens.track])),
        unmatched_user_listens=before.unmatched_user_listens
        + int(np.count_nonzero(listens.user >= population.known_users)),
    )
