"""The fetched jars are those whose checksums are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3a import jars

pytestmark = pytest.mark.slow


def test_only_jars_of_the_known_checksums_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = tmp_path / "right.sha256", tmp_path / "wrong.sha256"
    right.write_text("6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b  one.jar\n")
    wrong.write_text(f"{'0' * 64}  one.jar\n")
    folder = tmp_path / "jars"
    folder.mkdir()
    (folder / "one.jar").write_text("1")

    monkeypatch.setattr(jars, "_CHECKSUMS", right)
    assert jars._differences(folder) == []

    (folder / "two.jar").write_text("1")
    assert jars._differences(folder) == ["two.jar"]

    monkeypatch.setattr(jars, "_CHECKSUMS", wrong)
    assert jars._differences(folder) == ["one.jar", "two.jar"]


def test_spark_of_the_tests_has_one_hadoop_that_of_the_fetched_jars(tmp_path: Path) -> None:
    home = jars.make_spark_home(tmp_path)

    hadoop = sorted(path.name for path in (home / "jars").glob("hadoop-client-*"))
    assert hadoop == ["hadoop-client-api-3.4.1.jar", "hadoop-client-runtime-3.4.1.jar"]
    assert all(path.exists() for path in (home / "jars").iterdir())
