"""The jars of Hadoop's S3A, fetched from Maven Central once: ``python -m tests.s3a.jars``.

The client is Ivy, which PySpark brings. `ivy.xml` has the coordinates, `jars.sha256` the checksums.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyspark

from include.local_aws.java import find_java_home

FOLDER = Path(__file__).parents[2] / ".local" / "s3a-jars"
_CHECKSUMS = Path(__file__).with_name("jars.sha256")
_SHOWN_CHARACTERS = 4_000
_SPARK_HOME = Path(pyspark.__file__).parent


def fetch() -> None:
    """Put the jars into `FOLDER`, all of them or none.

    Raises:
        ConnectionError: Ivy could not fetch them; the message is the end of its output.
        ValueError: a jar is not the one whose checksum is known.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="s3a-jars-", dir=FOLDER.parent) as name:
        cache, jars = Path(name, "cache"), Path(name, "jars")
        [ivy] = _SPARK_HOME.glob("jars/ivy-*.jar")
        command = [Path(find_java_home(), "bin", "java"), "-jar", ivy, "-warn", "-cache", cache]
        command += ["-ivy", Path(__file__).with_name("ivy.xml")]
        command += ["-retrieve", f"{jars}/[artifact]-[revision].[ext]"]
        ivy_run = subprocess.run(command, capture_output=True, text=True)
        if ivy_run.returncode:
            raise ConnectionError((ivy_run.stdout + ivy_run.stderr)[-_SHOWN_CHARACTERS:])
        if (problems := _differences(jars)) != []:
            raise ValueError(f"These are not the jars of {_CHECKSUMS.name}: {', '.join(problems)}")
        jars.rename(FOLDER)


def make_spark_home(folder: Path) -> Path:
    """Fill the folder with links to PySpark's files, with Hadoop replaced by the fetched one; return it.

    Raises:
        FileNotFoundError: the jars were not fetched.
    """
    fetched = list(FOLDER.glob("*.jar"))
    if not fetched:
        raise FileNotFoundError(f"{FOLDER} has no jars: make test-s3a fetches them")
    jars = folder / "jars"
    jars.mkdir(parents=True)
    (folder / "bin").symlink_to(_SPARK_HOME / "bin")
    bundled = [jar for jar in _SPARK_HOME.glob("jars/*.jar") if not jar.name.startswith("hadoop-client-")]
    for jar in [*bundled, *fetched]:
        (jars / jar.name).symlink_to(jar)
    return folder


def _differences(jars: Path) -> list[str]:
    expected = dict(reversed(line.split()) for line in _CHECKSUMS.read_text().splitlines())
    found = {}
    for jar in jars.iterdir():
        with jar.open("rb") as file:
            found[jar.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


if __name__ == "__main__":
    try:
        fetch()
    except (OSError, ValueError) as error:
        sys.exit(f"The jars of S3A were not fetched: {error}")
