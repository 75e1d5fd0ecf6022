from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from glue_job_support import JobFolder

from glue_script.glue_script import SPARK_CONF
from include.local_aws.java import find_java_home
from include.local_aws.spark_environment import class_archive_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        java_home = find_java_home()
        patch.setenv("JAVA_HOME", java_home)
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        builder = SparkSession.builder.master("local[2]").config(map=SPARK_CONF)
        session = builder.config(
            map={
                "spark.sql.codegen.factoryMode": "NO_CODEGEN",
                "spark.sql.codegen.wholeStage": "false",
                "spark.driver.bindAddress": "127.0.0.1",
                "spark.driver.host": "127.0.0.1",
                # The optimizing compiler would take most of the time of tiny queries. Java ignores an archive
                # that does not exist.
                "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseParallelGC "
                f"-XX:SharedArchiveFile={class_archive_of(java_home)}",
                "spark.local.dir": str(tmp_path_factory.mktemp("spark")),
                "spark.sql.shuffle.partitions": "2",
                "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
                "spark.ui.enabled": "false",
                "spark.ui.showConsoleProgress": "false",
            }
        ).getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        yield session
        session.stop()


@pytest.fixture
def job(spark: SparkSession, tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)
