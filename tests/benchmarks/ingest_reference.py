"""The references for the ingest: Polars or DuckDB, from the same files to the same Parquet.

python -m tests.benchmarks.ingest_reference ENGINE FOLDER THREADS

They do the same checks, but read the files directly, without an SDK. They may skip checks that they cannot
do: the number of a record in its file, white space other than blanks at the ends of an id, and in Polars
whether a record is too short or its last field is empty. It prints the time and the results as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

COLUMNS = ("user_id", "track_id", "listen_time")
_OTHER_TIMES = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}(:?\d{2})?)?$"

Counts = dict[tuple[str, str], int]


def main() -> None:
    """Ingest the stream files and print the facts."""
    engine, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    files = sorted(map(str, (folder / "s3" / "source" / "streams").glob("*.csv")))
    output = folder / engine
    output.mkdir(exist_ok=True)
    ingest = {"duckdb": duckdb_ingest, "polars": polars_ingest}[engine]
    # Polars reads this variable on import.
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    __import__(engine)
    cpu, started = time.process_time(), time.monotonic()
    valid, rejected = ingest(files, output, threads)
    seconds = time.monotonic() - started
    reasons: Counter[str] = Counter()
    for (_, reason), count in rejected.items():
        reasons[reason] += count
    facts = {
        "seconds": seconds,
        "CPU seconds": round(time.process_time() - cpu, 2),
        "valid": valid,
        "rejected": dict(sorted(reasons.items())),
    }
    print(json.dumps(facts))


def duckdb_ingest(files: list[str], output: Path, threads: int) -> tuple[int, Counts]:
    """Return the number of valid rows, and of rejected ones by file and reason."""
    import duckdb

    database = duckdb.connect(config={"threads": threads, "preserve_insertion_order": False})
    database.execute(f"SET TimeZone = 'UTC'; SET temp_directory = '{output}'")
    trimmed = ", ".join(f"trim({column}) AS {column}, {column} AS raw_{column}" for column in COLUMNS)
    nul = " OR ".join(f"contains(raw_{column}, chr(0))" for column in COLUMNS)
    raw = ", ".join(
        f"CASE WHEN reason IS NOT NULL THEN raw_{column} END AS raw_{column}" for column in COLUMNS
    )
    database.execute(f"""
        COPY (
            WITH records AS (
                SELECT file, {trimmed} FROM read_csv({files!r}, header = true, auto_detect = false,
                    delim = ',', quote = '"', escape = '"', filename = 'file',
                    columns = {dict.fromkeys(COLUMNS, "VARCHAR")!r}, force_not_null = {list(COLUMNS)!r},
                    store_rejects = true, rejects_limit = 0)
            ),
            typed AS (
                SELECT * REPLACE (coalesce(
                    make_timestamptz(epoch_us(CASE WHEN listen_time LIKE '____-__-__ __:__:__'
                        THEN try_cast(listen_time AS TIMESTAMP) END)),
                    CASE WHEN regexp_matches(listen_time, '{_OTHER_TIMES}')
                        THEN try_cast(listen_time AS TIMESTAMPTZ) END) AS listen_time) FROM records
            ),
            checked AS (
                SELECT *, CASE WHEN {nul} THEN 'NUL character'
                    WHEN user_id = '' THEN 'empty user_id'
                    WHEN track_id = '' THEN 'empty track_id'
                    WHEN listen_time IS NULL OR listen_time < '1970-01-01' OR listen_time >= '2200-01-01'
                    THEN 'invalid listen_time' END AS reason FROM typed
            )
            SELECT {", ".join(COLUMNS)}, file, reason, {raw}, reason IS NULL AS valid FROM checked
        ) TO '{output}' (FORMAT parquet, COMPRESSION uncompressed, PARTITION_BY (valid), OVERWRITE)""")
    short_or_long = database.execute("""
        SELECT file_path, 'wrong number of fields', count(*) FROM reject_errors
        JOIN reject_scans USING (scan_id, file_id) GROUP BY ALL""").fetchall()
    broken = []
    if any(output.glob("valid=false/*")):
        broken = database.execute(
            f"SELECT file, reason, count(*) FROM read_parquet('{output}/valid=false/*') GROUP BY ALL"
        ).fetchall()
    row = database.execute(f"SELECT count(*) FROM read_parquet('{output}/valid=true/*')").fetchone()
    assert row
    return row[0], {(file, reason): count for file, reason, count in short_or_long + broken}


def polars_ingest(files: list[str], output: Path, threads: int) -> tuple[int, Counts]:
    """Return the number of valid rows, and of rejected ones by file and reason."""
    import polars as pl

    assert pl.thread_pool_size() == threads
    # A record that is too long fills an extra column.
    schema = dict.fromkeys((*COLUMNS, "more"), pl.String)
    records = pl.scan_csv(files, schema=schema, include_file_paths="file", truncate_ragged_lines=True)
    text = pl.col("listen_time").str.strip_chars()
    usual = text.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us", time_zone="UTC")
    nul = pl.any_horizontal(pl.col(column).str.contains("\0", literal=True) for column in COLUMNS)
    typed = records.with_columns(
        *(pl.col(column).str.strip_chars().alias(f"trimmed_{column}") for column in COLUMNS[:2]),
        pl.when(text.str.len_bytes() == 19).then(usual).alias("instant"),
        nul.alias("nul"),
    )
    as_usual = typed.filter(pl.col("instant").is_not_null())
    well_formed = pl.when(text.str.contains(_OTHER_TIMES)).then(text.str.replace(" ", "T"))
    naive = well_formed.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us")
    aware = well_formed.str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f%#z", strict=False, time_unit="us", time_zone="UTC"
    )
    other = typed.filter(pl.col("instant").is_null()).with_columns(
        pl.coalesce(naive.dt.replace_time_zone("UTC"), aware).alias("instant")
    )
    year = pl.col("instant").dt.year()
    reason = (
        pl.when(pl.col("more").is_not_null() | pl.col("listen_time").is_null())
        .then(pl.lit("wrong number of fields"))
        .when(pl.col("nul"))
        .then(pl.lit("NUL character"))
        .when(pl.col("trimmed_user_id").fill_null("") == "")
        .then(pl.lit("empty user_id"))
        .when(pl.col("trimmed_track_id").fill_null("") == "")
        .then(pl.lit("empty track_id"))
        .when(~year.is_between(1970, 2199).fill_null(False))
        .then(pl.lit("invalid listen_time"))
    )
    checked = pl.concat([as_usual, other]).with_columns(reason.alias("reason"))
    valid = checked.filter(pl.col("reason").is_null()).select(
        user_id="trimmed_user_id", track_id="trimmed_track_id", listen_time="instant"
    )
    rejected = checked.filter(pl.col("reason").is_not_null()).select("file", "reason", *COLUMNS, "more")
    pl.collect_all(
        [
            valid.sink_parquet(output / "valid.parquet", compression="uncompressed", lazy=True),
            rejected.sink_csv(output / "rejected.csv", lazy=True),
        ],
        engine="streaming",
    )
    counts = pl.read_csv(output / "rejected.csv", infer_schema=False).group_by("file", "reason").len().rows()
    rows = pl.scan_parquet(output / "valid.parquet").select(pl.len()).collect().item()
    return rows, {(file, reason): count for file, reason, count in counts}


if __name__ == "__main__":
    main()
