"""An archive of Spark's classes, loaded and verified ahead: a JVM that starts from it saves seconds.

``python -m include.local_aws.class_archive`` writes it into the Python environment, for the Spark there and
the Java that Spark finds. A JVM that the archive does not fit ignores it; Java's Flight Recorder crashed
with it (17.0.15), so remove it to record. See
https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from include.local_aws import warm_up
from include.local_aws.java import JavaNotFoundError, find_java_home
from include.local_aws.spark_environment import CLASS_ARCHIVE, spark_environment

_LONGEST_SECONDS = 300
_SHOWN_LINES = 10


class ClassArchiveError(RuntimeError):
    """Java did not write the archive."""


def write(archive: Path = CLASS_ARCHIVE) -> None:
    """Write the archive of the classes that ``warm_up`` uses, beside one of Java's own classes.

    Raises:
        ClassArchiveError: If it was not written; there is none then.
        JavaNotFoundError: If there is no Java for Spark.
    """
    # Not every Java brings one of its own classes, and without it the other cannot be written.
    java_archive = archive.with_name(f"java-classes{archive.suffix}")
    unfinished = archive.with_name(f"{archive.name}.unfinished")
    for old in (archive, java_archive, unfinished):
        old.unlink(missing_ok=True)
    java = str(Path(find_java_home()) / "bin" / "java")
    _run([java, "-Xshare:dump", f"-XX:SharedArchiveFile={java_archive}"], dict(os.environ))
    with tempfile.TemporaryDirectory(prefix="class-archive-", ignore_cleanup_errors=True) as directory:
        environment = spark_environment(
            Path(directory),
            {"spark.master": "local[*]"},
            [
                f"-XX:SharedArchiveFile={java_archive}",
                f"-XX:ArchiveClassesAtExit={unfinished}",
                "-XX:TieredStopAtLevel=1",
                "-Xlog:disable",
            ],
        )
        output = _run([sys.executable, warm_up.__file__, str(Path(directory, "data"))], environment)
    if not unfinished.exists():
        raise ClassArchiveError(f"Java wrote no {archive}.\n{output}")
    unfinished.rename(archive)


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Run the command and return the end of what it printed."""
    try:
        process = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ClassArchiveError(f"{command[0]} did not end within {_LONGEST_SECONDS} seconds.") from None
    output = "\n".join(process.stdout.splitlines()[-_SHOWN_LINES:])
    if process.returncode:
        raise ClassArchiveError(f"{command[0]} failed with exit code {process.returncode}.\n{output}")
    return output


if __name__ == "__main__":
    try:
        write()
    except (ClassArchiveError, JavaNotFoundError, OSError) as error:
        sys.exit(f"Spark's classes were not archived: {error}")
