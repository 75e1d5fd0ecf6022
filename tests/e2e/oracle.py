"""The judge of every end-to-end test: compares a pipeline's state with what was delivered.

It shares no code with the pipeline and needs neither Spark nor Airflow nor pytest. The checks take a state
that was read once (`observed`) and yield a sentence per fault; the `assert_...` functions raise
AssertionError with all of them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import Any

from tests.e2e.delivered import Delivered, Upload, read_catalogs, read_stream
from tests.e2e.observed import Observed, Resources, observe, scan_items, snapshot
from tests.kpi_oracle import Items, Listen, kpi_items

STAMPS = ("run_key", "computed_at", "version", "catalogs_frozen_at")
MAX_PROBLEMS_SHOWN = 25


def assert_consistent(
    resources: Resources, delivered: Delivered, unfinished_runs: Collection[str] = ()
) -> None:
    """Check every invariant that must hold once all runs have ended.

    Args:
        resources: the pipeline's buckets and table.
        delivered: everything that was uploaded to the source bucket.
        unfinished_runs: run keys of runs that finally failed; only they may leave temporary objects.

    Raises:
        AssertionError: lists every difference.
    """
    _fail_if(find_problems(observe(resources), delivered, unfinished_runs))


def find_problems(
    observed: Observed, delivered: Delivered, unfinished_runs: Collection[str] = ()
) -> list[str]:
    """Return the problems that `assert_consistent` reports."""
    return [
        *report_problems(observed, delivered),
        *place_problems(observed, delivered),
        *history_problems(observed),
        *table_problems(observed, delivered),
        *stamp_problems(observed),
        *copy_problems(observed),
        *leftover_problems(observed, unfinished_runs),
    ]


def assert_another_run_changes_nothing(resources: Resources, run: Callable[[], object]) -> None:
    """Call `run`, a new or repeated run without new files, and compare all objects and items.

    Raises:
        AssertionError: lists every object or item that is new, gone or changed.
    """
    before = snapshot(resources)
    run()
    after = snapshot(resources)
    _fail_if(
        [f"{name} vanished in another run" for name in sorted(before.keys() - after.keys())]
        + [f"{name} appeared in another run" for name in sorted(after.keys() - before.keys())]
        + [
            f"{name} changed in another run from {before[name]} to {after[name]}"
            for name in sorted(before.keys() & after.keys())
            if before[name] != after[name]
        ]
    )


def scan_kpis(resources: Resources) -> Items:
    """Return the table's items without the attributes that depend on the run."""
    return {
        key: {name: value for name, value in item.items() if name not in STAMPS}
        for key, item in scan_items(resources).items()
    }


# --- (1) Reports ----------------------------------------------------------------------------------


def report_problems(observed: Observed, delivered: Delivered) -> Iterator[str]:
    """Check each run's report for consistency, against the files' content, and for files in two reports."""
    uploads = {(upload.key, upload.version_id): upload for upload in delivered.uploads}
    taken: dict[tuple[str, str | None], str] = {}
    for run_key, report in observed.reports.items():
        yield from _sum_problems(run_key, report)
        kept_rows = _count_rejected_rows(observed, run_key)
        for file in report["files"]:
            where = f"report of {run_key}, {file['key']}"
            version = (file["key"], file["version_id"])
            if version not in uploads:
                yield f"{where}: version {version[1]} was never delivered"
            elif file["disposition"] == "left":
                if file["rows"] or file["destination"]:
                    yield f"{where}: left for the next run, yet it has rows or a destination"
            else:
                other = taken.setdefault(version, run_key)
                if other != run_key:
                    yield f"{where}: version {version[1]} is in the report of {other} too"
                yield from _place_problems_of_file(observed, where, file, uploads[version])
                yield from _row_problems(where, file, uploads[version], kept_rows[file["key"]])


def _sum_problems(run_key: str, report: dict[str, Any]) -> Iterator[str]:
    totals, files, days = report["totals"], report["files"], report["days"]
    expected = {name: sum(file[name] for file in files) for name in ("rows", "valid", "rejected")}
    expected["files"] = len(files)
    expected["archived"] = sum(file["disposition"] == "archive" for file in files)
    expected["quarantined"] = sum(file["disposition"] == "quarantine" for file in files)
    for name, value in expected.items():
        if totals[name] != value:
            yield f"report of {run_key}: totals say {name} = {totals[name]}, its files add up to {value}"
    if totals["rows"] != totals["valid"] + totals["rejected"]:
        yield f"report of {run_key}: {totals['rows']} rows are not valid + rejected in {totals}"
    if report["status"] != "complete":
        if totals["valid"] or days:
            yield f"report of {run_key}: status {report['status']} with {totals['valid']} valid rows"
        return
    if totals["valid"] != totals["new"] + totals["repeated"]:
        yield f"report of {run_key}: {totals['valid']} valid rows are not new + repeated in {totals}"
    for name, total in (("rows_read", "valid"), ("new", "new"), ("repeated", "repeated")):
        by_day = sum(day[name] for day in days.values())
        if by_day != totals[total]:
            yield f"report of {run_key}: {name} of the days is {by_day}, totals say {total} = {totals[total]}"


def _place_problems_of_file(
    observed: Observed, where: str, file: dict[str, Any], upload: Upload
) -> Iterator[str]:
    destination = file["destination"]
    if destination not in observed.archive:
        yield f"{where}: its destination {destination} does not exist"
    elif observed.archive[destination] != upload.content:
        yield f"{where}: its destination {destination} has other bytes than were delivered"
    if file["disposition"] == "quarantine" and f"{destination}.reason.json" not in observed.archive:
        yield f"{where}: no {destination}.reason.json says why it is in quarantine"


def _row_problems(where: str, file: dict[str, Any], upload: Upload, kept_rows: int) -> Iterator[str]:
    rows, valid, rejected = file["rows"], file["valid"], file["rejected"]
    if rows != valid + rejected:
        yield f"{where}: {rows} rows, but {valid} valid + {rejected} rejected"
    if file["disposition"] == "quarantine":
        if valid or not file["reason"]:
            yield f"{where}: quarantined with {valid} valid rows, reason {file['reason']!r}"
        return
    try:
        records, listens = read_stream(upload.content)
    except Exception as error:
        yield f"{where}: archived as processed, but it cannot be read: {error!r}"
    else:
        if (records, len(listens)) != (rows, valid):
            counted = f"{records} with {len(listens)}"
            yield f"{where}: {rows} rows with {valid} valid ones, the oracle counts {counted}"
    if sum(file["rejected_by_reason"].values()) != rejected or kept_rows != rejected:
        yield (
            f"{where}: {rejected} rows rejected, by reason {file['rejected_by_reason']}, "
            f"{kept_rows} of them kept in quarantine"
        )


def _count_rejected_rows(observed: Observed, run_key: str) -> Counter[str]:
    rows: Counter[str] = Counter()
    for content in observed.archived(f"quarantine/{run_key}/rejected_rows/part-").values():
        for row in csv.DictReader(io.StringIO(content.decode(), newline="")):
            if row["reason"] and int(row["row"]) > 0:
                rows[row["source_file"]] += 1
    return rows


# --- (2) History and table ------------------------------------------------------------------------


def history_problems(observed: Observed) -> Iterator[str]:
    """Check that the history is exactly the listens of the archived files, each in its day's folder."""
    from pyarrow import parquet

    held: dict[str, set[Listen]] = defaultdict(set)
    for key, content in observed.archived("listens/").items():
        table = parquet.read_table(io.BytesIO(content))
        day = key.split("/")[1].removeprefix("listen_date=")
        held[day].update(Listen(**row) for row in table.select(Listen._fields).to_pylist())
    accepted = {day: set(listens) for day, listens in accepted_listens(observed).items()}
    for day in sorted(held.keys() | accepted.keys()):
        lost = accepted.get(day, set()) - held[day]
        invented = held[day] - accepted.get(day, set())
        if lost:
            yield f"history of {day} lacks {len(lost)} accepted listens, such as {_first(lost)}"
        if invented:
            yield f"history of {day} has {len(invented)} listens of no file, such as {_first(invented)}"


def table_problems(observed: Observed, delivered: Delivered) -> Iterator[str]:
    """Check that the table holds exactly the items recomputed from the archived CSV files."""
    stored, expected = observed.items, expected_items(observed, delivered)
    for key in sorted(expected.keys() - stored.keys()):
        yield f"table lacks the item {key}: {expected[key]}"
    for key in sorted(stored.keys() - expected.keys()):
        yield f"table has the item {key}, which nothing accounts for: {stored[key]}"
    for key in sorted(expected.keys() & stored.keys()):
        attributes = {name: value for name, value in stored[key].items() if name not in (*STAMPS, "status")}
        for name in sorted(expected[key].keys() | attributes.keys()):
            if attributes.get(name) != expected[key].get(name):
                yield f"item {key}: {name} is {attributes.get(name)}, must be {expected[key].get(name)}"


def stamp_problems(observed: Observed) -> Iterator[str]:
    """Check that each day was written completely, by one complete run, from all of the day's history."""
    history = Counter(key.split("/")[1] for key in observed.archived("listens/"))
    stamps_of_day: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for (day, genre), item in observed.items.items():
        stamps_of_day[day].add(tuple(item.get(name) for name in STAMPS))
        status = item.get("status")
        if status != ("complete" if genre == "ALL_GENRES" else None):
            yield f"item {(day, genre)}: status is {status!r}"
    for day, stamps in stamps_of_day.items():
        if len(stamps) > 1:
            yield f"items of {day} come from several computations: {sorted(map(str, stamps))}"
        objects = history[f"listen_date={day}"]
        for run_key, _, version, _ in stamps:
            if version != objects:
                yield f"items of {day}: version {version}, history has {objects} objects"
            if run_key not in observed.reports:
                yield f"items of {day}: run {run_key}, which wrote them, has no report"


def copy_problems(observed: Observed) -> Iterator[str]:
    """Check that the Parquet files for SQL hold exactly the table's items."""
    # Arrow, which wrote the files, is not asked.
    import duckdb

    copies: Items = {}
    for key, content in observed.archived("kpis/").items():
        day = key.split("/")[1].removeprefix("listen_date=")
        with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
            file.write(content)
            file.flush()
            rows = duckdb.read_parquet(file.name)
            for values in rows.fetchall():
                row = {
                    name: value for name, value in zip(rows.columns, values, strict=True) if value is not None
                }
                copies[day, row.pop("track_genre")] = row
    for key in sorted(copies.keys() | observed.items.keys()):
        item = {name: value for name, value in observed.items.get(key, {}).items() if name != "status"}
        if copies.get(key) != item:
            yield f"item {key}: its Parquet file has {copies.get(key)}, the table {item}"


def expected_items(observed: Observed, delivered: Delivered) -> Items:
    """Recompute the KPI items of all archived CSV files."""
    items: Items = {}
    for day, listens in accepted_listens(observed).items():
        catalogs = read_catalogs(delivered.catalogs_of_day.get(day, delivered.catalogs))
        items.update(kpi_items(listens, catalogs.songs, catalogs.users))
    return items


def accepted_listens(observed: Observed) -> dict[str, list[Listen]]:
    """Return the valid rows of the CSV files in the archive by UTC day, repeated ones included."""
    by_day: dict[str, list[Listen]] = defaultdict(list)
    for content in observed.archived("streams/").values():
        # An unreadable file should not be there; the check of its report says so.
        with suppress(Exception):
            for listen in read_stream(content).listens:
                by_day[listen.listen_time.date().isoformat()].append(listen)
    return by_day


# --- (3) Places, (4) leftovers --------------------------------------------------------------------


def place_problems(observed: Observed, delivered: Delivered) -> Iterator[str]:
    """Check that every delivered version's bytes are in exactly one of source, archive and quarantine."""
    listed = {
        (version["key"], version["version_id"])
        for manifest in observed.manifests.values()
        for version in manifest["streams"]
    }
    names: dict[str, set[str]] = defaultdict(set)
    required: Counter[str] = Counter()
    optional: Counter[str] = Counter()
    for upload in delivered.uploads:
        digest = _digest(upload.content)
        names[digest].add(upload.key)
        may_be_gone = upload.superseded and (upload.key, upload.version_id) not in listed
        (optional if may_be_gone else required)[digest] += 1
    places: dict[str, list[str]] = defaultdict(list)
    for name, content in _stream_files(observed):
        places[_digest(content)].append(name)
    for digest in places.keys() - names.keys():
        yield f"{', '.join(places[digest])}: these bytes were never delivered"
    for digest, keys in names.items():
        found = len(places[digest])
        if not required[digest] <= found <= required[digest] + optional[digest]:
            yield (
                f"{', '.join(sorted(keys))} ({digest[:8]}) was delivered {required[digest]} times, "
                f"its bytes are in {found} places: {places[digest]}"
            )


def _stream_files(observed: Observed) -> Iterator[tuple[str, bytes]]:
    """Yield the stream files of the three places, without the descriptions of rejected data."""
    yield from ((f"source {key}", content) for key, content in observed.source.items())
    yield from ((f"archive {key}", content) for key, content in observed.archived("streams/").items())
    for key, content in observed.archived("quarantine/").items():
        if not key.endswith((".reason.json", ".redriven.json")) and "/rejected_rows/" not in key:
            yield f"archive {key}", content


def leftover_problems(observed: Observed, unfinished_runs: Collection[str] = ()) -> Iterator[str]:
    """Check that only unfinished runs have temporary objects."""
    for key in observed.temporary_keys:
        if key.split("/")[1] not in unfinished_runs:
            yield f"temporary object {key} is left"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _first(listens: Iterable[Listen]) -> str:
    listen = min(listens)
    return f"{listen.user_id},{listen.track_id},{listen.listen_time.isoformat()}"


def _fail_if(problems: list[str]) -> None:
    if problems:
        more = len(problems) - MAX_PROBLEMS_SHOWN
        shown = [*problems[:MAX_PROBLEMS_SHOWN], *([f"... and {more} more"] if more > 0 else [])]
        raise AssertionError("\n".join([f"{len(problems)} problems:", *shown]))
