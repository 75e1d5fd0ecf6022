"""The command `make bench`: its table, its JSON, and what it refuses."""

from __future__ import annotations

import importlib
import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks import __main__ as bench
from tests.benchmarks.harness import Measurement

MEASUREMENTS = [
    Measurement("part", "case", "ours", [1.0, 9.0, 2.0], [10.0, 30.0, 20.0], {"rows": 5}),
    Measurement("part", "case", "theirs", [4.0], [1.0]),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no part nothing; there are: ingest, glue_job"),
        (["ingest", "--repeat", "0"], "--repeat must be 1 or more"),
        (["ingest", "--quick"], "--quick has its own parts and sizes"),
        (["glue_job", "--sizes", "10X"], "'10X' is not a number of listens; write one like 500, 34k or 10M"),
        (["history", "--sizes", "0"], "'0' is not a number of listens"),
        (["genres", "--sizes", "0"], "'0' is not a number of listens"),
        (["ingest", "--sizes", "5XB"], "'5XB' is no size; write a number above 0 with KB, MB or GB"),
        (["orchestration", "--sizes", "0"], "0 is not a number of files from 1 to"),
        (["kpi_writer", "--sizes", "week"], "week is not a number of days"),
        (["ingest", "kpi_writer", "--sizes", "500MB"], "kpi_writer: 500MB is not a number of days"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments, "--json", str(tmp_path / "figures.json")])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("logging.disable", lambda level: None)
    with pytest.raises(SystemExit, match="2"):
        bench.main()
    assert message in capsys.readouterr().err
    assert not (tmp_path / "figures.json").exists()


def test_table_has_medians_most_memory_and_the_ratio_of_the_first_contender() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(bench.table_of(MEASUREMENTS))
    rows = [line.split("│")[1:-1] for line in console.export_text().splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["case", "ours", "2.00", "1.00", "30", "rows 5"],
        ["case", "theirs", "4.00", "0.50", "1", ""],
    ]


def test_ratio_that_is_worse_by_more_than_a_quarter_is_named() -> None:
    def slower_if_usual_is(ratio: float) -> list[str]:
        return bench.slower_than_usual(MEASUREMENTS, {"part": {"case": {"theirs": ratio}}})

    assert slower_if_usual_is(0.41) == []
    assert slower_if_usual_is(0.39) == [
        "part, case: ours takes 0.50 times as long as theirs, usually 0.39. If that is intended, change "
        "usual_ratios.json."
    ]


def test_quick_measurement_has_parts_and_sizes_that_can_be_measured() -> None:
    for name, cases in json.loads(bench.USUAL_RATIOS.read_text()).items():
        assert name in bench.PARTS
        for case in cases:
            importlib.import_module(f"tests.benchmarks.{name}").check_size(case.split(",")[0])


def test_json_has_every_single_run(tmp_path: Path) -> None:
    bench.write_json(MEASUREMENTS, tmp_path / "new" / "figures.json")
    written = json.loads((tmp_path / "new" / "figures.json").read_text())
    assert [row["seconds"] for row in written["measurements"]] == [[1.0, 9.0, 2.0], [4.0]]
    assert written["machine"]["cores"] >= 1


@pytest.mark.parametrize("is_written", [True, False])
def test_figures_without_an_archive_of_classes_say_so(
    is_written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, figures = tmp_path / "classes.jsa", tmp_path / "figures.json"
    if is_written:
        archive.touch()
    monkeypatch.setattr(bench, "class_archive_of", lambda java_home: archive)
    monkeypatch.setattr(sys, "argv", ["bench", "kpi_writer", "--json", str(figures)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("logging.disable", lambda level: None)
    monkeypatch.setattr("tests.benchmarks.kpi_writer.measure", lambda size, repeat, folder: MEASUREMENTS)

    bench.main()

    assert ("without an archive of its classes" in capsys.readouterr().out) == (not is_written)
    assert json.loads(figures.read_text())["machine"]["class_archive"] == is_written
