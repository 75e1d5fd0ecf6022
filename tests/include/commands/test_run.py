"""How `make run` ends; the run itself is tested in tests/e2e and test_pipeline_run.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import date
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from include.commands.environment import ROOT
from include.commands.local_aws import LocalAws
from include.commands.pipeline_run import Outcome
from include.commands.run import failure_lines, next_steps
from kpi_table_support import day_items, make_table, put_items
from local_aws_support import connect, running_server

RESOURCES = {"ARCHIVE_BUCKET_NAME": "the-archive", "KPI_TABLE_NAME": "music_kpis_table"}
HEADING = "To look into it from this terminal:\n"


def test_query_at_the_end_works_as_pasted(monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)
    # The query names the default table, which other tests make in the local AWS that they share.
    with running_server() as (own_local_aws, _):
        dynamodb = connect("dynamodb", own_local_aws)
        make_table(dynamodb, RESOURCES["KPI_TABLE_NAME"])
        put_items(dynamodb, RESOURCES["KPI_TABLE_NAME"], day_items(date(2024, 6, 25), {"cedar-chant": 387}))
        port = urlsplit(own_local_aws).port
        assert port is not None

        _, pasted = next_steps(LocalAws(port, console, RESOURCES), "2024-06-25").split(HEADING)
        shell = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": "https://somewhere.invalid"}
        done = subprocess.run(["sh"], input=pasted, cwd=ROOT, env=shell, capture_output=True, text=True)

    assert "include.kpis day 2024-06-25" in pasted
    assert done.returncode == 0, done.stderr
    assert "cedar-chant" in done.stdout


@pytest.mark.parametrize("found", [None, "/usr/bin/aws"], ids=["without it", "with it"])
def test_aws_cli_is_named_to_those_who_have_it(
    found: str | None, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: found)

    text = next_steps(LocalAws(5600, console, RESOURCES), "2024-06-25")

    assert ("aws s3 ls --recursive s3://the-archive/" in text) == bool(found)
    assert "make dashboard AWS_PORT=5600 " in text


def test_table_without_a_day_is_not_queried(monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)

    assert HEADING not in next_steps(LocalAws(5600, console, RESOURCES), None)


def test_reasons_that_the_tables_gave_are_not_repeated() -> None:
    rejected = {
        "key": "streams/a.csv",
        "disposition": "quarantine",
        "rejected": 0,
        "reason": "missing column listen_time; the header has: a.",
    }
    error = f"No file has a valid row: streams/a.csv: {rejected['reason']}. Correct it."
    outcome = Outcome("manual__1", "failed", {"move": error, "other": "out of memory"})

    assert failure_lines(outcome, {"files": [rejected]}) == [
        "move: No file has a valid row (the reasons are above). Correct it.",
        "other: out of memory",
    ]
    assert failure_lines(outcome, None) == [f"move: {error}", "other: out of memory"]


def test_tasks_with_one_error_share_a_line_and_a_run_without_errors_has_one() -> None:
    assert failure_lines(Outcome("manual__1", "failed", {"a": "why", "b": "why"}), None) == ["a, b: why"]
    assert failure_lines(Outcome("manual__1", "success", {}), None) == [
        "music_streaming_pipeline: the run ended without a report"
    ]
