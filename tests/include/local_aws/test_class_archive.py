import subprocess
import sys
from pathlib import Path

import pytest

from include.local_aws import class_archive, spark_environment, warm_up
from include.local_aws.class_archive import ClassArchiveError

SESSION = "from pyspark.sql import SparkSession; SparkSession.builder.master('local[1]').getOrCreate()"


def make_java(home: Path, script: str) -> str:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    return str(home)


def test_spark_takes_its_classes_from_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "archive" / "classes.jsa"
    archive.parent.mkdir()
    class_archive.write(archive)
    monkeypatch.setattr(spark_environment, "CLASS_ARCHIVE", archive)
    loads = tmp_path / "loads"
    environment = spark_environment.spark_environment(
        tmp_path / "run", {}, [f"-Xlog:class+load:file={loads}"]
    )
    subprocess.run([sys.executable, "-c", SESSION], env=environment, check=True)

    loaded = [line for line in loads.read_text().splitlines() if "org.apache.spark." in line]
    # Java makes the classes of Scala's lambdas while it runs.
    lasting = [line for line in loaded if "$$Lambda$" not in line]
    archived = [line for line in lasting if line.endswith("source: shared objects file (top)")]
    assert len(archived) > 0.9 * len(lasting) > 500


def test_archive_that_does_not_fit_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "classes.jsa"
    archive.write_bytes(b"of another Java")
    monkeypatch.setattr(spark_environment, "CLASS_ARCHIVE", archive)
    environment = spark_environment.spark_environment(tmp_path / "run", {})
    subprocess.run([sys.executable, "-c", SESSION], env=environment, check=True)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Unknown: -Xshare:dump'; exit 1", "exit code 1.\nUnknown: -Xshare:dump"),
        ("sleep 60", "did not end within 1 seconds"),
    ],
)
def test_java_that_cannot_archive_is_named_and_leaves_no_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    archive = tmp_path / "classes.jsa"
    archive.write_bytes(b"of another Java")
    java_home = make_java(tmp_path / "java", script)
    monkeypatch.setattr(class_archive, "find_java_home", lambda: java_home)
    monkeypatch.setattr(class_archive, "_LONGEST_SECONDS", 1)

    with pytest.raises(ClassArchiveError) as error:
        class_archive.write(archive)

    assert message in str(error.value)
    assert f"{java_home}/bin/java" in str(error.value)
    assert not archive.exists()


def test_archive_that_was_not_written_is_reported_with_what_was_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "without_spark.py"
    script.write_text("print('No Spark here')")
    monkeypatch.setattr(warm_up, "__file__", str(script))

    with pytest.raises(ClassArchiveError, match=r"(?s)Java wrote no .*classes\.jsa.*No Spark here"):
        class_archive.write(tmp_path / "classes.jsa")
