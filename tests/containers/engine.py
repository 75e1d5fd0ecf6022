"""Podman and buildah for the tests of the containers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# A limit that machines with low limits allow; the engine's own choice is a million.
LIMITS = ("nofile=1024:1024", "nproc=1000:1000")
NEEDED = {
    "podman": "apt-get install podman",
    "buildah": "apt-get install buildah",
    "runc": "apt-get install runc",
    "mmdebstrap": "apt-get install mmdebstrap",
    "podman-compose": "pip install podman-compose (1.6.0; Debian's 1.0.3 is too old)",
}
PYTHON = "python3.12"


class Engine:
    """Runs the tools with the tests' own settings, independent of the user's.

    Raises:
        RuntimeError: something is missing on this machine; the message lists all of it with the remedy.
    """

    def __init__(self, folder: Path) -> None:
        """Write the settings into the folder, and check that containers can run."""
        missing = [f"{name}: {remedy}" for name, remedy in NEEDED.items() if not shutil.which(name)]
        if not _python_prefix():
            missing.append(f"{PYTHON}: put one on PATH that runs on Debian 12; it becomes the image's Python")
        if missing:
            raise RuntimeError("These tests need, and this machine lacks:\n" + "\n".join(missing))
        settings = folder / "containers.conf"
        limits = ", ".join(f'"{limit}"' for limit in LIMITS)
        settings.write_text(f'[containers]\ndefault_ulimits = [{limits}]\n[engine]\nruntime = "runc"\n')
        self._environment = {**os.environ, "CONTAINERS_CONF": str(settings), "BUILDAH_FORMAT": "docker"}

    def run(
        self, *command: str, folder: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> str:
        """Run a command and return its output.

        Raises:
            RuntimeError: it failed; the message has the end of its output.
        """
        done = subprocess.run(
            command,
            cwd=folder,
            env=self._environment | dict(variables or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def build(self, image: str, dockerfile: Path, context: Path, *options: str) -> None:
        """Build an image; ONBUILD steps are kept in it."""
        limits = [f"--ulimit={limit}" for limit in LIMITS]
        self.run(
            "buildah", "--runtime", "runc", "bud", "--layers", "--quiet", *limits, *options,
            "--file", str(dockerfile), "--tag", image, str(context),
        )  # fmt: skip

    def has(self, image: str) -> bool:
        """Return whether the image exists."""
        return not subprocess.run(["podman", "image", "exists", image], env=self._environment).returncode

    def size(self, image: str) -> int:
        """Return the bytes of all the layers of an image."""
        return int(self.run("podman", "image", "inspect", "--format", "{{.Size}}", image))

    def in_image(self, image: str, command: Sequence[str]) -> str:
        """Run a command in a new container of the image, without network."""
        return self.run("podman", "run", "--rm", "--network", "none", image, *command)


def python_prefix() -> Path:
    """Return the folder of this machine's Python 3.12."""
    prefix = _python_prefix()
    assert prefix
    return prefix


def _python_prefix() -> Path | None:
    print_prefix = "import sys; print(sys.base_prefix)"
    try:
        found = subprocess.run([PYTHON, "-c", print_prefix], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return None if found.returncode else Path(found.stdout.strip())
