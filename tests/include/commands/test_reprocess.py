from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pytest
from rich.console import Console

from include.commands import reprocess
from include.commands.local_aws import LocalAws
from include.commands.reprocess import reprocess_in_batches

YEAR = [(date(2024, 1, 1) + timedelta(days=n)).isoformat() for n in range(366)]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The runs that were started: parameters, and whether each was the last; the fourth one fails."""
    started: list[dict[str, Any]] = []

    def run_dag(conf: Mapping[str, Any], *_: Any, is_last: bool) -> int:
        started.append({**conf, "is_last": is_last})
        return int(len(started) == 4)

    monkeypatch.setattr(reprocess, "run_dag", run_dag)
    return started


@pytest.mark.parametrize(("number", "sizes"), [(1, [1]), (31, [31]), (32, [31, 1]), (70, [31, 31, 8])])
def test_many_days_are_runs_one_after_another(
    runs: list[dict[str, Any]], console: Console, number: int, sizes: list[int]
) -> None:
    assert reprocess_in_batches(YEAR[:number], LocalAws(5555, console), accept_checks=True) == 0

    batches = [run["reprocess_dates"].split(",") for run in runs]
    assert [len(batch) for batch in batches] == sizes
    assert [day for batch in batches for day in batch] == YEAR[:number]
    assert [run["is_last"] for run in runs] == [*[False] * (len(sizes) - 1), True]
    assert all(run["accept_checks"] for run in runs)


def test_run_that_fails_is_the_last_and_names_the_days_that_are_left(
    runs: list[dict[str, Any]], console: Console
) -> None:
    without_one = [day for day in YEAR if day != "2024-08-15"]

    assert reprocess_in_batches(without_one, LocalAws(5600, console)) == 1

    assert len(runs) == 4
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Run 4 of 12: 2024-04-03 to 2024-05-03, 31 days" in printed
    assert "make reprocess DATES=2024-04-03..2024-08-14,2024-08-16..2024-12-31 AWS_PORT=5600\n" in printed
