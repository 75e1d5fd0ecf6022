"""`make bench`: measures the pipeline beside its references; prints a table and writes it as JSON.

python -m tests.benchmarks [PART ...] [--sizes SIZE ...] [--repeat N] [--json FILE] [--quick]
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
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, cast

from rich.console import Console
from rich.table import Table

from include.commands.environment import DAGS_DIR, PLUGINS_DIR
from include.local_aws.java import find_java_home
from include.local_aws.spark_environment import class_archive_of
from tests.benchmarks.harness import Measurement

UsualRatios = Mapping[str, Mapping[str, Mapping[str, float]]]

PARTS = ("ingest", "glue_job", "genres", "history", "large_day", "orchestration", "dag_parsing", "kpi_writer")
WIDTH_OF_A_FILE = 160
RESULTS = Path(".local") / "benchmarks.json"
# The cases of `make bench-quick`: part -> case -> contender -> usual ratio of ours to it.
USUAL_RATIOS = Path(__file__).with_name("usual_ratios.json")
# A ratio may exceed its usual one by this; the same code varies by less on a quiet machine.
TOLERANCE = 1.25


class Part(Protocol):
    """The interface of a module of `PARTS`."""

    SIZES: Sequence[str]

    def check_size(self, size: str) -> object:
        """Raise a ValueError that describes a size, unless this is one."""
        ...

    def measure(self, size: str, repeat: int, folder: Path) -> list[Measurement]:
        """Create the data of this size in the empty folder and measure; the first contender is ours."""
        ...


def main() -> int:
    """Measure the named parts, or all, and report; return the exit status."""
    parser = _parser()
    options = parser.parse_args()
    usual: UsualRatios = json.loads(USUAL_RATIOS.read_text()) if options.quick else {}
    # Airflow imports the tasks' modules as `helpers`.
    sys.path += map(str, (DAGS_DIR, PLUGINS_DIR))
    try:
        sizes_of = _checked_sizes(options, usual)
    except ValueError as error:
        parser.error(str(error))
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
    for part, sizes in sizes_of.items():
        for size in sizes:
            with tempfile.TemporaryDirectory(prefix="music-streaming-bench-") as folder:
                measured = part.measure(size, options.repeat, Path(folder))
            console.print(table_of(measured))
            measurements += measured
            # Written after each size, because a long run may be interrupted.
            write_json(measurements, options.json)
    console.print(f"Written to {options.json}")
    slower = slower_than_usual(measurements, usual)
    for line in slower:
        console.print(line, style="red", soft_wrap=True)
    return 1 if slower else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description="Measures the pipeline beside references")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none")
    parser.add_argument("--sizes", nargs="+", metavar="SIZE", help="in place of the part's own sizes")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each contender (default 3)")
    parser.add_argument(
        "--json", type=Path, default=RESULTS, help=f"where the figures go (default {RESULTS})"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"measure what {USUAL_RATIOS.name} has; fail if it is slower"
    )
    return parser


def _checked_sizes(options: argparse.Namespace, usual: UsualRatios) -> dict[Part, Sequence[str]]:
    """Return the sizes of each part; all are checked, so a wrong one does not end a measurement of hours.

    Raises:
        ValueError: something cannot be measured.
    """
    if options.quick and (options.parts or options.sizes):
        raise ValueError("--quick has its own parts and sizes")
    if unknown := [name for name in options.parts if name not in PARTS]:
        raise ValueError(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    if options.repeat < 1:
        raise ValueError("--repeat must be 1 or more")
    sizes_of: dict[Part, Sequence[str]] = {}
    for name in options.parts or usual or PARTS:
        part = cast(Part, importlib.import_module(f"tests.benchmarks.{name}"))
        # The name of a case begins with the size.
        usual_sizes = list(dict.fromkeys(case.split(",")[0] for case in usual.get(name, ())))
        sizes_of[part] = options.sizes or usual_sizes or part.SIZES
        for size in sizes_of[part]:
            try:
                part.check_size(size)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    return sizes_of


def slower_than_usual(measurements: Sequence[Measurement], usual: UsualRatios) -> list[str]:
    """Return a line for each ratio of ours to a reference that exceeds its usual one by the tolerance."""
    medians = {(m.part, m.case, m.contender): m.median_seconds for m in measurements}
    # The first contender of a case is ours.
    ours = {(m.part, m.case): m.median_seconds for m in reversed(measurements)}
    lines = []
    for part, cases in usual.items():
        for case, ratios in cases.items():
            for contender, ratio in ratios.items():
                measured = ours[part, case] / medians[part, case, contender]
                if measured > ratio * TOLERANCE:
                    lines.append(
                        f"{part}, {case}: ours takes {measured:.2f} times as long as {contender}, usually "
                        f"{ratio:.2f}. If that is intended, change {USUAL_RATIOS.name}."
                    )
    return lines


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
    sys.exit(main())
