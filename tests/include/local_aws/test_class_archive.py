import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from include.local_aws import class_archive, spark_environment, warm_up
from include.local_aws.class_archive import ClassArchiveError
from include.local_aws.java import find_java_home
from include.local_aws.spark_environment import class_archive_of

SESSION = "from pyspark.sql import SparkSession; SparkSession.builder.master('local[1]').getOrCreate()"


def make_java(home: Path, script: str) -> str:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    return str(home)


@pytest.fixture
def archives(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of class archives outside of pytest's, which are kept: it takes 160 MB."""
    with TemporaryDirectory() as folder:
        monkeypatch.setattr(spark_environment, "CLASS_ARCHIVES", Path(folder))
        yield Path(folder)


def test_spark_takes_its_classes_from_the_archive(archives: Path, tmp_path: Path) -> None:
    of_another_java = archives / "spark-classes-0.jsa"
    of_another_java.touch()

    class_archive.write()

    archive = class_archive_of(find_java_home())
    assert sorted(archives.iterdir()) == sorted([archive, archive.with_stem(f"{archive.stem}-base")])
    loads = tmp_path / "loads"
    environment = spark_environment.spark_environment(
        tmp_path / "run", {}, [f"-Xlog:class+load:file={loads}"]
    )
    subprocess.run([sys.executable, "-c", SESSION], env=environment, check=True)
    loaded = [line for line in loads.read_text().splitlines() if "org.apache.spark." in line]
    # Java generates the classes of Scala's lambdas at run time.
    lasting = [line for line in loaded if "$$Lambda$" not in line]
    archived = [line for line in lasting if line.endswith("source: shared objects file (top)")]
    assert len(archived) > 0.9 * len(lasting) > 500


def test_archive_that_java_refuses_is_ignored(archives: Path, tmp_path: Path) -> None:
    class_archive_of(find_java_home()).write_bytes(b"cut off")
    environment = spark_environment.spark_environment(tmp_path / "run", {})
    subprocess.run([sys.executable, "-c", SESSION], env=environment, check=True)


def test_each_build_of_java_has_an_archive_of_its_own(tmp_path: Path) -> None:
    home, other = tmp_path / "java", tmp_path / "other"
    seen = set()
    for java in (home, other):
        java.mkdir()
        seen.add(class_archive_of(str(java)))
        for version in ("17.0.15", "17.0.16"):
            (java / "release").write_text(f'JAVA_VERSION="{version}"')
            seen.add(class_archive_of(str(java)))

    assert len(seen) == 6
    assert class_archive_of(str(other)) in seen


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Unknown: -Xshare:dump'; exit 1", "exit code 1.\nUnknown: -Xshare:dump"),
        ("sleep 60", "did not end within 1 seconds"),
    ],
)
def test_java_that_cannot_archive_is_named_and_leaves_no_archive(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    java_home = make_java(tmp_path / "java", script)
    class_archive_of(java_home).write_bytes(b"an old one")
    monkeypatch.setattr(class_archive, "find_java_home", lambda: java_home)
    monkeypatch.setattr(class_archive, "_LONGEST_SECONDS", 1)

    with pytest.raises(ClassArchiveError) as error:
        class_archive.write()

    assert message in str(error.value)
    assert f"{java_home}/bin/java" in str(error.value)
    assert not list(archives.iterdir())


def test_what_a_slow_java_started_ends_with_it(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outlived = tmp_path / "outlived"
    java_home = make_java(tmp_path / "java", f"(sleep 2; touch '{outlived}') & sleep 60")
    monkeypatch.setattr(class_archive, "find_java_home", lambda: java_home)
    monkeypatch.setattr(class_archive, "_LONGEST_SECONDS", 1)

    with pytest.raises(ClassArchiveError, match="did not end within 1 seconds"):
        class_archive.write()

    time.sleep(2)
    assert not outlived.exists()


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ("", r"(?s)Java wrote no .*spark-classes-.*\.jsa.*No Spark here"),
        ("archive.touch(); sys.exit(137)", r"(?s)failed with exit code 137.*No Spark here"),
    ],
    ids=["nothing written", "killed while it wrote"],
)
def test_archive_that_was_not_written_whole_is_reported_and_none_is_left(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, message: str
) -> None:
    java_home = make_java(tmp_path / "java", "exit 0")
    monkeypatch.setattr(class_archive, "find_java_home", lambda: java_home)
    unfinished = f"{class_archive_of(java_home)}.unfinished"
    script = tmp_path / "without_spark.py"
    script.write_text(
        f"import pathlib, sys\narchive = pathlib.Path({unfinished!r})\nprint('No Spark here')\n{ends}"
    )
    monkeypatch.setattr(warm_up, "__file__", str(script))

    with pytest.raises(ClassArchiveError, match=message):
        class_archive.write()

    assert not list(archives.iterdir())
