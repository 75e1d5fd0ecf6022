"""The physical plans of a run: how often its data is read and shuffled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from glue_job_support import JobFolder, listen
from pyspark.sql import SparkSession

from glue_script import glue_script
from tests.kpi_oracle import Song, User

DAYS = ("2024-06-25", "2024-06-26")
LISTENS, USERS, TRACKS = 4_000, 40, 50
SONGS = [Song(f"t{n}", f"Song {n}", "Artist", f"genre {n % 5}", 60_000) for n in range(TRACKS)]


@dataclass(frozen=True)
class Node:
    """An operator of a physical plan; plans that read a cached frame share its operators."""

    name: str
    metrics: frozenset[int]


@dataclass(frozen=True)
class Run:
    """Spark's work: its operators, each once, and the rows that each stage shuffled."""

    operators: list[str]
    rows_shuffled: list[int]


def elements(sequence: Any) -> Iterator[Any]:
    """Yield the elements of a Scala Seq."""
    return (sequence.apply(index) for index in range(sequence.size()))


@pytest.fixture
def run(job: JobFolder, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the job in several partitions, with as many listens in the history as in the input."""
    monkeypatch.setattr(glue_script, "PARTITION_BYTES", 2 * 1024)
    # All times differ, so all listens are distinct.
    rows = [
        listen(
            f"u{n % USERS}",
            f"t{n % (TRACKS + 3)}",
            f"{DAYS[n % 2]} {n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}",
        )
        for n in range(LISTENS)
    ]
    job.write_input(rows[: LISTENS // 2], songs=SONGS, users=[User(f"u{n}", "Malta") for n in range(USERS)])
    job.write_history("other__0.parquet", rows[LISTENS // 2 :])
    known_executions = {execution.executionId() for execution in executions_of(spark)}
    known_stages = {stage.stageId() for stage in stages_of(spark)}
    job.run()
    graphs = [
        sql_store(spark).planGraph(execution.executionId())
        for execution in executions_of(spark)
        if execution.executionId() not in known_executions
    ]
    nodes = {
        Node(node.name().strip(), frozenset(metric.accumulatorId() for metric in elements(node.metrics())))
        for graph in graphs
        for node in elements(graph.allNodes())
    }
    stages = [stage for stage in stages_of(spark) if stage.stageId() not in known_stages]
    return Run(
        [node.name for node in nodes if node.metrics], [stage.shuffleWriteRecords() for stage in stages]
    )


def sql_store(spark: SparkSession) -> Any:
    return spark._jsparkSession.sharedState().statusStore()  # type: ignore[operator]


def executions_of(spark: SparkSession) -> Iterator[Any]:
    return elements(sql_store(spark).executionsList())


def stages_of(spark: SparkSession) -> Iterator[Any]:
    java: Any = spark._jvm
    quantiles = spark.sparkContext._gateway.new_array(java.double, 0)  # type: ignore[union-attr]
    store = spark.sparkContext._jsc.sc().statusStore()  # type: ignore[attr-defined]
    return elements(store.stageList(None, False, False, quantiles, java.java.util.ArrayList()))


def test_listens_are_shuffled_once_and_afterwards_only_what_was_counted(run: Run) -> None:
    all_listens, *others = sorted(run.rows_shuffled, reverse=True)
    assert all_listens == LISTENS
    assert sum(others) < LISTENS / 2


def test_run_has_only_the_exchanges_that_its_results_need(run: Run) -> None:
    # Rows per day, listens, counts per day; songs, users; tracks, top songs; listeners, countries.
    assert run.operators.count("Exchange") == 9


def test_each_file_is_scanned_once_except_for_the_times_of_the_input(run: Run) -> None:
    # Input, its times before, history, songs, users.
    assert run.operators.count("Scan parquet") == 5


def test_nothing_is_computed_in_python(run: Run) -> None:
    assert not [name for name in run.operators if "Python" in name or "Pandas" in name]


def test_day_of_many_files_is_listed_without_a_spark_job(job: JobFolder, spark: SparkSession) -> None:
    # Spark starts a listing job for this number of explicit paths.
    files = 2 * int(str(spark.conf.get("spark.sql.sources.parallelPartitionDiscovery.threshold")))
    for number in range(files):
        job.write_history(f"other__{number}.parquet", [listen(f"u{number}", "t1", f"{DAYS[0]} 12:00:00")])
    job.write_input([listen("late", "t1", f"{DAYS[0]} 13:00:00")])
    before = listing_jobs(spark)
    job.run()
    assert job.day(DAYS[0])["total"] == files + 1
    assert listing_jobs(spark) == before
    uris = [f"file://{path}" for path in job.history.rglob("*.parquet")]
    glue_script.read_parquet(spark, glue_script.LISTENS_SCHEMA, uris)
    assert listing_jobs(spark) == before + 1


def listing_jobs(spark: SparkSession) -> int:
    return sum("Listing leaf files" in str(stage.description()) for stage in stages_of(spark))
