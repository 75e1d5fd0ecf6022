"""The Glue script on a Spark with several worker processes, each an executor, as on Glue's workers."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyspark
import pytest
from glue_job_support import JobFolder, at

from include.commands.environment import ROOT
from include.local_aws.java import find_java_home
from tests.kpi_oracle import Listen, Song, User, kpi_items

EXECUTORS = 2
MEGABYTES = 1024
# The script with partitions as small as the data, so every shuffle crosses the executors.
SCRIPT = """
import sys
from glue_script import glue_script
glue_script.PARTITION_BYTES = 64 * 1024
glue_script.main(sys.argv[1:])
"""
SKEWED_DAY = "2024-06-25"


def skewed_listens(seed: int, number: int) -> list[Listen]:
    """Listens of which nine in ten are on one day and nine in ten in one genre; some are repeated."""
    chance = random.Random(seed)
    listens = []
    for _ in range(number):
        day = 0 if chance.random() < 0.9 else chance.randrange(1, 5)
        track = f"hit{chance.randrange(40)}" if chance.random() < 0.9 else f"track{chance.randrange(300)}"
        user = f"user{int(chance.paretovariate(0.5)) % 700}"
        at_second = timedelta(days=day, seconds=chance.randrange(86_400))
        listens.append(Listen(user, track, at(SKEWED_DAY) + at_second))
    return listens + chance.sample(listens, number // 20)


SONGS = [
    *(Song(f"hit{n}", f"Hit {n}", "Artist", "pop", 180_000 + n) for n in range(40)),
    # Some have several genres, some are not in the catalog.
    *(Song(f"track{n}", f"Track {n}", "Artist", f"genre{n % 30}", 60_000 + n) for n in range(280)),
    *(Song(f"track{n}", f"Track {n}", "Artist", f"genre{n % 7}", 60_000 + n) for n in range(0, 280, 3)),
]
USERS = [User(f"user{n}", f"Country {n % 12}") for n in range(690)]


@pytest.fixture
def spark_home(tmp_path: Path) -> Path:
    """Spark's folder, with a place for the files of its workers."""
    home = tmp_path / "spark"
    (home / "work").mkdir(parents=True)
    for entry in Path(pyspark.__path__[0]).iterdir():
        if entry.name != "work":
            (home / entry.name).symlink_to(entry)
    return home


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


def run_on_executors(job: JobFolder, spark_home: Path, events: Path) -> None:
    """Run the script like `spark-submit`, with each executor in its own process."""
    events.mkdir()
    settings = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.as_uri(),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
        # The optimizing compiler would take half of the time of three short processes.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    }
    options = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    master = f"local-cluster[{EXECUTORS},1,{MEGABYTES}]"
    environment = os.environ | {
        "JAVA_HOME": find_java_home(),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_HOME": str(spark_home),
        "PYTHONPATH": str(ROOT),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_SUBMIT_ARGS": " ".join(["--master", master, *options, "pyspark-shell"]),
    }
    command = [sys.executable, "-c", SCRIPT, *job.arguments()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def tasks_by_executor(events: Path) -> Counter[str]:
    def lines() -> Iterator[dict[str, object]]:
        for path in events.iterdir():
            for line in path.read_text().splitlines():
                yield json.loads(line)

    ended = [event["Task Info"] for event in lines() if event["Event"] == "SparkListenerTaskEnd"]
    return Counter(task["Executor ID"] for task in ended if isinstance(task, dict))


def test_skewed_run_on_several_executors_has_the_results_of_one_process(
    job: JobFolder, spark_home: Path, tmp_path: Path
) -> None:
    listens, earlier = skewed_listens(1, 30_000), skewed_listens(2, 10_000)
    known = set(earlier)
    job.write_history("other__0.parquet", earlier)
    job.write_input(*(listens[start::4] for start in range(4)), songs=SONGS, users=USERS)

    run_on_executors(job, spark_home, tmp_path / "events")

    tasks = tasks_by_executor(tmp_path / "events")
    assert len(tasks) == EXECUTORS, tasks
    assert job.items() == kpi_items([*listens, *earlier], SONGS, USERS)
    assert job.added() == sorted(set(listens) - known)
    assert sum(day["new"] for day in job.summary()["days"].values()) == len(set(listens) - known)
