from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import ingest
from tests.benchmarks.harness import Contender, run
from tests.benchmarks.stream_files import CATALOGS, FILES, bytes_of, write_stream_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stream files of which 2 % of the rows are bad, and as many unusual."""
    folder = tmp_path_factory.mktemp("ingest")
    write_stream_files(folder / "s3" / "source" / "streams", bytes_of("1MB"), 0.02)
    for key, content in CATALOGS.items():
        path = folder / "s3" / "source" / key
        path.parent.mkdir()
        path.write_text(content)
    return folder


def counts(contender: Contender) -> tuple[Any, Any]:
    contender.prepare()
    _, _, facts = run(contender)
    return facts["valid"], facts["rejected"]


def test_ours_and_the_references_come_to_the_same_counts(folder: Path) -> None:
    ours = counts(ingest._ours("ours", folder, 2, 300_000))

    assert ours == counts(ingest._reference("duckdb", folder, 2))
    assert ours == counts(ingest._reference("polars", folder, 2))
    valid, rejected = ours
    assert valid > 15_000
    assert set(rejected) == {
        "NUL character",
        "empty track_id",
        "empty user_id",
        "invalid listen_time",
        "wrong number of fields",
    }


def test_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    written = {
        name: [path.read_bytes() for path in write_stream_files(tmp_path / name, 100_000, 0.01, seed)]
        for name, seed in {"first": 1, "again": 1, "other": 2}.items()
    }

    assert written["first"] == written["again"]
    assert len(written["first"]) == FILES
    assert all(first != other for first, other in zip(written["first"], written["other"], strict=True))


def test_files_are_together_about_as_large_as_asked(tmp_path: Path) -> None:
    paths = write_stream_files(tmp_path, bytes_of("2MB"), 0.0)

    assert sum(path.stat().st_size for path in paths) == pytest.approx(2_000_000, rel=0.05)


@pytest.mark.parametrize(
    ("size", "expected"), [("500MB", 500_000_000), ("1.5gb", 1_500_000_000), ("3KB", 3000)]
)
def test_size_is_its_number_of_bytes(size: str, expected: int) -> None:
    assert bytes_of(size) == expected


@pytest.mark.parametrize("size", ["", "500", "MB", "0MB", "-1MB", "5 TB", "1e3MB"])
def test_text_that_is_not_a_size_is_refused_with_an_example(size: str) -> None:
    with pytest.raises(ValueError, match="is no size; write a number above 0 with KB, MB or GB, like 500MB"):
        bytes_of(size)
