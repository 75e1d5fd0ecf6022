"""Keys of a run's objects in the intermediate and the archive bucket."""

from __future__ import annotations

import hashlib
import re

from helpers.contract.names import STREAMS_PREFIX, split_suffix
from helpers.contract.records import ObjectVersion

RUNS_PREFIX = "runs/"
# Intermediate prefix of the large days' totals, from which the Glue job continues.
SNAPSHOTS_PREFIX = "snapshots/"
QUARANTINE_PREFIX = "quarantine/"
# Every accepted listen, by day.
HISTORY_PREFIX = "listens/"
# Records of the users that were forgotten, see include/forget.
ERASURES_PREFIX = "erasures/"
# Archive key of the forgotten users whose later files are refused; the object exists if someone asked for it.
REFUSED_USERS_KEY = "refused_users.json"
# An S3 key has at most 1,024 bytes. The longest prefix, quarantine/<run_key>/ with a run key of 92 bytes,
# takes 104 of them. The longest suffix, .redriven.json of include/redrive.py, takes 14.
MAX_NAME_BYTES = 900
# Archive key of the files that the last run left in the source: key -> time of the last modification.
LEFT_KEY = f"{RUNS_PREFIX}left.json"


def run_key_of(dag_run_id: str) -> str:
    """Return a DAG run's name in S3 keys: readable, safe in keys, unique per run.

    The hash distinguishes run ids that differ only in replaced characters.
    """
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", dag_run_id)[:80].strip("_.")
    digest = hashlib.sha256(dag_run_id.encode()).hexdigest()[:8]
    key = f"{readable}-{digest}"
    # Programs would read an argument with a leading dash as an option.
    return f"run{key}" if key.startswith("-") else key


def run_prefix(run_key: str) -> str:
    """Return the run's prefix in both buckets: temporary objects in one, the run's records in the archive."""
    return f"{RUNS_PREFIX}{run_key}/"


def manifest_key(run_key: str) -> str:
    """Return the archive key of the run's frozen list of files."""
    return f"{run_prefix(run_key)}manifest.json"


def report_key(run_key: str) -> str:
    """Return the archive key of the run's report; the run is complete once the report exists."""
    return f"{run_prefix(run_key)}report.json"


def stopped_key(run_key: str) -> str:
    """Return the archive key of the checks that stopped the run."""
    return f"{run_prefix(run_key)}stopped.json"


def ending_key(run_key: str) -> str:
    """Return the archive key of how the run ended, if it failed or was skipped."""
    return f"{run_prefix(run_key)}ending.json"


def input_prefix(run_key: str) -> str:
    """Return the prefix in the intermediate bucket that the Glue job reads."""
    return f"{run_prefix(run_key)}input/"


def input_manifest_key(run_key: str) -> str:
    """Return the key of the Glue job's input manifest, the last object written under the input prefix."""
    return f"{input_prefix(run_key)}manifest.json"


def output_prefix(run_key: str) -> str:
    """Return the prefix in the intermediate bucket that the Glue job writes."""
    return f"{run_prefix(run_key)}output/"


def summary_key(run_key: str) -> str:
    """Return the key in the intermediate bucket of the Glue job's summary, its last object."""
    return f"{output_prefix(run_key)}summary.json"


def part_key(run_key: str, stage: str, part: int, suffix: str) -> str:
    """Return the intermediate key of one part's object, e.g. `runs/<run_key>/combined/part-00003.parquet`."""
    return f"{run_prefix(run_key)}{stage}/part-{part:05d}.{suffix}"


def history_prefix(listen_date: str) -> str:
    """Return the archive prefix of the accepted listens of one day."""
    return f"{HISTORY_PREFIX}listen_date={listen_date}/"


def erasure_key(erasure_id: str) -> str:
    """Return the archive key of the record of an erasure."""
    return f"{ERASURES_PREFIX}{erasure_id}.json"


def kpis_key(listen_date: str) -> str:
    """Return the archive key of the day's KPI items as Parquet."""
    return f"kpis/listen_date={listen_date}/items.parquet"


def catalog_copy_key(name: str, file: str) -> str:
    """Return the archive key of a file of the catalog, `songs` or `users`, that the last run used."""
    return f"catalogs/{name}/{file}"


def archive_key(version: ObjectVersion) -> str:
    """Return the archive key of a processed file version: its arrival day, its source key and its version."""
    return f"streams/{version['last_modified'][:10]}/{versioned_name(version)}"


def quarantine_key(run_key: str, version: ObjectVersion) -> str:
    """Return the archive key of a file version that was rejected as a whole."""
    return f"{quarantine_prefix(run_key)}{versioned_name(version)}"


def quarantine_prefix(run_key: str) -> str:
    """Return the archive prefix of everything that the run rejected."""
    return f"{QUARANTINE_PREFIX}{run_key}/"


def rejected_rows_prefix(run_key: str) -> str:
    """Return the archive prefix of the rows that a run rejected in files that it archived."""
    return f"{quarantine_prefix(run_key)}rejected_rows/"


def rejected_rows_reasons_key(run_key: str) -> str:
    """Return the archive key of why these rows were rejected, by file."""
    return f"{rejected_rows_prefix(run_key)}reasons.json"


def versioned_name(version: ObjectVersion) -> str:
    """Return the source key with the version inserted before the suffix, as archive and quarantine use it."""
    stem, suffix = split_suffix(version["key"].removeprefix(STREAMS_PREFIX))
    name = f"{stem}__{version['version_id'] or version['etag'].strip(chr(34))}{suffix}"
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    # The start of the key stays readable. The hash distinguishes long keys, and versions of one key, with the
    # same start.
    ending = f"~{hashlib.sha256(name.encode()).hexdigest()[:32]}{suffix}"
    return name.encode()[: MAX_NAME_BYTES - len(ending)].decode(errors="ignore") + ending
