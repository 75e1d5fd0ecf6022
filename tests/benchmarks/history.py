"""The Glue job's time for 1,000 late listens of one day: does it grow with the history, or with its files?

Cases: the same batch with 1, 30 and 365 days of history of the same daily size, and a day whose listens are
in 500 small files instead of a few.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.benchmarks.glue_process import glue_command, glue_environment
from tests.benchmarks.harness import Contender, Measurement, alternate
from tests.benchmarks.listens_data import SEED, count_of, draw_listens, write_day, write_population, write_run

# Number of listens of each day of the history.
SIZES = ("100k",)
BATCH, FEW_FILES, MANY_FILES = 1_000, 4, 500
DAYS = (365, 30, 1)
FIRST_DAY = np.datetime64("2024-06-25")
check_size = count_of


def measure(size: str, repeat: int, folder: Path) -> list[Measurement]:
    """Measure a batch of one day beside histories of several lengths, and of several numbers of files."""
    daily = count_of(size)
    write_batch(folder, daily)
    of_lengths = measure_cases(
        f"{size} listens a day", {f"{days} days": (days, FEW_FILES) for days in DAYS}, daily, repeat, folder
    )
    of_files = measure_cases(
        f"a day of {size} listens",
        {f"{n} files": (1, n) for n in (MANY_FILES, FEW_FILES)},
        daily,
        repeat,
        folder,
    )
    return of_lengths + of_files


def measure_cases(
    case: str, histories: Mapping[str, tuple[int, int]], daily: int, repeat: int, folder: Path
) -> list[Measurement]:
    """Measure the batch beside each history: how many days it has, and how many files a day."""
    environment = glue_environment(folder)
    contenders, facts = [], []
    for name, (days, files) in histories.items():
        history = folder / f"history-of-{days}-in-{files}"
        write_history(history, daily, days, files)
        sizes = [path.stat().st_size for path in history.rglob("*.parquet")]
        facts.append({"history files": len(sizes), "MB": round(sum(sizes) / 1e6, 1)})
        contenders.append(Contender(name, glue_command(folder, history), environment))
    measurements = alternate("history", case, contenders, repeat)
    for measurement, of_history in zip(measurements, facts, strict=True):
        measurement.facts.update(of_history)
    return measurements


def write_batch(folder: Path, daily: int) -> None:
    """Write a run of `BATCH` listens of the first day, with the catalogs of the whole day."""
    write_run(folder, BATCH, users_of=daily, share_of_days=(1.0,))


def write_history(folder: Path, daily: int, days: int, files: int) -> None:
    """Write that many days, the batch's day first, each of the same size and with that many files."""
    # The catalogs are the batch's; the listens are others.
    population = write_population(folder / "catalogs", daily, np.random.default_rng(SEED))
    draw = np.random.default_rng(SEED + 1)
    listens = pa.concat_tables(draw_listens(population, daily, draw, share_of_days=(1.0,)))
    for day in range(days):
        later = pc.add(listens["listen_time"], pa.scalar(np.timedelta64(day, "D").astype("timedelta64[us]")))
        of_day = listens.set_column(2, "listen_time", later.cast(listens["listen_time"].type))
        for file in range(files):
            part = of_day.slice(daily * file // files, daily * (file + 1) // files - daily * file // files)
            write_day(folder / f"listen_date={FIRST_DAY + day}" / f"run-{file:03d}__0.parquet", part)
