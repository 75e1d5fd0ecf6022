"""The Glue script in a Spark that is warm, so that a run of it takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.e2e.deployment import connect
from tests.e2e.processes import become, single_process


class SparkProcess:
    """A process whose Spark session outlives the jobs, so that a run of the Glue script takes seconds."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        """Start it; Spark itself starts with the first job. `log` takes its output."""
        self._pool = single_process(_start_spark, dict(environment), log)

    def run_glue_script(self, endpoint_url: str, arguments: Mapping[str, str]) -> None:
        """Run the Glue script with a Glue job's arguments on a local mirror of what they name.

        Raises:
            RuntimeError: the script failed; what it wrote is in S3 all the same, as on AWS.
        """
        self._pool.submit(_run_glue_script, endpoint_url, dict(arguments)).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


def _start_spark(environment: dict[str, str], log: Path) -> None:
    from include.local_aws.java import find_java_home

    scratch = log.parent
    become(
        environment
        | {
            "JAVA_HOME": find_java_home(),
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(scratch),
        },
        log,
    )
    from pyspark.sql import SparkSession

    settings: dict[str, Any] = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"-Djava.io.tmpdir={scratch} -XX:-UsePerfData "
        "-XX:TieredStopAtLevel=1",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        # Compiling takes longer than the few rows of a test.
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.codegen.wholeStage": "false",
        # Without this, files get .crc companions, which would be brought to S3.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    }
    SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()


def _run_glue_script(endpoint_url: str, arguments: dict[str, str]) -> None:
    from glue_script import glue_script
    from include.local_aws.mirror import Location, Mirror

    locations = {name: Location.parse(value) for name, value in arguments.items()}
    with TemporaryDirectory() as folder:
        mirror = Mirror(connect("s3", endpoint_url), Path(folder, "s3"), filter(None, locations.values()))
        mirror.fill(lambda: False)
        argv: list[str] = []
        for name, value in arguments.items():
            location = locations[name]
            argv += [
                name,
                f"file://{mirror.directory(location.bucket)}/{location.key}" if location else value,
            ]
        try:
            glue_script.main(argv)
        except Exception as error:
            # Not every error of Spark can be sent to another process.
            raise RuntimeError(f"The Glue script failed: {type(error).__name__}: {error}") from None
        finally:
            mirror.write_back(lambda: False)
