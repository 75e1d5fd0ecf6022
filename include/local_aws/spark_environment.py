"""The environment of a PySpark script that local AWS starts."""

import hashlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from include.local_aws.java import find_java_home

CLASS_ARCHIVES = Path(sys.prefix)
# The first option selects the collector for throughput. The others restrict the optimizing compiler, which
# takes cores from the tasks, to very hot code.
_JVM_OPTIONS = (
    "-XX:+UseParallelGC",
    "-XX:Tier4InvocationThreshold=100000",
    "-XX:Tier4CompileThreshold=300000",
    "-XX:Tier4BackEdgeThreshold=800000",
)
# A job on Glue does not see the modules or the Spark of the machine that started it.
_LEFT_OUT = (
    "PYTHONPATH",
    "SPARK_HOME",
    "SPARK_CONF_DIR",
    "SPARK_DIST_CLASSPATH",
    "HADOOP_CONF_DIR",
    "YARN_CONF_DIR",
    "PYSPARK_SUBMIT_ARGS",
)


def class_archive_of(java_home: str) -> Path:
    """Return the path of ``class_archive``'s archive of Spark's classes for this Java."""
    # The name includes Java's build: given an archive of another build, Java would not even use its own.
    release = Path(java_home, "release")
    java = java_home.encode() + (release.read_bytes() if release.exists() else b"")
    return CLASS_ARCHIVES / f"spark-classes-{hashlib.sha256(java).hexdigest()[:12]}.jsa"


def spark_environment(
    directory: Path, settings: Mapping[str, str], java_options: Sequence[str] = ()
) -> dict[str, str]:
    """Return the environment of a PySpark script that keeps its files in ``directory``.

    The script shows no progress and starts from the archive of Spark's classes, if there is one.

    Args:
        directory: receives the settings as ``spark.conf`` and the temporary files in ``tmp``.
        settings: Spark's properties, besides those that keep it on this machine.
        java_options: options of the driver's JVM, besides those for temporary files and the archive.

    Raises:
        JavaNotFoundError: there is no Java for Spark.
    """
    java_home = find_java_home()
    scratch = directory / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    options = [f"-Djava.io.tmpdir={scratch}", "-XX:-UsePerfData", *_JVM_OPTIONS]
    if (archive := class_archive_of(java_home)).exists():
        options.append(f"-XX:SharedArchiveFile={archive}")
    properties = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": shlex.join([*options, *java_options]),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": (scratch / "warehouse").as_uri(),
        # Otherwise each file gets a .crc companion, which would be uploaded to S3.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        **settings,
    }
    properties_file = directory / "spark.conf"
    properties_file.write_text("".join(f"{key} {value}\n" for key, value in properties.items()))
    return {name: value for name, value in os.environ.items() if name not in _LEFT_OUT} | {
        "JAVA_HOME": java_home,
        # Not in SPARK_CONF_DIR: it would be on the class path, and an archive allows no folder with files
        # there.
        "PYSPARK_SUBMIT_ARGS": shlex.join(["--properties-file", str(properties_file), "pyspark-shell"]),
        "SPARK_LOCAL_DIRS": str(scratch),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "TMPDIR": str(scratch),
    }
