"""The Glue script in a warm Spark, so a run takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.deployment import connect
from tests.e2e.processes import become, single_process


class SparkProcess:
    """A process whose Spark session outlives the jobs, so a run of the Glue script takes seconds."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        """Start it; Spark itself starts with the first job. Its output goes to `log`."""
        self._pool = single_process(_start_spark, dict(environment), log)

    def run_glue_script(self, endpoint_url: str, arguments: Mapping[str, str]) -> None:
        """Run the Glue script with a Glue job's arguments on a local mirror of their S3 locations.

        Raises:
            RuntimeError: the script failed; as on AWS, its partial output is in S3.
        """
        self._pool.submit(_run_glue_script, endpoint_url, dict(arguments)).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


def _start_spark(environment: dict[str, str], log: Path) -> None:
    from include.commands.environment import replace_environment
    from include.local_aws.spark_environment import spark_environment

    become(environment, log)
    settings = {
        "spark.master": "local[2]",
        # Compiling takes longer than the few rows of a test.
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.codegen.wholeStage": "false",
    }
    replace_environment(spark_environment(log.parent, settings, ["-XX:TieredStopAtLevel=1"]))
    from pyspark.sql import SparkSession

    SparkSession.builder.getOrCreate()


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
            # Some of Spark's errors cannot be pickled.
            raise RuntimeError(f"The Glue script failed: {type(error).__name__}: {error}") from None
        finally:
            mirror.write_back(lambda: False)
