"""The environment in which local AWS starts a PySpark script."""

import hashlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from include.local_aws.java import find_java_home

CLASS_ARCHIVES = Path(sys.prefix)
# A job on Glue sees neither the modules nor the Spark of the machine that started it.
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
    """Return where ``class_archive`` keeps the archive of Spark's classes for this Java."""
    # Of this build: with one of another, Java would not even use the archive of its own classes.
    release = Path(java_home, "release")
    java = java_home.encode() + (release.read_bytes() if release.exists() else b"")
    return CLASS_ARCHIVES / f"spark-classes-{hashlib.sha256(java).hexdigest()[:12]}.jsa"


def spark_environment(
    directory: Path, settings: Mapping[str, str], java_options: Sequence[str] = ()
) -> dict[str, str]:
    """Return the environment of a PySpark script that keeps its files in ``directory`` and shows no progress.

    The script starts from the archive of Spark's classes, if there is one.

    Args:
        directory: Takes the settings as ``spark.conf`` and, in ``tmp``, the temporary files.
        settings: Spark's properties beside those that make it stay on this machine.
        java_options: Options of the driver's JVM beside those for temporary files and for the archive.

    Raises:
        JavaNotFoundError: If there is no Java for Spark.
    """
    java_home = find_java_home()
    scratch = directory / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    options = [f"-Djava.io.tmpdir={scratch}", "-XX:-UsePerfData"]
    if (archive := class_archive_of(java_home)).exists():
        options.append(f"-XX:SharedArchiveFile={archive}")
    properties = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": shlex.join([*options, *java_options]),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": (scratch / "warehouse").as_uri(),
        # Without this, files get .crc companions, which would be brought to S3.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        **settings,
    }
    properties_file = directory / "spark.conf"
    properties_file.write_text("".join(f"{key} {value}\n" for key, value in properties.items()))
    return {name: value for name, value in os.environ.items() if name not in _LEFT_OUT} | {
        "JAVA_HOME": java_home,
        # Not in SPARK_CONF_DIR: it would be on the class path, where an archive allows no folder with files.
        "PYSPARK_SUBMIT_ARGS": shlex.join(["--properties-file", str(properties_file), "pyspark-shell"]),
        "SPARK_LOCAL_DIRS": str(scratch),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "TMPDIR": str(scratch),
    }
