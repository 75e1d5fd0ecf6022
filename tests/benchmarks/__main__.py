"""`make bench`: measures the pipeline beside its references; prints a table and writes it as JSON.

python -m tests.benchmarks [PART ...] [--sizes SIZE ...] [--repeat N] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, cast

from rich.console import Console
from rich.table import Table

from include.commands.environment import DAGS_DIR, PLUGINS_DIR
from include.local_aws.java import find_java_home
from include.local_aws.spark_environment import class_archive_of
from tests.benchmarks.harness import Measurement

PARTS = ("ingest", "glue_job", "genres", "history", "orchestration", "dag_parsing", "kpi_writer")
WIDTH_OF_A_FILE = 160
RESULTS = Path(".local") / "benchmarks.json"


class Part(Protocol):
    """The interface of a module of `PARTS`."""

    SIZES: Sequence[str]

    def check_size(self, size: str) -> object:
        """Raise a ValueError that describes a size, unless this is one."""
        ...

    def measure(self, size: str, repeat: int, folder: Path) -> list[Measurement]:
        """Create the data of this size in the empty folder and measure; the first contender is ours."""
        ...


def main() -> None:
    """Measure the named parts, or all, and report."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measures the pipeline beside references")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none")
    parser.add_argument("--sizes", nargs="+", metavar="SIZE", help="in place of the part's own sizes")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each contender (default 3)")
    parser.add_argument(
        "--json", type=Path, default=RESULTS, help=f"where the figures go (default {RESULTS})"
    )
    options = parser.parse_args()
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    if options.repeat < 1:
        parser.error("--repeat must be 1 or more")
    # Airflow imports the tasks' modules as `helpers`.
    sys.path += map(str, (DAGS_DIR, PLUGINS_DIR))
    # All sizes are checked first, so a wrong one does not end a measurement of hours.
    parts: dict[Part, Sequence[str]] = {}
    for name in options.parts or PARTS:
        part = cast(Part, importlib.import_module(f"tests.benchmarks.{name}"))
        parts[part] = options.sizes or part.SIZES
        try:
            for size in parts[part]:
                part.check_size(size)
        except ValueError as error:
            parser.error(f"{name}: {error}")
    # Airflow's hooks log every connection.
    logging.disable(logging.INFO)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_OF_A_FILE)
    if not has_class_archive():
        console.print(
            "Spark starts without an archive of its classes here, seconds later than in docs/performance.md. "
            "To write it: .venv/bin/python -m include.local_aws.class_archive"
        )
    measurements: list[Measurement] = []
    for part, sizes in parts.items():
        for size in sizes:
            with tempfile.TemporaryDirectory(prefix="music-streaming-bench-") as folder:
                measured = part.measure(size, options.repeat, Path(folder))
            console.print(table_of(measured))
            measurements += measured
            # Written after each size, because a long run may be interrupted.
            write_json(measurements, options.json)
    console.print(f"Written to {options.json}")


def table_of(measurements: Sequence[Measurement]) -> Table:
    """Return medians, the ratio of ours (each case's first contender) to each, and peak memory."""
    table = Table(title=f"{measurements[0].part}")
    for column in ("case", "contender", "seconds (median)", "ours / this", "peak MiB", "facts"):
        table.add_column(column, justify="left" if column in ("case", "contender", "facts") else "right")
    ours: dict[str, float] = {}
    for measurement in measurements:
        first = ours.setdefault(measurement.case, measurement.median_seconds)
        table.add_row(
            measurement.case,
            measurement.contender,
            f"{measurement.median_seconds:.2f}",
            f"{first / measurement.median_seconds:.2f}",
            f"{measurement.most_mib:.0f}" if measurement.peak_mib else "",
            ", ".join(f"{name} {value}" for name, value in measurement.facts.items()),
        )
    return table


def has_class_archive() -> bool:
    """Return whether Spark starts from an archive of its classes, which saves each job some seconds."""
    return class_archive_of(find_java_home()).exists()


def write_json(measurements: Sequence[Measurement], path: Path) -> None:
    """Write all runs, with a description of this machine."""
    machine = {
        "cores": os.cpu_count(),
        "platform": platform.machine(),
        "python": platform.python_version(),
        "class_archive": has_class_archive(),
    }
    rows = [asdict(measurement) for measurement in measurements]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "measurements": rows}, indent=2))


if __name__ == "__main__":
    main()
