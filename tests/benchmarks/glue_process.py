"""Runs Spark scripts in their own process on local files, with local AWS's settings for large inputs."""

from __future__ import annotations

import sys
from pathlib import Path

from glue_script import glue_script
from include.local_aws.spark_environment import spark_environment

SCRIPT = Path(glue_script.__file__)
CORES = 2
# A worker of Glue's smallest type has 10 GB for 4 cores.
DRIVER_MEMORY = "4g"


def glue_command(folder: Path, history: Path) -> list[str]:
    """Return the command of the Glue job for the run `folder/input`; it writes to `folder/output`."""
    paths = {
        "--S3_SOURCE_PATH": folder / "input",
        "--S3_HISTORY_PATH": history,
        "--S3_OUTPUT_PATH": folder / "output",
        "--S3_SNAPSHOTS_PATH": folder / "snapshots",
    }
    arguments = [text for name, path in paths.items() for text in (name, path.as_uri())]
    return [sys.executable, str(SCRIPT), *arguments, "--BATCH_ID", "bench"]


def glue_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a Spark process that keeps its settings and temporary files in `folder`."""
    return spark_environment(
        folder, {"spark.master": f"local[{CORES}]", "spark.driver.memory": DRIVER_MEMORY}
    )
