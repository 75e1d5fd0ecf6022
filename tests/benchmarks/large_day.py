"""The Glue job's time for 100 thousand listens of the last hour of a day that has many already.

Contenders: the job that continues from the day's snapshot if the day is large, the job that finds none, and
DuckDB, which computes the day's items from the same Parquet.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq

from tests.benchmarks import duckdb_job
from tests.benchmarks.glue_process import CORES, glue_command, glue_environment
from tests.benchmarks.harness import Contender, Measurement, alternate
from tests.benchmarks.listens_data import (
    FIRST_DAY,
    LISTENS,
    SEED,
    count_of,
    draw_listens,
    write_day,
    write_population,
    write_run,
)

# Number of listens that the day has before.
SIZES = ("100k", "1M", "10M")
BATCH, HOURS, SECONDS = 100_000, 24, 3_600
check_size = count_of


def measure(size: str, repeat: int, folder: Path) -> list[Measurement]:
    """Measure a batch of the last hour, after a day of hourly batches."""
    daily = count_of(size)
    history = folder / "history"
    write_hours(history, daily, folder)
    store_batch_before(history, daily, folder)
    write_batch(folder, daily, hour=HOURS - 1)
    environment, by_duckdb = glue_environment(folder), folder / "duckdb"
    command = glue_command(folder, history)
    duckdb_command = [sys.executable, duckdb_job.__file__, str(folder / "input"), str(by_duckdb), str(CORES)]
    return alternate(
        "large_day",
        f"{size} before",
        [
            Contender("Glue job", command, environment),
            Contender(
                "Glue job without snapshot",
                [*command, "--S3_SNAPSHOTS_PATH", f"{folder.as_uri()}/none"],
                environment,
                prepare=lambda: shutil.rmtree(folder / "none", ignore_errors=True),
            ),
            Contender(
                "DuckDB",
                [*duckdb_command, str(history)],
                prepare=lambda: shutil.rmtree(by_duckdb, ignore_errors=True),
            ),
        ],
        repeat,
    )


def write_hours(history: Path, daily: int, folder: Path) -> None:
    """Write the day's history: a file of each hour."""
    population = write_population(folder / "catalogs", daily, np.random.default_rng(SEED))
    draw = np.random.default_rng(SEED + 1)
    listens = pa.concat_tables(draw_listens(population, daily, draw, share_of_days=(1.0,)))
    for hour in range(HOURS):
        start = daily * hour // HOURS
        rows = listens.slice(start, daily * (hour + 1) // HOURS - start)
        write_day(
            history / f"listen_date={FIRST_DAY.astype('M8[D]')}" / f"hour-{hour:02d}__0.parquet",
            in_hour(rows, hour),
        )


def store_batch_before(history: Path, daily: int, folder: Path) -> None:
    """Run the job for a batch of the hour before and add its listens to the history, as the pipeline does."""
    write_batch(folder, daily, hour=HOURS - 2)
    command = [*glue_command(folder, history), "--BATCH_ID", "before"]
    subprocess.run(command, env=glue_environment(folder), capture_output=True, check=True)
    for path in (folder / "output" / "listens").rglob("*.parquet"):
        shutil.copy(path, history / path.parent.name / f"before__{path.name}")


def write_batch(folder: Path, daily: int, hour: int) -> None:
    """Write a run's input of `BATCH` listens of this hour, with the catalogs of the whole day."""
    for name in ("input", "csv"):
        shutil.rmtree(folder / name, ignore_errors=True)
    write_run(folder, BATCH, users_of=daily, share_of_days=(1.0,))
    for path in (folder / "input" / "listens").iterdir():
        pq.write_table(in_hour(pq.read_table(path), hour), path)


def in_hour(listens: pa.Table, hour: int) -> pa.Table:
    """Move the listens of a day into this hour of it."""
    seconds = listens["listen_time"].cast(pa.int64()).to_numpy() // 1_000_000
    midnight = FIRST_DAY.astype(np.int64)
    moved = midnight + hour * SECONDS + (seconds - midnight) % SECONDS
    column = LISTENS.get_field_index("listen_time")
    return listens.set_column(
        column, LISTENS.field(column), pa.array(moved * 1_000_000).cast(LISTENS.field(column).type)
    )
