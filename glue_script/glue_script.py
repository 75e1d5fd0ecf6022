"""Glue job: the daily music KPIs of every day that a batch of listens touches.

Plain PySpark, so the same file runs on AWS Glue, under ``spark-submit`` and with ``python``. Arguments:

* ``--S3_SOURCE_PATH``: the run's input, with a ``manifest.json`` that names its objects
* ``--S3_HISTORY_PATH``: all accepted listens, in a ``listen_date=YYYY-MM-DD`` folder per day; only read
* ``--S3_OUTPUT_PATH``: takes the added listens, the KPI items and, last, ``summary.json``
* ``--BATCH_ID``: the run key; the history objects of this batch are named ``<BATCH_ID>__...``
* ``--REPROCESS_DATES`` (optional): days to compute again from the history, separated by commas

A day is computed from scratch, from all its listens in history and input together, so late, repeated and
replayed listens give exact results; the cost grows with the days touched, not with the history.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import reduce
from typing import Any, NoReturn

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

MANIFEST, SUMMARY = "manifest.json", "summary.json"
# The task of the pipeline that writes the input.
INPUT_TASK = "move_files_to_intermediate_bucket"
ALL_GENRES = "ALL_GENRES"
UNKNOWN = "Unknown"

LISTENS_SCHEMA = "user_id string, track_id string, listen_time timestamp"
SONGS_SCHEMA = (
    "row_id long, track_id string, track_name string, artists string, track_genre string, duration_ms long"
)
USERS_SCHEMA = "row_id long, user_id string, user_country string"

# Where a listen was found: the bits of its `sources` column.
IN_INPUT, IN_OWN_HISTORY, IN_OTHER_HISTORY = 1, 2, 4

SPARK_CONF: dict[str, Any] = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.adaptive.enabled": "true",
    # Ids hardly compress, and compressing them takes as long as all of the deduplication.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
}
# Parquet bytes per shuffle partition, some hundred thousand listens. Larger ones would not fit a task's
# memory; in smaller ones tracks hardly repeat, so that counting them before a shuffle would save nothing.
PARTITION_BYTES = 8 * 1024 * 1024


# --- Listens --------------------------------------------------------------------------------------


def with_listen_date(listens: DataFrame) -> DataFrame:
    """Add `listen_date`, the UTC day of the listen (the session's time zone is UTC)."""
    return listens.withColumn("listen_date", F.to_date("listen_time"))


def distinct_listens(listens: DataFrame) -> DataFrame:
    """Make the listens unique by user, track and instant; `sources` joins the places a listen was found in.

    The result stays partitioned by day and user, as every later aggregate per user needs it: all listens are
    shuffled this once only.
    """
    return (
        listens.repartition("listen_date", "user_id")
        .groupBy("listen_date", "user_id", "track_id", "listen_time")
        .agg(F.bit_or("sources").alias("sources"))
        .select("listen_date", "user_id", "track_id", "listen_time", "sources")
    )


def is_new() -> Column:
    """Tell an input listen that no other batch brought: the same answer when a batch is replayed."""
    return F.col("sources").bitwiseAND(IN_INPUT | IN_OTHER_HISTORY) == IN_INPUT


def is_added() -> Column:
    """Tell an input listen that the history does not hold yet."""
    return F.col("sources") == IN_INPUT


def filter_added_listens(listens: DataFrame) -> DataFrame:
    """Keep the input listens that the history does not hold yet."""
    return listens.where(is_added()).select("user_id", "track_id", "listen_time", "listen_date")


def daily_listen_counts(listens: DataFrame) -> DataFrame:
    """Count the distinct listens of each day: all of them, the new and the added ones."""
    return listens.groupBy("listen_date").agg(
        F.count("*").alias("total"), F.count_if(is_new()).alias("new"), F.count_if(is_added()).alias("added")
    )


# --- Catalogs -------------------------------------------------------------------------------------


def row_number(within: Sequence[str], order: Sequence[str | Column]) -> Column:
    """Number the rows 1..n without gaps inside each group of the columns `within`."""
    window = Window.partitionBy(*within).orderBy(*order)
    return F.row_number().over(window.rowsBetween(Window.unboundedPreceding, Window.currentRow))


def unique_songs(songs: DataFrame) -> DataFrame:
    """Make the songs unique by track and genre, the first row wins; missing text becomes `Unknown`.

    `is_first` marks the track's first row over all its genres.
    """
    # One shuffle by track serves the grouping and the window.
    return (
        songs.repartition("track_id")
        .fillna(UNKNOWN, ["track_genre", "track_name", "artists"])
        .groupBy("track_id", "track_genre")
        .agg(F.min_by(F.struct("row_id", "track_name", "artists", "duration_ms"), "row_id").alias("song"))
        .select("track_id", "track_genre", "song.*")
        .withColumn("is_first", row_number(["track_id"], ["row_id"]) == 1)
        .select("track_id", "track_genre", "track_name", "artists", "duration_ms", "is_first")
    )


def unique_users(users: DataFrame) -> DataFrame:
    """Make the users unique, the first row wins; a missing country becomes `Unknown`."""
    return (
        users.fillna(UNKNOWN, ["user_country"])
        .groupBy("user_id")
        .agg(F.min_by("user_country", "row_id").alias("user_country"))
        .select("user_id", "user_country")
    )


# --- KPIs -----------------------------------------------------------------------------------------


def minutes(total_ms: Column, shared_by: Column) -> Column:
    """Return `total_ms / shared_by` in minutes with 2 decimals, half up, rounded once from exact integers.

    Decimal division rounds too, so here it only divides multiples of its divisor.
    """
    hundredth = shared_by.cast("decimal(20,0)") * 600
    doubled = total_ms.cast("decimal(38,0)") * 2 + hundredth
    hundredths = (doubled - doubled % (hundredth * 2)) / (hundredth * 2)
    return (hundredths.cast("decimal(36,0)") * F.lit(Decimal("0.01"))).cast("decimal(38,2)")


def with_rank_in_day(groups: DataFrame, name: str, group: str) -> DataFrame:
    """Add the column `name`: the group's rank by listens within the day; `Unknown` has none."""
    is_unknown = F.col(group) == UNKNOWN
    rank = row_number(["listen_date"], [is_unknown, F.desc("listen_count"), F.asc(group)])
    return groups.withColumn(name, rank).withColumn(name, F.when(~is_unknown, F.col(name)))


def top_list(rank: str, size: int, *columns: str) -> Column:
    """Aggregate the rows ranked 1 to `size` to a list of structs in rank order; a null rank is left out."""
    entry = F.struct(F.col(rank).alias("rank"), *columns)
    return F.sort_array(F.collect_list(F.when(F.col(rank) <= size, entry)))


def track_listen_counts(listens: DataFrame) -> DataFrame:
    """Count each day's listens of each track."""
    return listens.groupBy("listen_date", "track_id").agg(F.count("*").alias("listen_count"))


def with_song(track_listens: DataFrame, songs: DataFrame) -> DataFrame:
    """Add the songs: a row per genre of the track, or one of `Unknown` when it is not in the catalog."""
    # Decimal, for a catalog may hold any 64-bit duration and their sum must not overflow.
    listening_ms = F.col("listen_count").cast("decimal(18,0)") * F.col("duration_ms").cast("decimal(19,0)")
    is_unmatched = F.col("track_genre").isNull()
    return (
        track_listens.join(songs, "track_id", how="left")
        .withColumn("unmatched_listens", F.when(is_unmatched, F.col("listen_count")).otherwise(0))
        .fillna(UNKNOWN, ["track_genre", "track_name", "artists"])
        .fillna(0, ["duration_ms"])
        .withColumn("listening_ms", listening_ms)
    )


def top_songs_per_genre(song_listens: DataFrame) -> DataFrame:
    """Total each day's genres and list the three most heard songs of each, in one pass over the songs.

    `first_listening_ms` counts a track only in the genre of its first row, so the day's sum has it once.
    """
    by_listens = [F.desc("listen_count"), F.asc("track_name"), F.asc("track_id")]
    first_listening_ms = F.when(F.col("is_first"), F.col("listening_ms")).otherwise(0)
    top_songs = top_list("song_rank", 3, "track_id", "track_name", "artists", "listen_count")
    return (
        song_listens.withColumn("song_rank", row_number(["listen_date", "track_genre"], by_listens))
        .groupBy("listen_date", "track_genre")
        .agg(
            F.sum("listen_count").alias("listen_count"),
            F.sum("listening_ms").alias("listening_ms"),
            F.sum(first_listening_ms).alias("first_listening_ms"),
            F.sum("unmatched_listens").alias("unmatched_listens"),
            top_songs.alias("top_3_songs_per_genre"),
        )
    )


def unique_listeners_per_genre(listens: DataFrame, songs: DataFrame) -> DataFrame:
    """Count each day's distinct users of each genre."""
    return (
        listens.join(songs.select("track_id", "track_genre"), "track_id", how="left")
        .fillna(UNKNOWN, ["track_genre"])
        .select("listen_date", "track_genre", "user_id")
        .distinct()
        .groupBy("listen_date", "track_genre")
        .agg(F.count("*").alias("unique_listeners"))
    )


def genre_totals(listens: DataFrame, songs: DataFrame) -> DataFrame:
    """Return each day's genres with their totals, unique listeners, rank and top songs."""
    listeners = unique_listeners_per_genre(listens, songs)
    return (
        listens.transform(track_listen_counts)
        .transform(with_song, songs)
        .transform(top_songs_per_genre)
        .join(listeners, ["listen_date", "track_genre"], how="inner")
        .transform(with_rank_in_day, "genre_rank", "track_genre")
    )


def country_totals(listens: DataFrame, users: DataFrame) -> DataFrame:
    """Return each day's countries with their listens, unique listeners and rank.

    `unmatched_listens` are those of users that are not in the catalog.
    """
    is_unmatched = F.col("user_country").isNull()
    return (
        listens.groupBy("listen_date", "user_id")
        .agg(F.count("*").alias("listen_count"))
        .join(users, "user_id", how="left")
        .withColumn("unmatched_listens", F.when(is_unmatched, F.col("listen_count")).otherwise(0))
        .fillna(UNKNOWN, ["user_country"])
        .groupBy("listen_date", "user_country")
        .agg(
            F.sum("listen_count").alias("listen_count"),
            F.count("*").alias("unique_listeners"),
            F.sum("unmatched_listens").alias("unmatched_listens"),
        )
        .transform(with_rank_in_day, "country_rank", "user_country")
    )


def top_genres_per_day(genres: DataFrame) -> DataFrame:
    """Total each day's genres and list the five most heard; a track of several genres has its time once."""
    return genres.groupBy("listen_date").agg(
        F.sum("first_listening_ms").alias("listening_ms"),
        F.sum("unmatched_listens").alias("unmatched_track_listens"),
        top_list("genre_rank", 5, "track_genre", "listen_count").alias("top_5_genres_per_day"),
    )


def top_countries_per_day(countries: DataFrame) -> DataFrame:
    """Total each day's countries and list the five with the most listens.

    A user has one country, so the countries' listeners add up to the day's.
    """
    top_countries = top_list("country_rank", 5, "user_country", "listen_count", "unique_listeners")
    return countries.groupBy("listen_date").agg(
        F.sum("listen_count").alias("listen_count"),
        F.sum("unique_listeners").alias("unique_listeners"),
        F.sum("unmatched_listens").alias("unmatched_user_listens"),
        top_countries.alias("top_5_countries_per_day"),
    )


def with_item_columns(totals: DataFrame) -> DataFrame:
    """Add what every KPI item has: the `date` as text, and the listening times in minutes."""
    return totals.withColumns(
        {
            "date": F.col("listen_date").cast("string"),
            "total_listening_time": minutes(F.col("listening_ms"), F.lit(1)),
            "avg_listening_time_per_user": minutes(F.col("listening_ms"), F.col("unique_listeners")),
        }
    )


def genre_kpis(genres: DataFrame) -> DataFrame:
    """Return the KPI table's items of the genres."""
    return genres.transform(with_item_columns).select(
        "date",
        "track_genre",
        "listen_count",
        "unique_listeners",
        "total_listening_time",
        "avg_listening_time_per_user",
        "genre_rank",
        "top_3_songs_per_genre",
    )


def all_genres_kpis(genres: DataFrame, countries: DataFrame) -> DataFrame:
    """Return the KPI table's `ALL_GENRES` items of the days."""
    return (
        genres.transform(top_genres_per_day)
        .join(countries.transform(top_countries_per_day), "listen_date", how="inner")
        .transform(with_item_columns)
        .withColumn("track_genre", F.lit(ALL_GENRES))
        .select(
            "date",
            "track_genre",
            "listen_count",
            "unique_listeners",
            "total_listening_time",
            "avg_listening_time_per_user",
            "top_5_genres_per_day",
            "top_5_countries_per_day",
            "unmatched_track_listens",
            "unmatched_user_listens",
        )
    )


# --- Files ----------------------------------------------------------------------------------------


class Folder:
    """The files of a folder, through Hadoop's FileSystem API: wherever Spark can reach, without a Spark job.

    Args:
        spark: the session whose Hadoop configuration is used.
        uri: URI of the folder; all names are relative to it.
    """

    def __init__(self, spark: SparkSession, uri: str) -> None:
        self._uri = uri.rstrip("/")
        jvm: Any = spark._jvm
        self._hadoop = jvm.org.apache.hadoop
        self._file_system = self._path("").getFileSystem(spark._jsc.hadoopConfiguration())

    def _path(self, name: str) -> Any:
        return self._hadoop.fs.Path(self.uri(name))

    def uri(self, name: str) -> str:
        return f"{self._uri}/{name}".rstrip("/")

    def sizes(self, pattern: str) -> dict[str, int]:
        """Return file name -> size in bytes of the files that match a glob; nothing when there are none."""
        statuses = self._file_system.globStatus(self._path(pattern)) or []
        return {status.getPath().getName(): status.getLen() for status in statuses if status.isFile()}

    def read_text(self, name: str) -> str:
        stream = self._file_system.open(self._path(name))
        try:
            return bytes(self._hadoop.io.IOUtils.readFullyToByteArray(stream)).decode()
        finally:
            stream.close()

    def write_text(self, name: str, text: str) -> None:
        """Write a file, in place of an older one."""
        stream = self._file_system.create(self._path(name), True)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()

    def delete(self, name: str = "") -> None:
        """Delete a file, or a folder with all that is in it, if it exists."""
        self._file_system.delete(self._path(name), True)


# Day -> file name -> size in bytes.
HistoryFiles = Mapping[str, Mapping[str, int]]


@dataclass
class InputTable:
    """A table of the run's input: the URIs of the objects that the manifest names, and their bytes."""

    uris: list[str]
    size: int


def read_manifest(source: Folder) -> dict[str, InputTable]:
    """Return the tables `listens`, `songs` and `users` with the objects that the run's manifest names.

    Raises:
        FileNotFoundError: the manifest, or an object that it names, does not exist.
        ValueError: the manifest is not of the agreed form.
    """
    uri = source.uri(MANIFEST)
    if not source.sizes(MANIFEST):
        raise FileNotFoundError(
            f"input manifest {uri} not found: the run's {INPUT_TASK} has not finished; run the job after it"
        )
    try:
        manifest = json.loads(source.read_text(MANIFEST))
        names = {table: list(manifest[table]["objects"]) for table in ("listens", "songs", "users")}
    except (ValueError, KeyError, TypeError) as error:
        message = f"input manifest {uri} is unusable ({error!r}): run {INPUT_TASK} again to write it"
        raise ValueError(message) from error
    return {table: find_objects(source, names[table]) for table in names}


def find_objects(source: Folder, names: Sequence[str]) -> InputTable:
    """Return the named objects of the input; raises FileNotFoundError when one of them does not exist."""
    sizes: dict[str, int] = {}
    for folder in {name.rpartition("/")[0] for name in names}:
        sizes |= {f"{folder}/{file}": size for file, size in source.sizes(f"{folder}/*").items()}
    missing = [name for name in names if name not in sizes]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} objects named by input manifest {source.uri(MANIFEST)} not found, first "
            f"{missing[0]}: run {INPUT_TASK} again to write them"
        )
    return InputTable([source.uri(name) for name in names], sum(sizes[name] for name in names))


def read_parquet(spark: SparkSession, schema: str, uris: Sequence[str]) -> DataFrame:
    """Read exactly these files; the schema is given, since they come from several writers."""
    if not uris:
        return spark.createDataFrame([], schema)
    return spark.read.schema(schema).parquet(*uris)


# --- The job --------------------------------------------------------------------------------------


class ArgumentParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting: Glue reports an exception's message, but only the code of an exit."""
        raise ValueError(message)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the job's own arguments; Glue passes more, which are left alone.

    Raises:
        ValueError: an argument is missing, or REPROCESS_DATES holds something else than days.
    """
    parser = ArgumentParser(allow_abbrev=False)
    for name in ("S3_SOURCE_PATH", "S3_HISTORY_PATH", "S3_OUTPUT_PATH", "BATCH_ID"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--REPROCESS_DATES", type=parse_days, default=frozenset())
    return parser.parse_known_args(argv)[0]


def parse_days(text: str) -> frozenset[str]:
    """Return the days of a comma-separated list; raises argparse.ArgumentTypeError for what is none."""
    days = frozenset(day.strip() for day in text.split(",") if day.strip())
    for day in days:
        try:
            is_day = date.fromisoformat(day).isoformat() == day
        except ValueError:
            is_day = False
        if not is_day:
            raise argparse.ArgumentTypeError(f"{day!r} is no day; give YYYY-MM-DD, separated by commas")
    return days


def count_rows(listens: DataFrame) -> dict[str, int]:
    """Count each day's rows, repeated ones included; raises ValueError when a row has no listen time."""
    rows = listens.transform(with_listen_date).groupBy("listen_date").count().collect()
    counts = {str(row["listen_date"]): row["count"] for row in rows}
    if "None" in counts:
        raise ValueError(f"{counts['None']} input rows have no listen_time: they belong to no day")
    return counts


def read_listens(
    spark: SparkSession, batch_id: str, input_uris: Sequence[str], history: Folder, seen: HistoryFiles
) -> DataFrame:
    """Read the input and the history files, each listen with the `sources` bit of where it was found."""
    files = [(name, history.uri(f"listen_date={day}/{name}")) for day in seen for name in seen[day]]
    own = [uri for name, uri in files if name.startswith(f"{batch_id}__")]
    other = [uri for name, uri in files if not name.startswith(f"{batch_id}__")]
    places = [(IN_INPUT, input_uris), (IN_OWN_HISTORY, own), (IN_OTHER_HISTORY, other)]
    frames = [
        read_parquet(spark, LISTENS_SCHEMA, uris).withColumn("sources", F.lit(bit))
        for bit, uris in places
        if uris or bit == IN_INPUT
    ]
    return reduce(DataFrame.unionByName, frames).transform(with_listen_date)


def count_distinct(listens: DataFrame, days: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return each day's distinct listens: `total`, `new` and `added`.

    Raises:
        ValueError: a listen is of another day, so a history file lies in a wrong day's folder.
    """
    counts = {str(row["listen_date"]): row.asDict() for row in daily_listen_counts(listens).collect()}
    strays = sorted(counts.keys() - set(days))
    if strays:
        raise ValueError(f"the history of {', '.join(days)} holds listens of {', '.join(strays)}: move them")
    return {day: counts.get(day, {"total": 0, "new": 0, "added": 0}) for day in days}


def write_listens(added: DataFrame, uri: str) -> None:
    """Write the listens by day: one file for a small day, several written side by side for a large one."""
    # Spark splits the partition of a large day and merges small ones; only SQL has this hint with a column.
    balanced = added.sparkSession.sql("SELECT /*+ REBALANCE(listen_date) */ * FROM {added}", added=added)
    balanced.write.partitionBy("listen_date").parquet(uri)


def write_kpis(listens: DataFrame, songs: DataFrame, users: DataFrame, uri: str) -> None:
    """Compute the KPI items of all days and write them as JSON lines."""
    genres = genre_totals(listens, songs).persist()
    all_genres = all_genres_kpis(genres, country_totals(listens, users))
    genre_kpis(genres).unionByName(all_genres, allowMissingColumns=True).write.json(uri)
    genres.unpersist()


def list_output(output: Folder, days: Iterable[str]) -> dict[str, int]:
    """Return name -> size in bytes of an output's data files."""
    patterns = ["kpis/*.json", *(f"listens/listen_date={day}/*.parquet" for day in days)]
    return {
        f"{pattern.rpartition('/')[0]}/{name}": size
        for pattern in patterns
        for name, size in output.sizes(pattern).items()
    }


def set_shuffle_partitions(spark: SparkSession, size: int) -> None:
    """Fit the number of shuffle partitions to the bytes of Parquet read: a single one for a small run."""
    spark.conf.set("spark.sql.shuffle.partitions", math.ceil(size / PARTITION_BYTES) or 1)


def summarize_days(
    rows_read: Mapping[str, int], counts: Mapping[str, Mapping[str, int]], seen: HistoryFiles
) -> dict[str, dict[str, Any]]:
    """Return what the summary tells of each day."""
    return {
        day: {
            "rows_read": rows_read.get(day, 0),
            "new": counts[day]["new"],
            "repeated": rows_read.get(day, 0) - counts[day]["new"],
            "added": counts[day]["added"],
            "total": counts[day]["total"],
            "history_objects": sorted(seen[day]),
        }
        for day in seen
    }


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    """Do the job; the summary is deleted first and written last, so it vouches for the rest of the output."""
    started = time.monotonic()
    source, history = Folder(spark, args.S3_SOURCE_PATH), Folder(spark, args.S3_HISTORY_PATH)
    output = Folder(spark, args.S3_OUTPUT_PATH)
    tables = read_manifest(source)
    if not tables["listens"].uris and not args.REPROCESS_DATES:
        raise ValueError(f"nothing to do: no listens in {source.uri(MANIFEST)} and no REPROCESS_DATES")
    output.delete(SUMMARY)
    output.delete()

    input_size = sum(table.size for table in tables.values())
    set_shuffle_partitions(spark, input_size)
    rows_read = count_rows(read_parquet(spark, LISTENS_SCHEMA, tables["listens"].uris))
    days = sorted(args.REPROCESS_DATES.union(rows_read))
    seen = {day: history.sizes(f"listen_date={day}/*.parquet") for day in days}
    history_sizes = [size for files in seen.values() for size in files.values()]
    set_shuffle_partitions(spark, input_size + sum(history_sizes))
    print(f"{sum(rows_read.values())} rows read, days {', '.join(days)}", flush=True)
    print(f"{len(history_sizes)} history objects of these days, {sum(history_sizes)} bytes", flush=True)

    listens = read_listens(spark, args.BATCH_ID, tables["listens"].uris, history, seen)
    listens = listens.transform(distinct_listens).persist()
    day_summaries = summarize_days(rows_read, count_distinct(listens, days), seen)
    write_listens(listens.transform(filter_added_listens), output.uri("listens"))
    songs = read_parquet(spark, SONGS_SCHEMA, tables["songs"].uris).transform(unique_songs)
    users = read_parquet(spark, USERS_SCHEMA, tables["users"].uris).transform(unique_users)
    write_kpis(listens, songs, users, output.uri("kpis"))
    listens.unpersist()

    totals = {
        name: sum(day[name] for day in day_summaries.values()) for name in ("rows_read", "new", "repeated")
    }
    summary = {
        "batch_id": args.BATCH_ID,
        "computed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **totals,
        "days": day_summaries,
        "objects": list_output(output, days),
    }
    output.write_text(SUMMARY, json.dumps(summary))
    print(f"{totals['new']} listens new, {totals['repeated']} repeated", flush=True)
    print(f"done in {time.monotonic() - started:.1f} s", flush=True)


def main(argv: Sequence[str]) -> None:
    """Run the job with these arguments, in the Spark session that exists or in a new one."""
    args = parse_arguments(argv)
    run(SparkSession.builder.appName("music_streaming_kpis").config(map=SPARK_CONF).getOrCreate(), args)


if __name__ == "__main__":
    main(sys.argv[1:])
