"""The references do the same work: DuckDB's items are the Glue job's and the oracle's."""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.benchmarks import duckdb_job
from tests.benchmarks.glue_process import glue_command, glue_environment
from tests.benchmarks.listens_data import LISTENS, write_run
from tests.kpi_oracle import Items, kpi_items_of_folder

ROWS, TRACKS = 3_000, 300


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, ROWS, with_csv=True, tracks=TRACKS)
    return folder


def items_of(files: list[Path]) -> Items:
    items: Items = {}
    for file in files:
        for line in file.read_text().splitlines():
            item: dict[str, Any] = json.loads(line, parse_float=Decimal)
            item = {name: value for name, value in item.items() if value is not None}
            items[item.pop("date"), item.pop("track_genre")] = item
    return items


def test_duckdb_computes_the_items_of_the_oracle(run: Path) -> None:
    duckdb_job.main(str(run / "input"), str(run / "duckdb"), "2")
    items = items_of([run / "duckdb" / "kpis.json"])
    assert items == kpi_items_of_folder(run / "csv")
    assert len({date for date, _ in items}) == 3
    assert {"Unknown", "ALL_GENRES"} < {genre for _, genre in items}
    written = [pq.read_metadata(file).num_rows for file in (run / "duckdb" / "listens").rglob("*.parquet")]
    assert sum(written) == sum(
        item["listen_count"] for (_, genre), item in items.items() if genre == "ALL_GENRES"
    )


def test_glue_job_computes_the_items_of_the_oracle_as_it_is_measured(run: Path) -> None:
    subprocess.run(glue_command(run, run / "history"), env=glue_environment(run), check=True)
    assert items_of(list((run / "output" / "kpis").glob("*.json"))) == kpi_items_of_folder(run / "csv")


def test_input_has_the_pipelines_types_and_the_csv_the_same_rows(run: Path) -> None:
    manifest = json.loads((run / "input" / "manifest.json").read_text())
    tables = [pq.read_table(run / "input" / name) for name in manifest["listens"]["objects"]]
    assert [table.schema for table in tables] == [LISTENS] * len(tables)
    rows = {tuple(row.values()) for table in tables for row in table.to_pylist()}
    assert sum(len(table) for table in tables) == manifest["listens"]["rows"] == ROWS
    lines = "".join(path.read_text() for path in (run / "csv" / "streams").iterdir()).splitlines()
    assert {(user, track, time.strftime("%Y-%m-%d %H:%M:%S")) for user, track, time in rows} == {
        tuple(line.split(",")) for line in lines[1:]
    }


def test_same_seed_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    write_run(tmp_path, ROWS, with_csv=True, tracks=TRACKS)
    for path in tmp_path.rglob("*.*"):
        assert path.read_bytes() == (run / path.relative_to(tmp_path)).read_bytes(), path
