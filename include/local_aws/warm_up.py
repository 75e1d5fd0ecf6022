"""A script that exercises common Spark operations, so their classes get loaded."""

import sys
from pathlib import Path
from typing import Any


def warm_up(folder: Path) -> int:
    """Use Spark briefly in ``folder``, then end it; return the exit code of its JVM."""
    from pyspark.sql import SparkSession, Window
    from pyspark.sql import functions as F

    spark = SparkSession.builder.config("spark.sql.shuffle.partitions", 2).getOrCreate()
    numbers = spark.range(1000).select(
        "id",
        (F.col("id") % 7).alias("group"),
        F.col("id").cast("string").alias("name"),
        F.timestamp_seconds("id").alias("time"),
    )
    parquet, csv, json = ((folder / name).as_uri() for name in ("parquet", "csv", "json"))
    numbers.write.parquet(parquet)
    numbers.write.csv(csv, header=True)
    from_csv = spark.read.csv(csv, header=True, inferSchema=True)
    rows = spark.read.parquet(parquet).union(from_csv).dropDuplicates().persist()
    ranks = F.row_number().over(Window.partitionBy("group").orderBy(F.desc("id"), "name"))
    totals = rows.groupBy("group").agg(F.count("*").alias("rows"), F.countDistinct("name").alias("names"))
    first = rows.withColumn("rank", ranks).where("rank <= 10").join(totals, "group", "left")
    first.createOrReplaceTempView("first")
    spark.sql("SELECT group, max(id) FROM first GROUP BY group").collect()
    first.repartition(2, "group").orderBy("group", "rank").write.partitionBy("group").json(json)
    first.join(F.broadcast(totals), "group").groupBy("group").agg(F.collect_list("name")).collect()

    java: Any = spark.sparkContext._gateway
    spark.stop()
    # PySpark leaves the JVM running; it writes the archive of its classes when it ends by itself.
    java.proc.stdin.close()
    return int(java.proc.wait())


if __name__ == "__main__":
    sys.exit(warm_up(Path(sys.argv[1])))
