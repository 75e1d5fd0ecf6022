"""Glue job: computes the music KPIs of every day for which a batch has listens.

The algorithm, as carried out by `run`:

1. Read the batch's input and find the days of its listens.
2. Read the history of exactly these days. Mark each listen with the places where it was found.
3. Remove duplicates: a listen is one user, one track, one instant.
4. Write the input listens that are missing from the history, the *added* ones. The pipeline stores them
   there.
5. Count each day's listens per track and per user, and its listeners per genre (`Counts`). Compute the KPIs
   from these. A track counts in each of its genres, and a user once per genre and day.
6. Write the KPI items, then the summary. The summary vouches for the rest of the output.

Late, repeated and replayed listens give exact results, because a day is computed from all its listens. For a
large day the job keeps a *snapshot*: `Totals` as of the day's history, which give the counts. As long as the
history is the same, the next batch needs only the added listens in step 5. In step 2, it needs only the
history of its own span of time, because a repeated listen has the same instant.
The cost grows with the number of days touched, not with the size of the history.

Glossary: a *batch* is the run's input. The *history* holds all accepted listens, in files named
`<BATCH_ID>__...`, one folder per day. A *new* listen is in no other batch; an *added* one is not yet in the
history. A *part* is a share of a day's users that fits one Spark partition.

The job takes these arguments:

* ``--S3_SOURCE_PATH``: the run's input; its ``manifest.json`` names the objects
* ``--S3_HISTORY_PATH``: the history, one ``listen_date=YYYY-MM-DD`` folder per day; read-only
* ``--S3_SNAPSHOTS_PATH``: the snapshots; they may be deleted whenever no job runs
* ``--S3_OUTPUT_PATH``: where the job writes the added listens, the KPI items and, last, ``summary.json``
* ``--BATCH_ID``: the run key
* ``--REPROCESS_DATES`` (optional): days to reprocess from the history, separated by commas

It is plain PySpark, so the same file runs on AWS Glue, under ``spark-submit`` and with ``python``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property, reduce
from typing import Any, NoReturn
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DecimalType, IntegerType, StructType

MANIFEST, SUMMARY = "manifest.json", "summary.json"
# The pipeline task that writes the input; error messages name it.
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

# Bits of the `sources` column: the places where a listen was found.
IN_INPUT, IN_OWN_HISTORY, IN_OTHER_HISTORY = 1, 2, 4

SECONDS_PER_DAY = 86_400


# --- Listens --------------------------------------------------------------------------------------


def with_listen_date(listens: DataFrame) -> DataFrame:
    """Add `listen_date`, the UTC day of the listen."""
    # Integer arithmetic: `to_date` would consult Java's calendar for every row.
    days = F.floor(F.unix_seconds("listen_time") / SECONDS_PER_DAY)
    return listens.withColumn("listen_date", F.date_from_unix_date(days.cast(IntegerType())))


def distinct_listens(listens: DataFrame) -> DataFrame:
    """Remove duplicate listens; `sources` combines the places where each one was found."""
    # The time determines the day. Adding it again is cheaper than grouping by it.
    identity = [name for name in listens.columns if name not in ("sources", "listen_date")]
    return listens.groupBy(*identity).agg(F.bit_or("sources").alias("sources")).transform(with_listen_date)


def is_new() -> Column:
    """Return the condition for an input listen that no other batch delivered.

    The condition gives the same result when a batch is replayed.
    """
    return F.col("sources").bitwiseAND(IN_INPUT | IN_OTHER_HISTORY) == IN_INPUT


def is_added() -> Column:
    """Return a condition: true for an input listen that is not yet in the history."""
    return F.col("sources") == IN_INPUT


def filter_added_listens(listens: DataFrame) -> DataFrame:
    """Keep the input listens that are not yet in the history."""
    return listens.where(is_added()).select("user_id", "track_id", "listen_time", "listen_date")


def daily_listen_counts(listens: DataFrame) -> DataFrame:
    """Count each day's distinct listens: `total`, `new` and `added`."""
    return listens.groupBy("listen_date").agg(
        F.count("*").alias("total"), F.count_if(is_new()).alias("new"), F.count_if(is_added()).alias("added")
    )


# --- Catalogs -------------------------------------------------------------------------------------


def row_number(within: Sequence[str], order: Sequence[str | Column]) -> Column:
    """Number the rows of each group of the columns `within`: 1..n, without gaps."""
    window = Window.partitionBy(*within).orderBy(*order)
    return F.row_number().over(window.rowsBetween(Window.unboundedPreceding, Window.currentRow))


def unique_songs(songs: DataFrame, partitions: int) -> DataFrame:
    """Keep the first row of each track and genre; missing text becomes `Unknown`.

    `is_first` marks a track's first row over all its genres. The result has `partitions` partitions.
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


def unique_users(users: DataFrame) -> DataFrame:
    """Keep the first row of each user; a missing country becomes `Unknown`."""
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
    """Join the songs to the listens: one row per genre of a track.

    A track that is not in the catalog gets one row of the genre `Unknown`.
    """
    # A catalog may hold any 64-bit duration. Decimals keep the sum from overflowing.
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
    """Sum up each day's genres and list the three most played songs of each, in one pass over the songs.

    `first_listening_ms` counts a track only in the genre of its first row, so the day's sum counts it once.
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


def genre_listeners(listens: DataFrame, songs: DataFrame) -> DataFrame:
    """Count each day's distinct users per genre; a track that is not in the catalog belongs to `Unknown`."""
    return (
        listens.join(songs.select("track_id", "track_genre"), "track_id", how="left")
        .fillna(UNKNOWN, ["track_genre"])
        # One partition holds all listens of a user and day, so `distinct` shuffles nothing.
        .select("part", "listen_date", "user_id", "track_genre")
        .distinct()
        .groupBy("listen_date", "track_genre")
        .agg(F.count("*").alias("unique_listeners"))
    )


def user_listen_counts(listens: DataFrame) -> DataFrame:
    """Count each user's listens of each day."""
    return listens.groupBy("part", "listen_date", "user_id").agg(F.count("*").alias("listen_count"))


def country_totals(user_listens: DataFrame, users: DataFrame) -> DataFrame:
    """Count each day's listens and distinct users per country.

    Users that are not in the catalog belong to `Unknown`; `unmatched_listens` counts their listens.
    """
    is_unmatched = F.col("user_country").isNull()
    return (
        user_listens.join(users, "user_id", how="left")
        .withColumn("unmatched_listens", F.when(is_unmatched, F.col("listen_count")).otherwise(0))
        .fillna(UNKNOWN, ["user_country"])
        .groupBy("listen_date", "user_country")
        .agg(
            F.count("*").alias("unique_listeners"),
            F.sum("listen_count").alias("listen_count"),
            F.sum("unmatched_listens").alias("unmatched_listens"),
        )
    )


@dataclass
class Counts:
    """Counts of each day from which the KPIs follow: listens per track and per user, listeners per genre."""

    track_listens: DataFrame
    user_listens: DataFrame
    genre_listeners: DataFrame


def count_listens(listens: DataFrame, songs: DataFrame) -> Counts:
    """Count each day's listens.

    Args:
        listens: distinct listens with the columns `listen_date` and `part`.
        songs: the result of `unique_songs`.
    """
    return Counts(track_listen_counts(listens), user_listen_counts(listens), genre_listeners(listens, songs))


def compute_kpis(counts: Counts, songs: DataFrame, users: DataFrame) -> list[dict[str, Any]]:
    """Compute the KPI items of every day.

    Args:
        counts: the days' counts.
        songs: the result of `unique_songs`.
        users: the result of `unique_users`.
    """
    queries = (
        counts.track_listens.transform(with_song, songs).transform(top_songs_per_genre),
        counts.genre_listeners,
        counts.user_listens.transform(country_totals, users),
    )
    # Concurrently: in a small run Spark spends much of the time planning, and in a large one the last tasks
    # of a query leave cores idle.
    with ThreadPoolExecutor() as pool:
        return list(kpi_items(*pool.map(DataFrame.collect, queries)))


# --- Items of the KPI table -----------------------------------------------------------------------


def minutes(total_ms: int, shared_by: int = 1) -> Decimal:
    """Return `total_ms / shared_by` in minutes, rounded half up to 2 decimals, exactly."""
    hundredths = (total_ms * 2 + shared_by * 600) // (shared_by * 1200)
    return Decimal(f"{hundredths}e-2")


def rank_by_listens(groups: Iterable[Row], name: str) -> list[Row]:
    """Sort the groups by rank: most listens first, then by name. `Unknown` has no rank and is left out."""
    ranked = [group for group in groups if group[name] != UNKNOWN]
    return sorted(ranked, key=lambda group: (-group["listen_count"], group[name]))


def top_list(ranked: Sequence[Row], size: int, *columns: str) -> list[dict[str, Any]]:
    """Return these columns of the first `size` groups, with their ranks."""
    return [
        {"rank": rank} | {column: group[column] for column in columns}
        for rank, group in enumerate(ranked[:size], start=1)
    ]


def day_items(
    day: str, genres: Sequence[Row], listeners: Sequence[Row], countries: Sequence[Row]
) -> Iterator[dict[str, Any]]:
    """Yield a day's KPI items: one per genre, then the one of `ALL_GENRES`.

    Args:
        day: a day such as `2024-06-25`.
        genres: the day's rows of `top_songs_per_genre`.
        listeners: the day's rows of `genre_listeners`.
        countries: the day's rows of `country_totals`.
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


def kpi_items(
    genres: Iterable[Row], listeners: Iterable[Row], countries: Iterable[Row]
) -> Iterator[dict[str, Any]]:
    """Yield the items of all days, from the rows of all days; see `day_items`."""
    days: dict[date, tuple[list[Row], list[Row], list[Row]]] = defaultdict(lambda: ([], [], []))
    for kind, rows in enumerate((genres, listeners, countries)):
        for row in rows:
            days[row["listen_date"]][kind].append(row)
    for day in sorted(days):
        yield from day_items(day.isoformat(), *days[day])


def to_json(item: Mapping[str, Any]) -> str:
    """Format the item as one line of JSON; decimals become exact numbers."""
    values = {
        name: str(value) if isinstance(value, Decimal) else json.dumps(value) for name, value in item.items()
    }
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in values.items()) + "}\n"


# --- Files ----------------------------------------------------------------------------------------


class Folder:
    """A folder's files, accessed through Hadoop's FileSystem API.

    It works on any store that Spark can reach and starts no Spark job.

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
        """Return file name -> size in bytes for the files that match a glob; empty if there are none.

        Spark ignores files whose name begins with `_` or `.`, and so does this.
        """
        statuses = self._file_system.globStatus(self._path(pattern)) or []
        files = {status.getPath().getName(): int(status.getLen()) for status in statuses if status.isFile()}
        return {name: size for name, size in files.items() if not name.startswith(("_", "."))}

    def read_text(self, name: str) -> str:
        stream = self._file_system.open(self._path(name))
        try:
            return bytes(self._hadoop.io.IOUtils.readFullyToByteArray(stream)).decode()
        finally:
            stream.close()

    def write_text(self, name: str, text: str) -> None:
        """Write a file and replace an older one."""
        stream = self._file_system.create(self._path(name), True)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()

    def delete(self, name: str = "") -> None:
        """Delete a file, or a folder with everything in it, if it exists."""
        self._file_system.delete(self._path(name), True)


# Instants of the first and the last listen, in microseconds since 1970.
TimeRange = tuple[int, int]
# Day -> names of the files in the day's folder of the history.
HistoryFiles = Mapping[str, Sequence[str]]


@dataclass
class InputTable:
    """One table of the run's input: the URIs of its objects and their total size in bytes."""

    uris: list[str]
    size: int


def read_manifest(source: Folder) -> dict[str, InputTable]:
    """Return the tables `listens`, `songs` and `users` with the objects that the run's manifest names.

    Raises:
        FileNotFoundError: the manifest, or an object that it names, does not exist.
        ValueError: the manifest is not JSON, or lacks a table.
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
    """Locate the named objects of the input.

    Raises:
        FileNotFoundError: an object does not exist.
    """
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


def read_parquet(spark: SparkSession, schema: StructType | str, uris: Sequence[str]) -> DataFrame:
    """Read exactly these files; the schema is explicit because several writers produced them."""
    if not uris:
        return spark.createDataFrame([], schema)
    return spark.read.schema(schema).parquet(*uris)


# --- Totals of large days -------------------------------------------------------------------------

# The genres that a user heard are bits of words, without the sign. Bit 3 of word 2 is the genre with number
# 2 * GENRES_PER_WORD + 3.
GENRES_PER_WORD = 63


@dataclass
class Totals:
    """Listens of each day, added up per track and per user, in a form to which more can be added.

    A user has a row for each word that has one of the user's genres. A listen counts in one of these rows.
    """

    tracks: DataFrame
    users: DataFrame


def number_genres(songs: DataFrame) -> DataFrame:
    """Number the genres of the catalog by name, from 1. `Unknown` has no number; it counts as 0."""
    genres = songs.select("track_genre").where(F.col("track_genre") != UNKNOWN).distinct()
    return genres.withColumn("genre_number", F.row_number().over(Window.orderBy("track_genre")))


def totals_of(listens: DataFrame, songs: DataFrame, genres: DataFrame) -> Totals:
    """Return the totals of each listen for itself; `sum_totals` adds them up.

    Args:
        listens: distinct listens with the columns `listen_date` and `part`.
        songs: the result of `unique_songs`.
        genres: the result of `number_genres`.
    """
    one = F.lit(1).cast("long")
    numbered = songs.join(F.broadcast(genres), "track_genre", how="left")
    users = (
        listens.join(numbered.select("track_id", "genre_number", "is_first"), "track_id", how="left")
        .fillna(0, ["genre_number"])
        .select(
            "part",
            "listen_date",
            "user_id",
            F.expr(f"genre_number div {GENRES_PER_WORD}").cast("integer").alias("word"),
            F.expr(f"shiftleft(1L, genre_number % {GENRES_PER_WORD})").alias("genres"),
            F.when(F.coalesce("is_first", F.lit(True)), one).otherwise(0).alias("listen_count"),
        )
    )
    return Totals(listens.select("listen_date", "track_id", one.alias("listen_count")), users)


def sum_totals(totals: Sequence[Totals]) -> Totals:
    """Add up the totals of each day's tracks and users."""
    tracks = reduce(DataFrame.unionByName, (each.tracks for each in totals))
    users = reduce(DataFrame.unionByName, (each.users for each in totals))
    listen_count = F.sum("listen_count").alias("listen_count")
    return Totals(
        tracks.groupBy("listen_date", "track_id").agg(listen_count),
        # One partition holds all listens of a user and day. Only the rows of snapshots are shuffled.
        users.groupBy("part", "listen_date", "user_id", "word").agg(
            F.bit_or("genres").alias("genres"), listen_count
        ),
    )


def count_totals(totals: Totals, genres: DataFrame) -> Counts:
    """Return the counts that `count_listens` returns for the same listens.

    Args:
        totals: the result of `sum_totals`.
        genres: the result of `number_genres`.
    """
    bits = F.explode(F.sequence(F.lit(0), F.lit(GENRES_PER_WORD - 1)))
    genre_number = (F.col("word") * GENRES_PER_WORD + F.col("bit")).alias("genre_number")
    genre_listeners = (
        totals.users.withColumn("bit", bits)
        .where("getbit(genres, bit) = 1")
        .groupBy("listen_date", genre_number)
        .agg(F.count("*").alias("unique_listeners"))
        .join(F.broadcast(genres), "genre_number", how="left")
        .fillna(UNKNOWN, ["track_genre"])
    )
    user_listens = totals.users.groupBy("part", "listen_date", "user_id")
    return Counts(
        totals.tracks, user_listens.agg(F.sum("listen_count").alias("listen_count")), genre_listeners
    )


# --- Snapshots ------------------------------------------------------------------------------------

# A snapshot is found by a hash of what it depends on: the names and sizes of the day's history files, and the
# genres of the catalog. If any of them changes, the day has no snapshot.

# Increase this when the content of a snapshot changes its meaning.
SNAPSHOT_FORMAT = 1
# A day has a snapshot from this size on, in bytes of Parquet. A smaller day is read faster than a snapshot is
# read and written.
SNAPSHOT_BYTES = 64 * 1024 * 1024
# A snapshot is used if at most this share of the day's bytes is read with it. With a batch that spans most of
# the day, it saves nothing.
SHARE_READ_WITH_SNAPSHOT = 0.5
# The columns of the tables, as Spark's types.
TOTALS_SCHEMAS = {
    "tracks": "listen_date date, track_id string, listen_count long",
    "users": "listen_date date, user_id string, word int, genres long, listen_count long",
}


@dataclass
class Snapshot:
    """A snapshot's name, its files (name -> size in bytes) and the day's number of listens."""

    name: str
    files: dict[str, int]
    listens: int

    @property
    def folders(self) -> set[str]:
        """The folders of its files, one for each table."""
        return {file.rpartition("/")[0] for file in self.files}

    def size_to_read(self, span: TimeRange, history_size: int) -> float:
        """Estimate the bytes to read with it: its files, and the history of this span of the day."""
        first, last = span
        return sum(self.files.values()) + history_size * (last - first) / (SECONDS_PER_DAY * 1_000_000)


class Snapshots:
    """The snapshots of all days.

    Args:
        folder: where they are stored.
        songs: the result of `unique_songs`.
    """

    def __init__(self, folder: Folder, songs: DataFrame) -> None:
        self._folder, self._songs = folder, songs

    def find(self, day: str, history_sizes: Mapping[str, int]) -> Snapshot | None:
        """Return the day's snapshot as of these history files (name -> size in bytes), or None.

        A snapshot that is damaged, or has lost a file, counts as none.
        """
        snapshot = self._load(self._name(day, history_sizes))
        return snapshot if snapshot and self._sizes(snapshot.folders) == snapshot.files else None

    def find_useful(
        self, history_sizes: Mapping[str, Mapping[str, int]], time_ranges: Mapping[str, TimeRange]
    ) -> dict[str, Snapshot]:
        """Return the snapshots of these days, by day, with which little of the day is left to read."""
        useful = {}
        for day, sizes in history_sizes.items():
            size = sum(sizes.values())
            snapshot = self.find(day, sizes)
            if snapshot and snapshot.size_to_read(time_ranges[day], size) <= size * SHARE_READ_WITH_SNAPSHOT:
                useful[day] = snapshot
        return useful

    def read(
        self, spark: SparkSession, snapshots: Iterable[Snapshot], parts: Mapping[str, Sequence[int]]
    ) -> Totals:
        """Return the totals of these snapshots, with the users in these parts."""
        tables = {}
        for table, schema in TOTALS_SCHEMAS.items():
            # Named one by one, so that Spark fails if one is deleted meanwhile.
            files = [file for snapshot in snapshots for file in snapshot.files if f"/{table}/" in file]
            tables[table] = read_parquet(spark, schema, [self._folder.uri(file) for file in files])
        return Totals(tables["tracks"], tables["users"].transform(with_part, parts))

    def write_tables(self, totals: Totals, days: Sequence[str]) -> str:
        """Write the totals of these days to a new folder; return its name."""
        folder = f"tables/{uuid.uuid4()}"
        # A part is one of this run only.
        for table, rows in (("tracks", totals.tracks), ("users", totals.users.drop("part"))):
            of_days = rows.where(F.col("listen_date").isin(*days))
            writer = of_days.withColumn("day", F.col("listen_date")).write.partitionBy("day")
            writer.parquet(self._folder.uri(f"{folder}/{table}"))
        return folder

    def publish(
        self, day: str, history_sizes: Mapping[str, int], folder: str, listens: int, before: Snapshot | None
    ) -> None:
        """Make the tables in this folder the day's snapshot as of these history files.

        The day's other snapshots are deleted, except the one before, which a repetition of this job needs.
        """
        name = self._name(day, history_sizes)
        files = self._sizes(f"{folder}/{table}/day={day}" for table in TOTALS_SCHEMAS)
        self._folder.write_text(name, json.dumps({"files": files, "listens": listens}))
        others = {f"listen_date={day}/{file}" for file in self._folder.sizes(f"listen_date={day}/*.json")}
        for other in others - {name, before.name if before else ""}:
            superseded = self._load(other)
            self._folder.delete(other)
            for tables in superseded.folders if superseded else ():
                self._folder.delete(tables)

    def _load(self, name: str) -> Snapshot | None:
        if not self._folder.sizes(name):
            return None
        try:
            return Snapshot(name, **json.loads(self._folder.read_text(name)))
        except (ValueError, TypeError):
            return None

    def _name(self, day: str, history_sizes: Mapping[str, int]) -> str:
        state = json.dumps([SNAPSHOT_FORMAT, self._catalog, sorted(history_sizes.items())])
        return f"listen_date={day}/{hashlib.sha256(state.encode()).hexdigest()}.json"

    @cached_property
    def _catalog(self) -> list[int]:
        """Number of songs, and a checksum of the columns from which totals are made."""
        checksum = F.bit_xor(F.xxhash64("track_id", "track_genre", "is_first"))
        return list(self._songs.agg(F.count("*"), checksum).collect()[0])

    def _sizes(self, folders: Iterable[str]) -> dict[str, int]:
        return {
            f"{folder}/{name}": size
            for folder in folders
            for name, size in self._folder.sizes(f"{folder}/*.parquet").items()
        }


# --- Partitions -----------------------------------------------------------------------------------

# All listens of a user and day go to one partition, where they are deduplicated, counted and written without
# another shuffle. Example: with 16 MB per partition, a late day of 1 MB and a day of 40 MB are planned as
#     2024-06-24 → part 0;  2024-06-25 → parts 1, 2 and 3, by the hash of the user.
# A plain `repartition("listen_date", "user_id")` would spread every day over every partition, and each
# partition would write a small file per day.

# Parquet bytes per shuffle partition: some hundred thousand listens. Larger partitions would not fit a task's
# memory. In smaller ones tracks hardly repeat, so counting them before a shuffle would save nothing.
PARTITION_BYTES = 16 * 1024 * 1024
# A file of a large day has some tens of MB. Its tracks then fit a dictionary, unlike those of the input.
PARTITIONS_PER_FILE = 4


def day_sizes(
    rows_read: Mapping[str, int], input_size: int, stored_sizes: Mapping[str, float]
) -> dict[str, float]:
    """Estimate each day's size in bytes of Parquet: its input, and what is stored of it."""
    row_size = input_size / max(1, sum(rows_read.values()))
    return {day: rows_read.get(day, 0) * row_size + size for day, size in stored_sizes.items()}


def partitions_of(size: float) -> int:
    """Return the number of shuffle partitions for this many bytes of Parquet, at least one."""
    return max(1, math.ceil(size / PARTITION_BYTES))


def plan_parts(sizes: Mapping[str, float]) -> dict[str, range]:
    """Divide the days among shuffle partitions of `PARTITION_BYTES`; a large day gets several.

    Args:
        sizes: bytes of each day.
    """
    parts: dict[str, range] = {}
    # Small days share a partition while it has room.
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
    """Return each day's parts as numbers that Spark's hash maps to the planned shuffle partitions."""
    partitions = max(planned.stop for planned in parts.values())
    number_of = {0: 0}
    if partitions > 1:
        # This many numbers hit every partition. If they missed one, its listens would share another
        # partition.
        # SQL instead of `spark.range`, because `range` makes Spark start Scala's reflection.
        numbers = spark.sql(f"SELECT explode(sequence(0, {partitions * 20})) AS id")
        hashed = numbers.select(F.pmod(F.hash("id"), F.lit(partitions)), "id")
        number_of = dict(map(tuple, hashed.collect()))
    return {day: [number_of.get(part, part) for part in planned] for day, planned in parts.items()}


def with_part(listens: DataFrame, parts: Mapping[str, Sequence[int]]) -> DataFrame:
    """Add `part`: one of the parts of the listen's day, chosen by a hash of the user.

    It is null for a day without parts. All listens of a user and day are in one part. A large day has several
    parts, so each can be deduplicated, aggregated and written where it is.
    """
    first, last = (date.fromisoformat(select(parts)) for select in (min, max))
    days = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    # The numbers are literals that each row looks up by position, so no join is needed.
    numbers_of_days = F.lit(json.dumps([parts.get(day) for day in days]))
    numbers = F.from_json(numbers_of_days, ArrayType(ArrayType(IntegerType())))
    of_day = F.get(numbers, F.datediff("listen_date", F.lit(first)))
    return listens.withColumn(
        "part", F.get(of_day, F.pmod(F.xxhash64("user_id"), F.size(of_day)).cast(IntegerType()))
    )


def distinct_listens_in_parts(
    listens: DataFrame, parts: Mapping[str, Sequence[int]], partitions: int
) -> DataFrame:
    """Move the listens to their parts, the only shuffle of all listens, and remove duplicates there."""
    return listens.transform(with_part, parts).repartition(partitions, "part").transform(distinct_listens)


# --- The job --------------------------------------------------------------------------------------

SPARK_CONF: dict[str, Any] = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.adaptive.enabled": "true",
    # Spark's first-level hash map helps only keys that repeat; a listen's key hardly ever does.
    "spark.sql.codegen.aggregate.map.twolevel.enabled": "false",
    # Ids hardly compress, and compressing them takes as long as the whole deduplication.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
    # Small splits, so no core waits long for the last of a few large files.
    "spark.sql.files.maxPartitionBytes": "32MB",
    # A low cost per file puts some tens of small files into one task.
    "spark.sql.files.openCostInBytes": "1MB",
    # Spark lists more than 32 paths in a job of its own; this is its number of tasks.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "32",
    # Broadcasts catalogs of up to some million tracks, so the listens need no shuffle for the join.
    "spark.sql.autoBroadcastJoinThreshold": "128MB",
    # A task writes few days. Above this number of open files, Spark would sort all their listens.
    "spark.sql.maxConcurrentOutputFileWriters": "64",
}


class ArgumentParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting: Glue reports an exception's message, but only the code of an exit."""
        raise ValueError(message)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the job's own arguments and ignore those that Glue adds.

    Raises:
        ValueError: an argument is missing, or REPROCESS_DATES is not a list of days.
    """
    parser = ArgumentParser(allow_abbrev=False)
    for name in ("S3_SOURCE_PATH", "S3_HISTORY_PATH", "S3_SNAPSHOTS_PATH", "S3_OUTPUT_PATH", "BATCH_ID"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--REPROCESS_DATES", type=parse_days, default=frozenset())
    return parser.parse_known_args(argv)[0]


def parse_days(text: str) -> frozenset[str]:
    """Parse a comma-separated list of days.

    Raises:
        argparse.ArgumentTypeError: an element is not a day in the form YYYY-MM-DD.
    """
    days = frozenset(day.strip() for day in text.split(",") if day.strip())
    for day in days:
        try:
            is_day = date.fromisoformat(day).isoformat() == day
        except ValueError:
            is_day = False
        if not is_day:
            raise argparse.ArgumentTypeError(f"{day!r} is not a day; give YYYY-MM-DD, separated by commas")
    return days


def count_rows(listens: DataFrame) -> tuple[dict[str, int], dict[str, TimeRange]]:
    """Count each day's rows, including duplicates, and find the day's first and last instant.

    Raises:
        ValueError: a row has no listen time.
    """
    instant = F.unix_micros("listen_time")
    by_day = listens.transform(with_listen_date).groupBy("listen_date")
    rows = by_day.agg(F.count("*"), F.min(instant), F.max(instant)).collect()
    counts = {str(day): count for day, count, _, _ in rows}
    if "None" in counts:
        raise ValueError(f"{counts['None']} input rows have no listen_time: they belong to no day")
    return counts, {str(day): (first, last) for day, _, first, last in rows}


def read_listens(
    spark: SparkSession,
    batch_id: str,
    input_uris: Sequence[str],
    history: Folder,
    days: Iterable[str],
    time_ranges: Mapping[str, TimeRange],
) -> tuple[DataFrame, HistoryFiles]:
    """Read the input and the history of these days; `sources` marks where each listen was found.

    Args:
        spark: the session.
        batch_id: prefix of the names of this batch's files in the history.
        input_uris: the input's files.
        history: the history's folder, with one subfolder per day.
        days: days whose subfolder exists. Spark gets folders instead of files: naming each of very many files
            takes longer than reading them.
        time_ranges: days of which only a range of the history is read.

    Returns:
        The listens, and the history files that are read. Both come from one listing, which Spark makes here,
        so files that are added later change neither.
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
                # `_metadata.file_name` is URI-encoded, like these names.
                own.append(uri.rpartition("/")[2])
        is_own = F.col("_metadata.file_name").isin(own)
        source = F.when(is_own, IN_OWN_HISTORY).otherwise(IN_OTHER_HISTORY)
        needed = accepted.where(is_needed(time_ranges))
        listens = listens.unionByName(needed.withColumn("sources", source))
    return listens.transform(with_listen_date), files


def is_needed(time_ranges: Mapping[str, TimeRange]) -> Column:
    """Return a condition: false for a listen of one of these days that is outside the day's range.

    Each comparison is with a constant, so Spark skips files and pages by Parquet's statistics.
    """
    needed = F.lit(True)
    for day, (first, last) in time_ranges.items():
        start = (date.fromisoformat(day) - date(1970, 1, 1)) // timedelta(microseconds=1)
        instants = (start, first, last, start + SECONDS_PER_DAY * 1_000_000)
        midnight, first_time, last_time, next_midnight = (F.timestamp_micros(F.lit(n)) for n in instants)
        time = F.col("listen_time")
        needed &= (time < midnight) | time.between(first_time, last_time) | (time >= next_midnight)
    return needed


def count_distinct(
    listens: DataFrame, days: Iterable[str], snapshots: Mapping[str, Snapshot]
) -> dict[str, dict[str, int]]:
    """Count each day's distinct listens: `total`, `new` and `added`.

    Raises:
        ValueError: a listen belongs to another day, so a history file is in the wrong day's folder.
    """
    counts = {str(row["listen_date"]): row.asDict() for row in daily_listen_counts(listens).collect()}
    strays = sorted(counts.keys() - set(days))
    if strays:
        raise ValueError(f"the history of {', '.join(days)} holds listens of {', '.join(strays)}: move them")
    for day, snapshot in snapshots.items():
        counts[day]["total"] = snapshot.listens + counts[day]["added"]
    return {day: counts.get(day, {"total": 0, "new": 0, "added": 0}) for day in days}


def write_listens(added: DataFrame, partitions: int, uri: str) -> None:
    """Write the listens by day: one file for a small day, several concurrently for a large one."""
    files = math.ceil(partitions / PARTITIONS_PER_FILE)
    writer = added.coalesce(files).write.partitionBy("listen_date")
    options: dict[str, str | int] = {
        # A quarter smaller than Spark's default, snappy, in about the same time.
        "compression": "zstd",
        "parquet.compression.codec.zstd.level": 1,
        # User ids hardly repeat. The writer would build a dictionary of them and then discard it.
        "parquet.enable.dictionary#user_id": "false",
        # Room for some hundred thousand tracks. Beyond the default of 1 MB, every listen would repeat its
        # track's id.
        "parquet.dictionary.page.size": 8 * 1024 * 1024,
    }
    writer.options(**options).parquet(uri)


def list_output(output: Folder, days: Iterable[str]) -> dict[str, int]:
    """Return name -> size in bytes for the data files of the output."""
    patterns = ["kpis/*.json", *(f"listens/listen_date={day}/*.parquet" for day in days)]
    return {
        f"{pattern.rpartition('/')[0]}/{name}": size
        for pattern in patterns
        for name, size in output.sizes(pattern).items()
    }


def summarize_days(
    rows_read: Mapping[str, int], counts: Mapping[str, Mapping[str, int]], history_files: HistoryFiles
) -> dict[str, dict[str, Any]]:
    """Build the summary's entry of each day."""
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
    """Run the job.

    The summary is deleted first and written last, so it vouches for the rest of the output.
    """
    started = time.monotonic()
    source, history = Folder(spark, args.S3_SOURCE_PATH), Folder(spark, args.S3_HISTORY_PATH)
    output = Folder(spark, args.S3_OUTPUT_PATH)
    tables = read_manifest(source)
    if not tables["listens"].uris and not args.REPROCESS_DATES:
        raise ValueError(f"nothing to do: no listens in {source.uri(MANIFEST)} and no REPROCESS_DATES")
    output.delete(SUMMARY)
    output.delete()

    # Spark caches listings by path; an earlier run's listings would hide files that were added since.
    spark.catalog.clearCache()
    songs = read_parquet(spark, SONGS_SCHEMA, tables["songs"].uris)
    songs = songs.transform(unique_songs, partitions_of(tables["songs"].size)).persist()
    users = read_parquet(spark, USERS_SCHEMA, tables["users"].uris).transform(unique_users)
    rows_read, time_ranges = count_rows(read_parquet(spark, LISTENS_SCHEMA, tables["listens"].uris))
    days = sorted(args.REPROCESS_DATES.union(rows_read))
    if not days:
        raise ValueError(f"nothing to do: the listens in {source.uri(MANIFEST)} have no rows")
    print(f"{sum(rows_read.values())} rows read, days {', '.join(days)}", flush=True)
    snapshots = Snapshots(Folder(spark, args.S3_SNAPSHOTS_PATH), songs)
    with ThreadPoolExecutor() as pool:
        listed = pool.map(history.sizes, [f"listen_date={day}/*.parquet" for day in days])
        history_sizes = dict(zip(days, listed, strict=True))
        stored_sizes = {day: sum(sizes.values()) for day, sizes in history_sizes.items()}
        days_of_history = [day for day, size in stored_sizes.items() if size]
        sizes = day_sizes(rows_read, tables["listens"].size, stored_sizes)
        large_days = [day for day in days if sizes[day] > SNAPSHOT_BYTES and day not in args.REPROCESS_DATES]
        used = snapshots.find_useful({day: history_sizes[day] for day in large_days}, time_ranges)
        to_read = stored_sizes | {
            day: snapshot.size_to_read(time_ranges[day], stored_sizes[day]) for day, snapshot in used.items()
        }
        parts = plan_parts(day_sizes(rows_read, tables["listens"].size, to_read))
        partitions = parts[days[-1]].stop
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
        all_listens, history_files = read_listens(
            spark,
            args.BATCH_ID,
            tables["listens"].uris,
            history,
            days_of_history,
            {day: time_ranges[day] for day in used},
        )
        if changed := [day for day in large_days if set(history_files[day]) != set(history_sizes[day])]:
            raise RuntimeError(f"the history of {', '.join(changed)} changed meanwhile: run the job again")
        history_objects = sum(map(len, history_files.values()))
        print(f"{history_objects} history objects of these days; {partitions} partitions", flush=True)
        print(f"days with a snapshot: {', '.join(used) or 'none'}", flush=True)
        numbers = part_numbers(spark, parts)
        listens = all_listens.transform(distinct_listens_in_parts, numbers, partitions).persist()
        counts = count_distinct(listens, days, used)
        day_summaries = summarize_days(rows_read, counts, history_files)
        added = listens.transform(filter_added_listens)
        written = pool.submit(write_listens, added, partitions, output.uri("listens"))
        changed_days = [day for day in large_days if day not in used or counts[day]["added"]]
        if large_days:
            genres = songs.transform(number_genres).persist()
            # A snapshot counts the listens in the history already.
            uncounted = listens.where(is_added() | ~F.col("listen_date").isin(*used)) if used else listens
            counted = [snapshots.read(spark, used.values(), numbers)] if used else []
            totals = sum_totals([totals_of(uncounted, songs, genres), *counted])
            for table in (totals.tracks, totals.users):
                table.persist()
            kpi_counts = count_totals(totals, genres)
            if changed_days:
                tables_written = pool.submit(snapshots.write_tables, totals, changed_days)
        else:
            kpi_counts = count_listens(listens, songs)
        items = compute_kpis(kpi_counts, songs, users)
        output.write_text("kpis/items.json", "".join(map(to_json, items)))
        written.result()
        objects = list_output(output, days)
        for day in changed_days:
            folder = f"listens/listen_date={day}/"
            own_sizes = {
                name.replace(folder, f"{args.BATCH_ID}__"): size
                for name, size in objects.items()
                if name.startswith(folder)
            }
            snapshots.publish(
                day=day,
                history_sizes=history_sizes[day] | own_sizes,
                folder=tables_written.result(),
                listens=counts[day]["total"],
                before=used.get(day),
            )

    sums = {
        name: sum(day[name] for day in day_summaries.values()) for name in ("rows_read", "new", "repeated")
    }
    summary = {
        "batch_id": args.BATCH_ID,
        "computed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **sums,
        "days": day_summaries,
        "objects": objects,
    }
    output.write_text(SUMMARY, json.dumps(summary))
    print(f"{sums['new']} listens new, {sums['repeated']} repeated", flush=True)
    print(f"done in {time.monotonic() - started:.1f} s", flush=True)


def main(argv: Sequence[str]) -> None:
    """Run the job with these arguments, in the current Spark session or in a new one."""
    args = parse_arguments(argv)
    run(SparkSession.builder.appName("music_streaming_kpis").config(map=SPARK_CONF).getOrCreate(), args)


if __name__ == "__main__":
    main(sys.argv[1:])
