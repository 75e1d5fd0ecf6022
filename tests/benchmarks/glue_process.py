"""Runs Spark scripts as local AWS does with large inputs, in a process of their own, on local files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from glue_script import glue_script
from include.local_aws.java import find_java_home

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
    }
    arguments = [text for name, path in paths.items() for text in (name, path.as_uri())]
    return [sys.executable, str(SCRIPT), *arguments, "--BATCH_ID", "bench"]


def spark_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a Spark process that keeps its settings and temporary files in `folder`."""
    conf, scratch = folder / "conf", folder / "scratch"
    for new in (conf, scratch):
        new.mkdir(parents=True, exist_ok=True)
    lines = [
        f"spark.master local[{CORES}]",
        f"spark.driver.memory {DRIVER_MEMORY}",
        "spark.driver.host 127.0.0.1",
        "spark.driver.bindAddress 127.0.0.1",
        "spark.ui.enabled false",
        "spark.ui.showConsoleProgress false",
        f"spark.sql.warehouse.dir {(scratch / 'warehouse').as_uri()}",
        "spark.hadoop.fs.file.impl org.apache.hadoop.fs.RawLocalFileSystem",
    ]
    (conf / "spark-defaults.conf").write_text("\n".join(lines))
    return os.environ | {
        "JAVA_HOME": find_java_home(),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_CONF_DIR": str(conf),
        "SPARK_LOCAL_DIRS": str(scratch),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
