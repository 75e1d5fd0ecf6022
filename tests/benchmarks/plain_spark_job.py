"""The plain Spark job of similar projects, as a reference.

CSV with inferred types, whole-row deduplication, joins of all listens, an aggregate per KPI, three windows.
It computes fewer KPIs than the Glue job, and ignores history and ties.

    python plain_spark_job.py CSV_FOLDER OUTPUT_FOLDER
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F


def main(source: str, output: str) -> None:
    """Compute genres, songs and countries by day from the folders of CSV files, and write them as JSON."""
    spark = SparkSession.builder.appName("plain_spark_job").getOrCreate()

    def read(name: str):  # type: ignore[no-untyped-def]
        options = {"header": True, "inferSchema": True, "multiLine": name == "songs", "escape": '"'}
        return spark.read.csv(f"{source}/{name}", **options).dropDuplicates()

    streams, songs, users = (read(name) for name in ("streams", "songs", "users"))
    listens = (
        streams.join(songs, "track_id", "left")
        .join(users, "user_id", "left")
        .withColumn("date", F.to_date("listen_time"))
        .fillna("Unknown", ["track_genre", "user_country"])
    )

    genres = listens.groupBy("date", "track_genre").agg(
        F.count("*").alias("listen_count"),
        F.countDistinct("user_id").alias("unique_listeners"),
        F.round(F.sum("duration_ms") / 60_000, 2).alias("total_listening_time"),
        F.round(F.sum("duration_ms") / 60_000 / F.countDistinct("user_id"), 2).alias(
            "avg_listening_time_per_user"
        ),
    )
    by_count = Window.partitionBy("date").orderBy(F.desc("listen_count"))
    top_genres = genres.withColumn("rank", F.rank().over(by_count)).where("rank <= 5")

    song_counts = listens.groupBy("date", "track_genre", "track_id", "track_name", "artists").agg(
        F.count("*").alias("listen_count")
    )
    within_genre = Window.partitionBy("date", "track_genre").orderBy(F.desc("listen_count"))
    top_songs = song_counts.withColumn("rank", F.rank().over(within_genre)).where("rank <= 3")

    countries = listens.groupBy("date", "user_country").agg(
        F.count("*").alias("listen_count"), F.countDistinct("user_id").alias("unique_listeners")
    )
    top_countries = countries.withColumn("rank", F.rank().over(by_count)).where("rank <= 5")

    results = {"genres": genres, "genre_ranks": top_genres, "songs": top_songs, "countries": top_countries}
    for name, kpis in results.items():
        kpis.write.mode("overwrite").partitionBy("date").json(f"{output}/{name}")
    streams.withColumn("date", F.to_date("listen_time")).write.mode("overwrite").partitionBy("date").parquet(
        f"{output}/listens"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
