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
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Any, NoReturn
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DecimalType, IntegerType, LongType, StructType

MANIFEST, SUMMARY = "manifest.json", "summary.json"
# The task of the pipeline that writes the input.
INPUT_TASK = "move_files_to_intermediate_bucket"
ALL_GENRES = "ALL_GENRES"
UNKNOWN = "Unknown"

LISTENS_SCHEMA = (
    StructType().add("user_id", "string").add("track_id", "string").add("listen_time", "timestamp")
)
SONGS_SCHEMA = (
    StructType()
    .add("row_id", "long")
    .add("track_id", "string")
    .add("track_name", "string")
    .add("artists", "string")
    .add("track_genre", "string")
    .add("duration_ms", "long")
)
USERS_SCHEMA = StructType().add("row_id", "long").add("user_id", "string").add("user_country", "string")

# Where a listen was found: the bits of its `sources` column.
IN_INPUT, IN_OWN_HISTORY, IN_OTHER_HISTORY = 1, 2, 4

SPARK_CONF: dict[str, Any] = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.adaptive.enabled": "true",
    # For where the script starts the JVM; on Glue it runs already. The collector for throughput; and the
    # optimizing compiler, which takes cores from the tasks, only for what is called very often.
    "spark.driver.defaultJavaOptions": "-XX:+UseParallelGC -XX:Tier4InvocationThreshold=100000 "
    "-XX:Tier4CompileThreshold=300000 -XX:Tier4BackEdgeThreshold=800000",
    # A hash map before the hash map, for keys that repeat: those of listens hardly do.
    "spark.sql.codegen.aggregate.map.twolevel.enabled": "false",
    # Ids hardly compress, and compressing them takes as long as all of the deduplication.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
    # Small enough that no core waits long for the last of few large files.
    "spark.sql.files.maxPartitionBytes": "32MB",
    # Days of hundreds of small files: some tens of them a task.
    "spark.sql.files.openCostInBytes": "1MB",
    # More than 32 days of history, or parts of the input, are listed by so many tasks.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "32",
    # Up to some million tracks, so that all listens need not be shuffled to meet them.
    "spark.sql.autoBroadcastJoinThreshold": "128MB",
    # A task writes few days, for which Spark would sort all their listens.
    "spark.sql.maxConcurrentOutputFileWriters": "64",
}
# Parquet bytes per shuffle partition, some hundred thousand listens. Larger ones would not fit a task's
# memory; in smaller ones tracks hardly repeat, so that counting them before a shuffle would save nothing.
PARTITION_BYTES = 16 * 1024 * 1024
# So a file of a large day has some tens of MB: its tracks are in a dictionary, unlike those of the input.
PARTITIONS_PER_FILE = 4
SECONDS_PER_DAY = 86_400
# Bits of a `long` that each stand for a genre.
GENRES_PER_WORD = 63


# --- Listens --------------------------------------------------------------------------------------


def with_listen_date(listens: DataFrame) -> DataFrame:
    """Add `listen_date`, the UTC day of the listen."""
    # Not `to_date`, which takes Java's calendar for every row.
    days = F.floor(F.unix_seconds("listen_time") / SECONDS_PER_DAY)
    return listens.withColumn("listen_date", F.date_from_unix_date(days.cast(IntegerType())))


def with_part(listens: DataFrame, parts: Mapping[str, Sequence[int]]) -> DataFrame:
    """Add `part`, one of those of the listen's day by its user; null for a day that has none.

    All listens of a user's day are in one part, and a large day has several, so each can be deduplicated,
    aggregated and written where it is.
    """
    first, last = (date.fromisoformat(select(parts)) for select in (min, max))
    days = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    # Literals that are looked up by position: nothing is joined for this.
    numbers_of_days = F.lit(json.dumps([parts.get(day) for day in days]))
    numbers = F.from_json(numbers_of_days, ArrayType(ArrayType(IntegerType())))
    of_day = F.get(numbers, F.datediff("listen_date", F.lit(first)))
    return listens.withColumn(
        "part", F.get(of_day, F.pmod(F.xxhash64("user_id"), F.size(of_day)).cast(IntegerType()))
    )


def distinct_listens(listens: DataFrame) -> DataFrame:
    """Make the listens unique; `sources` joins the places that a listen was found in."""
    # The day follows from the time: it need not be compared, only added again.
    identity = [name for name in listens.columns if name not in ("sources", "listen_date")]
    return listens.groupBy(*identity).agg(F.bit_or("sources").alias("sources")).transform(with_listen_date)


def distinct_listens_in_parts(
    listens: DataFrame, parts: Mapping[str, Sequence[int]], partitions: int
) -> DataFrame:
    """Bring the listens to their parts, the only shuffle of them all, and make them unique there."""
    return listens.transform(with_part, parts).repartition(partitions, "part").transform(distinct_listens)


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


def unique_songs(songs: DataFrame, partitions: int) -> DataFrame:
    """Make the songs unique by track and genre, the first row wins; missing text becomes `Unknown`.

    `is_first` marks a track's first row over all its genres. The result has this many partitions.
    """
    # One shuffle by track serves both windows.
    return (
        songs.repartition(partitions, "track_id")
        .fillna(UNKNOWN, ["track_genre", "track_name", "artists"])
        .withColumn("nth", row_number(["track_id", "track_genre"], ["row_id"]))
        .withColumn("is_first", F.col("row_id") == F.min("row_id").over(Window.partitionBy("track_id")))
        .where(F.col("nth") == 1)
        .select("track_id", "track_genre", "track_name", "artists", "duration_ms", "is_first")
    )


def genre_masks(songs: DataFrame) -> DataFrame:
    """Give each genre a bit of its own in the columns `mask_0`, `mask_1`, ...; `Unknown` the first."""
    found = {str(row["track_genre"]) for row in songs.select("track_genre").distinct().collect()}
    names = [UNKNOWN, *sorted(found - {UNKNOWN})]
    words = range(math.ceil(len(names) / GENRES_PER_WORD))
    rows = [
        {"track_genre": name, f"mask_{number // GENRES_PER_WORD}": 1 << number % GENRES_PER_WORD}
        for number, name in enumerate(names)
    ]
    schema = StructType().add("track_genre", "string")
    for word in words:
        schema.add(f"mask_{word}", "long")
    # Unlike the rows of `createDataFrame`, those of a literal are known to be few enough to be broadcast.
    literal = F.from_json(F.lit(json.dumps(rows)), ArrayType(schema))
    return one_row(songs.sparkSession).select(F.inline(literal)).fillna(0)


def one_row(spark: SparkSession) -> DataFrame:
    """Return a row to select literals with."""
    # Not `range(1)`, for whose type of row Spark would start Scala's reflection.
    return spark.sql("SELECT 1")


def track_masks(songs: DataFrame, genres: DataFrame) -> DataFrame:
    """Return each track and the bits of its genres."""
    return (
        songs.join(genres, "track_genre")
        .groupBy("track_id")
        .agg(*(F.bit_or(mask).alias(mask) for mask in mask_columns(genres)))
    )


def mask_columns(frame: DataFrame) -> list[str]:
    """Return the names of the columns that hold genres as bits."""
    return [name for name in frame.columns if name.startswith("mask_")]


def unique_users(users: DataFrame) -> DataFrame:
    """Make the users unique, the first row wins; a missing country becomes `Unknown`."""
    return (
        users.fillna(UNKNOWN, ["user_country"])
        .groupBy("user_id")
        .agg(F.min_by("user_country", "row_id").alias("user_country"))
        .select("user_id", "user_country")
    )


# --- KPIs -----------------------------------------------------------------------------------------


def track_listen_counts(listens: DataFrame) -> DataFrame:
    """Count each day's listens of each track."""
    return listens.groupBy("listen_date", "track_id").agg(F.count("*").alias("listen_count"))


def with_song(track_listens: DataFrame, songs: DataFrame) -> DataFrame:
    """Add the songs: a row per genre of the track, or one of `Unknown` when it is not in the catalog."""
    # Decimal, for a catalog may hold any 64-bit duration and their sum must not overflow.
    listens, duration_ms = F.col("listen_count"), F.col("duration_ms")
    listening_ms = listens.cast(DecimalType(18, 0)) * duration_ms.cast(DecimalType(19, 0))
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
    song = F.struct(F.col("song_rank").alias("rank"), "track_id", "track_name", "artists", "listen_count")
    top_songs = F.sort_array(F.collect_list(F.when(F.col("song_rank") <= 3, song)))
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


def user_totals(listens: DataFrame, tracks: DataFrame) -> DataFrame:
    """Count each user's listens of each day, and join the bits of the genres heard.

    Args:
        listens: distinct ones, with `part`.
        tracks: those of `track_masks`.
    """
    heard = [
        # The first bit is that of `Unknown`.
        F.bit_or(F.coalesce(mask, F.lit(1 if mask == "mask_0" else 0))).alias(mask)
        for mask in mask_columns(tracks)
    ]
    return (
        listens.join(tracks, "track_id", how="left")
        .groupBy("part", "listen_date", "user_id")
        .agg(F.count("*").alias("listen_count"), *heard)
        .drop("part")
    )


def with_country(user_listens: DataFrame, users: DataFrame) -> DataFrame:
    """Add each user's country; `unmatched_listens` are those of a user that the catalog does not have."""
    is_unmatched = F.col("user_country").isNull()
    return (
        user_listens.join(users, "user_id", how="left")
        .withColumn("unmatched_listens", F.when(is_unmatched, F.col("listen_count")).otherwise(0))
        .fillna(UNKNOWN, ["user_country"])
    )


def listener_counts(user_listens: DataFrame, genres: DataFrame) -> DataFrame:
    """Count each day's distinct users of each genre, and of each country over all genres.

    Args:
        user_listens: those of `user_totals`, with their countries.
        genres: those of `genre_masks`.

    Returns:
        A row per day and genre, without a country; and one per day and country, with `ALL_GENRES`.
    """
    masks = mask_columns(genres)
    # Whatever a user heard has a bit, so all users hear this one.
    all_genres = one_row(genres.sparkSession).select(
        F.lit(ALL_GENRES).alias("track_genre"), *(F.lit(-1).cast(LongType()).alias(mask) for mask in masks)
    )
    heard = [F.col(f"users.{mask}").bitwiseAND(F.col(f"genres.{mask}")) != 0 for mask in masks]
    country = F.when(F.col("track_genre") == ALL_GENRES, F.col("user_country"))
    return (
        user_listens.alias("users")
        .join(F.broadcast(genres.unionByName(all_genres).alias("genres")), reduce(or_, heard))
        .groupBy("listen_date", "track_genre", country.alias("user_country"))
        .agg(
            F.count("*").alias("unique_listeners"),
            F.sum("users.listen_count").alias("listen_count"),
            F.sum("unmatched_listens").alias("unmatched_listens"),
        )
    )


# --- Items of the KPI table -----------------------------------------------------------------------


def minutes(total_ms: int, shared_by: int = 1) -> Decimal:
    """Return `total_ms / shared_by` in minutes with 2 decimals, half up, rounded once from exact integers."""
    hundredths = (total_ms * 2 + shared_by * 600) // (shared_by * 1200)
    return Decimal(f"{hundredths}e-2")


def rank_by_listens(groups: Iterable[Row], name: str) -> list[Row]:
    """Return the groups in the order of their ranks, by listens and then by name; `Unknown` has none."""
    ranked = [group for group in groups if group[name] != UNKNOWN]
    return sorted(ranked, key=lambda group: (-group["listen_count"], group[name]))


def top_list(ranked: Sequence[Row], size: int, *columns: str) -> list[dict[str, Any]]:
    """Return these columns of the first `size` groups, each with its rank."""
    return [
        {"rank": rank} | {column: group[column] for column in columns}
        for rank, group in enumerate(ranked[:size], start=1)
    ]


def day_items(day: str, genres: Sequence[Row], listeners: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield the KPI table's items of a day: one per genre, and that of `ALL_GENRES`.

    Args:
        day: as in `2024-06-25`.
        genres: the day's rows of `top_songs_per_genre`.
        listeners: the day's rows of `listener_counts`.
    """
    unique_listeners = {row["track_genre"]: row["unique_listeners"] for row in listeners}
    ranked_genres = rank_by_listens(genres, "track_genre")
    ranks = {genre["track_genre"]: rank for rank, genre in enumerate(ranked_genres, start=1)}
    for genre in genres:
        name = genre["track_genre"]
        item = {
            "date": day,
            "track_genre": name,
            "listen_count": genre["listen_count"],
            "unique_listeners": unique_listeners[name],
            "total_listening_time": minutes(int(genre["listening_ms"])),
            "avg_listening_time_per_user": minutes(int(genre["listening_ms"]), unique_listeners[name]),
            "top_3_songs_per_genre": [song.asDict() for song in genre["top_3_songs_per_genre"]],
        }
        yield item | ({"genre_rank": ranks[name]} if name in ranks else {})
    # A user has one country, so the countries' listeners add up to the day's.
    countries = [row for row in listeners if row["track_genre"] == ALL_GENRES]
    listening_ms = int(sum(genre["first_listening_ms"] for genre in genres))
    day_listeners = sum(country["unique_listeners"] for country in countries)
    yield {
        "date": day,
        "track_genre": ALL_GENRES,
        "listen_count": sum(country["listen_count"] for country in countries),
        "unique_listeners": day_listeners,
        "total_listening_time": minutes(listening_ms),
        "avg_listening_time_per_user": minutes(listening_ms, day_listeners),
        "top_5_genres_per_day": top_list(ranked_genres, 5, "track_genre", "listen_count"),
        "top_5_countries_per_day": top_list(
            rank_by_listens(countries, "user_country"), 5, "user_country", "listen_count", "unique_listeners"
        ),
        "unmatched_track_listens": sum(genre["unmatched_listens"] for genre in genres),
        "unmatched_user_listens": sum(country["unmatched_listens"] for country in countries),
    }


def kpi_items(genres: Iterable[Row], listeners: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Yield the items of all days; the arguments are as for `day_items`, of whatever days."""
    days: dict[date, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for kind, rows in enumerate((genres, listeners)):
        for row in rows:
            days[row["listen_date"]][kind].append(row)
    for day in sorted(days):
        yield from day_items(day.isoformat(), *days[day])


def to_json(item: Mapping[str, Any]) -> str:
    """Return the item as a line of JSON, its decimals as exact numbers."""
    values = {
        name: str(value) if isinstance(value, Decimal) else json.dumps(value) for name, value in item.items()
    }
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in values.items()) + "}\n"


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

    def size(self, name: str) -> int | None:
        """Return the bytes of all files below a folder, or None when it does not exist."""
        path = self._path(name)
        exists = self._file_system.exists(path)
        return int(self._file_system.getContentSummary(path).getLength()) if exists else None

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


# Day -> names of the history's files in the day's folder.
HistoryFiles = Mapping[str, Sequence[str]]


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


def read_parquet(spark: SparkSession, schema: StructType, uris: Sequence[str]) -> DataFrame:
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
    spark: SparkSession, batch_id: str, input_uris: Sequence[str], history: Folder, days: Iterable[str]
) -> tuple[DataFrame, HistoryFiles]:
    """Read the input and the history of these days, each listen with the `sources` bit of where it was found.

    Args:
        spark: the session.
        batch_id: what the names of this batch's files in the history begin with.
        input_uris: the input's files.
        history: the folder that has a folder per day.
        days: those whose folder exists. Of one that has very many files, it takes longer to name each of them
            to Spark than to read them.

    Returns:
        The listens, and the history's files: exactly those that are read, whatever is added meanwhile, since
        both come from the one listing that Spark makes when it is told the folders.
    """
    listens = read_parquet(spark, LISTENS_SCHEMA, input_uris).withColumn("sources", F.lit(IN_INPUT))
    files = defaultdict(list)
    folders = [history.uri(f"listen_date={day}") for day in days]
    if folders:
        reader = spark.read.schema(LISTENS_SCHEMA).option("pathGlobFilter", "*.parquet")
        accepted = reader.parquet(*folders)
        own = []
        for uri in accepted.inputFiles():
            day, _, name = unquote(uri).rpartition("/listen_date=")[2].partition("/")
            files[day].append(name)
            if name.startswith(f"{batch_id}__"):
                # In the metadata too, names are those of a URI.
                own.append(uri.rpartition("/")[2])
        is_own = F.col("_metadata.file_name").isin(own)
        source = F.when(is_own, IN_OWN_HISTORY).otherwise(IN_OTHER_HISTORY)
        listens = listens.unionByName(accepted.withColumn("sources", source))
    return listens.transform(with_listen_date), files


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


def write_listens(added: DataFrame, partitions: int, uri: str) -> None:
    """Write the listens by day: one file for a small day, several written side by side for a large one."""
    files = math.ceil(partitions / PARTITIONS_PER_FILE)
    writer = added.coalesce(files).write.partitionBy("listen_date")
    options: dict[str, str | int] = {
        # A quarter smaller than with Spark's default, snappy, in about the same time.
        "compression": "zstd",
        "parquet.compression.codec.zstd.level": 1,
        # Users hardly repeat: mostly a dictionary of them would be made only to be given up.
        "parquet.enable.dictionary#user_id": "false",
        # Room for some hundred thousand tracks: past the default of 1 MB, each listen has its track's id.
        "parquet.dictionary.page.size": 8 * 1024 * 1024,
    }
    writer.options(**options).parquet(uri)


def list_output(output: Folder, days: Iterable[str]) -> dict[str, int]:
    """Return name -> size in bytes of an output's data files."""
    patterns = ["kpis/*.json", *(f"listens/listen_date={day}/*.parquet" for day in days)]
    return {
        f"{pattern.rpartition('/')[0]}/{name}": size
        for pattern in patterns
        for name, size in output.sizes(pattern).items()
    }


def day_sizes(
    rows_read: Mapping[str, int], input_size: int, history_sizes: Mapping[str, int | None]
) -> dict[str, float]:
    """Return about how many bytes of Parquet each day has in input and history together."""
    row_size = input_size / max(1, sum(rows_read.values()))
    return {day: rows_read.get(day, 0) * row_size + (size or 0) for day, size in history_sizes.items()}


def partitions_of(size: float) -> int:
    """Return how many shuffle partitions so many bytes of Parquet fill, at least one."""
    return max(1, math.ceil(size / PARTITION_BYTES))


def plan_parts(sizes: Mapping[str, float]) -> dict[str, range]:
    """Divide the days among shuffle partitions of `PARTITION_BYTES`: large ones get several.

    Args:
        sizes: bytes of each day.
    """
    parts: dict[str, range] = {}
    # Small days share a partition while there is room.
    count, free = 0, 0.0
    for day, size in sizes.items():
        if size > free or not count:
            parts[day] = range(count, count + partitions_of(size))
            count, free = parts[day].stop, PARTITION_BYTES - size
        else:
            parts[day] = range(count - 1, count)
            free -= size
    return parts


def part_numbers(spark: SparkSession, parts: Mapping[str, range]) -> dict[str, list[int]]:
    """Return each day's parts as numbers that Spark's hash sends to the planned shuffle partitions."""
    partitions = max(planned.stop for planned in parts.values())
    number_of = {0: 0}
    if partitions > 1:
        # So many that each partition is hit; were one not, its listens would share another.
        numbers = one_row(spark).select(F.explode(F.sequence(F.lit(0), F.lit(partitions * 20))).alias("id"))
        hashed = numbers.select(F.pmod(F.hash("id"), F.lit(partitions)), "id")
        number_of = dict(map(tuple, hashed.collect()))
    return {day: [number_of.get(part, part) for part in planned] for day, planned in parts.items()}


def summarize_days(
    rows_read: Mapping[str, int], counts: Mapping[str, Mapping[str, int]], history_files: HistoryFiles
) -> dict[str, dict[str, Any]]:
    """Return what the summary tells of each day."""
    return {
        day: {
            "rows_read": rows_read.get(day, 0),
            "new": counts[day]["new"],
            "repeated": rows_read.get(day, 0) - counts[day]["new"],
            "added": counts[day]["added"],
            "total": counts[day]["total"],
            "history_objects": sorted(history_files.get(day, [])),
        }
        for day in counts
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

    # To Spark, folders that it read before are the same, even when they hold other files now.
    spark.catalog.clearCache()
    songs = read_parquet(spark, SONGS_SCHEMA, tables["songs"].uris)
    songs = songs.transform(unique_songs, partitions_of(tables["songs"].size)).persist()
    # Side by side, since much of a small run is Spark's planning, and a large one's tasks end unevenly.
    with ThreadPoolExecutor() as pool:
        masks = pool.submit(genre_masks, songs)
        rows_read = count_rows(read_parquet(spark, LISTENS_SCHEMA, tables["listens"].uris))
        days = sorted(args.REPROCESS_DATES.union(rows_read))
        if not days:
            raise ValueError(f"nothing to do: the listens in {source.uri(MANIFEST)} have no rows")
        print(f"{sum(rows_read.values())} rows read, days {', '.join(days)}", flush=True)
        folder_sizes = pool.map(history.size, [f"listen_date={day}" for day in days])
        history_sizes = dict(zip(days, folder_sizes, strict=True))
        parts = plan_parts(day_sizes(rows_read, tables["listens"].size, history_sizes))
        partitions = parts[days[-1]].stop
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
        days_of_history = [day for day, size in history_sizes.items() if size is not None]
        all_listens, history_files = read_listens(
            spark, args.BATCH_ID, tables["listens"].uris, history, days_of_history
        )
        history_objects = sum(map(len, history_files.values()))
        print(f"{history_objects} history objects of these days; {partitions} partitions", flush=True)
        numbers = part_numbers(spark, parts)
        listens = all_listens.transform(distinct_listens_in_parts, numbers, partitions).persist()
        day_summaries = summarize_days(rows_read, count_distinct(listens, days), history_files)
        added = listens.transform(filter_added_listens)
        written = pool.submit(write_listens, added, partitions, output.uri("listens"))
        genres = top_songs_per_genre(listens.transform(track_listen_counts).transform(with_song, songs))
        genre_rows = pool.submit(genres.collect)
        users = read_parquet(spark, USERS_SCHEMA, tables["users"].uris).transform(unique_users)
        listeners = (
            listens.transform(user_totals, track_masks(songs, masks.result()))
            .transform(with_country, users)
            .transform(listener_counts, masks.result())
        )
        listener_rows = listeners.collect()
        items = kpi_items(genre_rows.result(), listener_rows)
        output.write_text("kpis/items.json", "".join(map(to_json, items)))
        written.result()

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
