"""An archive of preloaded, verified Spark classes; a JVM that starts from it saves seconds.

``python -m include.local_aws.class_archive`` writes it into the Python environment, for the Spark there and
the Java that Spark finds. Run it again after a change of Java. Java's Flight Recorder crashed with an archive
(17.0.15): remove the archive before recording, and write it again afterwards. See
https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from include.local_aws import warm_up
from include.local_aws.java import JavaNotFoundError, find_java_home
from include.local_aws.spark_environment import class_archive_of, spark_environment

_LONGEST_SECONDS = 300
_SHOWN_LINES = 10


class ClassArchiveError(RuntimeError):
    """Java did not write the archive."""


def write() -> None:
    """Write the archive of the classes that ``warm_up`` loads, and replace existing archives.

    Raises:
        ClassArchiveError: it could not be written; no archive is left.
        JavaNotFoundError: there is no Java for Spark.
    """
    java_home = find_java_home()
    archive = class_archive_of(java_home)
    for old in archive.parent.glob("spark-classes-*"):
        old.unlink()
    # Some Java builds lack the base archive of their own classes, which this archive needs.
    base = archive.with_name(f"{archive.stem}-base{archive.suffix}")
    unfinished = archive.with_name(f"{archive.name}.unfinished")
    _run([str(Path(java_home, "bin", "java")), "-Xshare:dump", f"-XX:SharedArchiveFile={base}"], os.environ)
    with tempfile.TemporaryDirectory(prefix="class-archive-", ignore_cleanup_errors=True) as directory:
        environment = spark_environment(
            Path(directory),
            {"spark.master": "local[*]"},
            [
                f"-XX:SharedArchiveFile={base}",
                f"-XX:ArchiveClassesAtExit={unfinished}",
                "-XX:TieredStopAtLevel=1",
                "-Xlog:disable",
            ],
        )
        try:
            output = _run([sys.executable, warm_up.__file__, str(Path(directory, "data"))], environment)
            if not unfinished.exists():
                raise ClassArchiveError(f"Java wrote no {archive}.\n{output}")
            unfinished.rename(archive)
        finally:
            unfinished.unlink(missing_ok=True)


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    """Run the command and return the end of its output."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=_LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        raise ClassArchiveError(f"{command[0]} did not end within {_LONGEST_SECONDS} seconds.") from None
    finally:
        # The process group includes the JVM, which survives a killed script.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    output = "\n".join(printed.splitlines()[-_SHOWN_LINES:])
    if process.returncode:
        raise ClassArchiveError(f"{command[0]} failed with exit code {process.returncode}.\n{output}")
    return output


if __name__ == "__main__":
    try:
        write()
    except (ClassArchiveError, JavaNotFoundError, OSError) as error:
        sys.exit(f"Spark's classes were not archived: {error}")
