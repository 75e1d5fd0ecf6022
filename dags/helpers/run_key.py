"""Names of a run's objects in the intermediate and the archive bucket."""

from __future__ import annotations

import hashlib
import re


def run_key_of(dag_run_id: str) -> str:
    """Return the name under which a DAG run keeps its objects: readable, safe in S3 keys, one per run.

    The hash keeps apart run ids that differ only in characters which are replaced.
    """
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", dag_run_id)[:80].strip("_.")
    digest = hashlib.sha256(dag_run_id.encode()).hexdigest()[:8]
    return f"{readable}-{digest}"


def run_prefix(run_key: str) -> str:
    """Return the prefix of the run in both buckets: temporary objects and, in the archive, its records."""
    return f"runs/{run_key}/"


def manifest_key(run_key: str) -> str:
    """Return the archive key of the run's frozen list of files."""
    return f"{run_prefix(run_key)}manifest.json"


def report_key(run_key: str) -> str:
    """Return the archive key of the run's report, whose existence says that the run is complete."""
    return f"{run_prefix(run_key)}report.json"


def input_prefix(run_key: str) -> str:
    """Return the intermediate prefix that the Glue job reads."""
    return f"{run_prefix(run_key)}input/"


def output_prefix(run_key: str) -> str:
    """Return the intermediate prefix that the Glue job writes."""
    return f"{run_prefix(run_key)}output/"


def part_key(run_key: str, stage: str, part: int, suffix: str) -> str:
    """Return the intermediate key of one part's object, e.g. `runs/<run_key>/combined/part-00003.parquet`."""
    return f"{run_prefix(run_key)}{stage}/part-{part:05d}.{suffix}"


def history_prefix(listen_date: str) -> str:
    """Return the archive prefix of one listen day's accepted listens."""
    return f"listens/listen_date={listen_date}/"
