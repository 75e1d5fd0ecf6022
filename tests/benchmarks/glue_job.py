"""The Glue job, compared with a plain Spark job from CSV and with DuckDB from the same Parquet.

All use the same number of cores. The time is that of the whole process, including the start of the JVM, as
for a run on Glue.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.benchmarks import duckdb_job, plain_spark_job
from tests.benchmarks.glue_process import CORES, glue_command, glue_environment
from tests.benchmarks.harness import Contender, Measurement, alternate
from tests.benchmarks.listens_data import count_of, write_run

SIZES = ("34k", "1M", "10M", "50M")
check_size = count_of


def measure(size: str, repeat: int, folder: Path) -> list[Measurement]:
    """Measure a first batch of this many listens over three days."""
    write_run(folder, count_of(size), with_csv=True)
    plain, by_duckdb = folder / "plain", folder / "duckdb"
    duckdb_command = [sys.executable, duckdb_job.__file__, str(folder / "input"), str(by_duckdb), str(CORES)]
    plain_command = [sys.executable, plain_spark_job.__file__, (folder / "csv").as_uri(), plain.as_uri()]
    environment = glue_environment(folder)
    measurements = alternate(
        "glue_job",
        size,
        [
            Contender("Glue job", glue_command(folder, folder / "history"), environment),
            Contender("plain Spark from CSV", plain_command, environment),
            Contender("DuckDB", duckdb_command, prepare=lambda: shutil.rmtree(by_duckdb, ignore_errors=True)),
        ],
        repeat,
    )
    sizes = {name: sum(f.stat().st_size for f in (folder / name).rglob("*.*")) for name in ("input", "csv")}
    for measurement in measurements:
        read = "csv" if "CSV" in measurement.contender else "input"
        measurement.facts["MB read"] = sizes[read] // 1_000_000
        measurement.facts["us per listen"] = round(measurement.median_seconds / count_of(size) * 1e6, 2)
    return measurements
