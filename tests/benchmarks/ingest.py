"""The ingest compared with Polars and DuckDB: from stream files in S3 to the Parquet that the Glue job reads.

All contenders read the same files from the local disk, do the same checks, count the rejected rows by file
and reason, and write valid and rejected rows separately. Ours goes through the SDK to an S3 that is a folder
(`folder_s3`). It pays for the work of SDK and tasks on the bytes, including the way through S3 between two
tasks. There is no network, and the references read the files without an SDK. All have as many threads, or
parallel mapped tasks, as the machine has cores. Time starts when the libraries are loaded.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from include.commands.environment import DAGS_DIR, PLUGINS_DIR, ROOT
from tests.benchmarks.harness import Contender, Measurement, alternate
from tests.benchmarks.stream_files import CATALOGS, bytes_of, write_stream_files

SIZES = ("500MB", "5GB")
CASES = {"clean": 0.0, "0.1 % bad": 0.001}
PARTS_AT_ONCE = (1, 2, 4)
PART_BYTES = 256 * 1024**2
check_size = bytes_of


def measure(size: str, repeat: int, folder: Path) -> list[Measurement]:
    """Measure clean files, files with bad rows, and clean files with 1, 2 and 4 parallel parts.

    Raises:
        RuntimeError: a contender failed, or its counts differ from ours.
    """
    total, cores = bytes_of(size), os.cpu_count() or 1
    measurements: list[Measurement] = []
    for name, bad_fraction in CASES.items():
        write_stream_files(folder / "s3" / "source" / "streams", total, bad_fraction)
        for key, content in CATALOGS.items():
            path = folder / "s3" / "source" / key
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        contenders = [
            _ours("ours", folder, cores, min(PART_BYTES, total // cores)),
            _reference("duckdb", folder, cores),
            _reference("polars", folder, cores),
        ]
        measurements += _compare(f"{size}, {name}", contenders, repeat)
        if not bad_fraction:
            # Otherwise there would be too few parts.
            part_bytes = min(PART_BYTES, total // max(PARTS_AT_ONCE))
            contenders = [
                _ours(f"{at_once} at once", folder, at_once, part_bytes) for at_once in PARTS_AT_ONCE
            ]
            measurements += _compare(f"{size}, parts of {part_bytes / 1024**2:.0f} MiB", contenders, repeat)
    return measurements


def _compare(case: str, contenders: Sequence[Contender], repeat: int) -> list[Measurement]:
    measurements = alternate("ingest", case, contenders, repeat)
    first, *others = ((m.contender, m.facts.pop("valid"), m.facts.pop("rejected")) for m in measurements)
    for other in others:
        if other[1:] != first[1:]:
            raise RuntimeError(f"{case}: the counts differ, {first} and {other}")
    return measurements


def _ours(name: str, folder: Path, at_once: int, part_bytes: int) -> Contender:
    command = [sys.executable, "-m", "tests.benchmarks.ingest_child", folder, at_once, part_bytes]
    return Contender(name, list(map(str, command)), _environment(), partial(_tidy, folder))


def _reference(engine: str, folder: Path, threads: int) -> Contender:
    command = [sys.executable, "-m", "tests.benchmarks.ingest_reference", engine, folder, threads]
    return Contender(engine, list(map(str, command)), _environment(), partial(_tidy, folder))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, DAGS_DIR, PLUGINS_DIR)))}


def _tidy(folder: Path) -> None:
    """Delete the output of an earlier run, and wait until the disk has finished its work."""
    for name in ("s3/intermediate", "s3/archive", "duckdb", "polars"):
        shutil.rmtree(folder / name, ignore_errors=True)
    os.sync()
