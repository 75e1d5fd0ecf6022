from __future__ import annotations

import csv
import io
import json
import logging
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from helpers.contract.keys import report_key
from include.kpis.__main__ import main
from include.kpis.reports import Archive, open_archive
from include.kpis.table import KpiTable
from kpi_table_support import FIRST, day_items, put_items
from local_aws_support import connect
from quality_support import BAD, thirty_reports

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _table_of_the_environment(empty_table: KpiTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPI_TABLE_NAME", empty_table.name)
    # Airflow, which other tests import, makes the libraries' log part of the output.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def _csv(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, str]]:
    assert main([*arguments, "--format", "csv"]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def _error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_csv_has_the_table_s_numbers_as_they_are(table: KpiTable, capsys: pytest.CaptureFixture[str]) -> None:
    assert _csv(capsys, "day", "2024-06-24")[1] == {
        "genre_rank": "2",
        "track_genre": "pop",
        "listen_count": "40",
        "unique_listeners": "36",
        "total_listening_time": "138.8",
        "avg_listening_time_per_user": "3.86",
    }
    assert [row["listen_count"] for row in _csv(capsys, "trend", "pop", "--from", "2024-06-25")] == [
        "300",
        "120",
    ]
    assert _csv(capsys, "songs", "2024-06-24", "pop")[2]["track_id"] == "pop-3"
    assert [row["track_genre"] for row in _csv(capsys, "top-genres", "2024-06-24")] == ["rock", "pop"]
    assert _csv(capsys, "top-countries", "2024-06-24")[2]["user_country"] == "Côte d'Ivoire"
    assert _csv(capsys, "genre", "2024-06-24", "ALL_GENRES")[0]["listen_count"] == "150"
    assert [row["status"] for row in _csv(capsys, "days")] == ["complete", "updating", "complete"]


def test_json_has_numbers_as_numbers(table: KpiTable, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["genre", "2024-06-24", "pop", "--format", "json"]) == 0

    (found,) = json.loads(capsys.readouterr().out)
    assert (found["date"], found["listen_count"], found["total_listening_time"]) == ("2024-06-24", 40, 138.8)
    assert found["top_3_songs_per_genre"][0]["track_name"] == "Song 1 of pop"


def test_table_for_people_has_units(table: KpiTable, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["day", "2024-06-24"]) == 0

    text = capsys.readouterr().out
    assert "(minutes)" in text
    assert "(minutes per listener)" in text
    assert "Genres of 2024-06-24, UTC" in text


def test_names_cannot_steer_the_terminal(
    empty_table: KpiTable, dynamodb: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    put_items(dynamodb, empty_table.name, day_items(FIRST, {"red\x1b[31m [bold]": 1}))

    assert main(["day", str(FIRST)]) == 0

    assert "red [31m [bold]" in capsys.readouterr().out


def test_day_that_is_being_written_is_named_beside_the_output(
    table: KpiTable, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["days"], ["day", "2024-06-25"], ["genre", "2024-06-25", "pop"], ["trend", "pop"]):
        assert main([*arguments, "--format", "csv"]) == 0
        assert capsys.readouterr().err == (
            "Being written by a run, so some numbers are older than others: 2024-06-25\n"
        )


def test_day_that_is_not_there_is_named_with_those_that_are(
    table: KpiTable, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ["day", "2024-06-26"],
        ["genre", "2024-06-26", "pop"],
        ["songs", "2024-06-26", "pop"],
        ["genre", "2024-06-26", "ALL_GENRES"],
        ["top-genres", "2024-06-26"],
        ["top-countries", "2024-06-26"],
    ):
        message = _error(capsys, *arguments)
        assert "has no KPIs of 2024-06-26" in message
        assert "days from 2024-06-24 to 2024-06-27" in message
    assert "no day in that range. It has days from 2024-06-24" in _error(
        capsys, "days", "--from", "2024-07-01"
    )


def test_genre_that_is_not_there_is_named_with_how_to_list_them(
    table: KpiTable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "`python -m include.kpis day 2024-06-27` lists" in _error(capsys, "genre", "2024-06-27", "rock")
    assert "No listens of opera, ska from 2024-06-24 to 2024-06-27. `python" in _error(
        capsys, "trend", "opera", "ska"
    )
    assert "Top songs are by genre" in _error(capsys, "songs", "2024-06-24", "ALL_GENRES")


@pytest.mark.parametrize(("genre", "near"), [("Pop", "'pop'"), ("rok", "'rock'"), ("unknown", "'Unknown'")])
def test_misspelt_genre_is_answered_with_the_nearest_name(
    table: KpiTable, capsys: pytest.CaptureFixture[str], genre: str, near: str
) -> None:
    for arguments in (["genre", "2024-06-24", genre], ["songs", "2024-06-24", genre]):
        assert f"No listens of {genre!r} on 2024-06-24. Nearest names: {near}. `" in _error(
            capsys, *arguments
        )
    assert f"Nearest names: {near}. `" in _error(capsys, "trend", genre, "--to", "2024-06-24")


def test_genre_without_listens_in_a_trend_of_others_is_named_beside_the_output(
    table: KpiTable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trend", "pop", "rok", "--to", "2024-06-24", "--format", "csv"]) == 0

    captured = capsys.readouterr()
    assert captured.out.count("\n") == 2
    assert captured.err.startswith(
        "No listens of rok from 2024-06-24 to 2024-06-24. Nearest names: 'rock'. `python"
    )


@pytest.mark.parametrize("command", [["days"], ["trend", "pop"]], ids=["days", "trend"])
def test_swapped_range_is_answered_with_the_swap(
    table: KpiTable, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert _error(capsys, *command, "--from", "2024-06-27", "--to", "2024-06-24") == (
        "Error: --from 2024-06-27 is after --to 2024-06-24. Swap them: --from 2024-06-24 --to 2024-06-27\n"
    )


@pytest.mark.parametrize(
    "arguments", [["days"], ["day", "2024-06-24"], ["genre", "2024-06-24", "pop"], ["trend", "pop"]]
)
def test_empty_table_is_an_error_that_says_what_fills_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is empty: no run has stored KPIs yet. On local AWS, `make run` does" in _error(capsys, *arguments)


@pytest.fixture
def archive(dynamodb: Any, local_aws: str, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """The archive bucket of the environment, without a run."""
    bucket = f"archive-{uuid.uuid4().hex[:8]}"
    connect("s3", local_aws).create_bucket(Bucket=bucket)
    monkeypatch.setenv("ARCHIVE_BUCKET_NAME", bucket)
    return open_archive(bucket)


def test_runs_are_listed_with_their_figures_and_what_is_unusual(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    for report in thirty_reports()[BAD - 6 : BAD + 1]:
        archive.s3.put_object(
            Bucket=archive.bucket, Key=report_key(report["run_key"]), Body=json.dumps(report).encode()
        )
    ending = {"run_key": "run-x", "dag_run_id": "x", "state": "failed", "task_id": "t", "reason": "r"}
    ending |= {"next_step": "", "section": "", "ended_at": "2024-07-01T00:00:00+00:00"}
    archive.s3.put_object(
        Bucket=archive.bucket, Key="runs/run-x/ending.json", Body=json.dumps(ending).encode()
    )

    failed, bad, *good = _csv(capsys, "runs")

    assert (failed["state"], failed["run_key"], failed["rows"], failed["unusual"]) == (
        "failed",
        "run-x",
        "",
        "",
    )
    assert (bad["rows"], bad["late"], bad["glue_usd"]) == ("6120", "2950", "0.084333")
    assert "Files 7: low, expected 12 to 48; Rows 6,120: low" in bad["unusual"]
    assert [run["unusual"] for run in good] == [""] * 6
    assert len(_csv(capsys, "runs", "--newest", "2")) == 2
    assert main(["runs"]) == 0
    assert "6,120" in capsys.readouterr().out


def test_archive_without_a_run_is_an_error_that_says_what_makes_one(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "has no record of a run yet. On local AWS, `make run` makes one" in _error(capsys, "runs")


@pytest.mark.parametrize("number", ["0", "-1", "all"])
def test_number_of_runs_that_is_none_is_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["runs", f"--newest={number}"])

    assert f"{number!r} is not a number of runs, such as 30" in capsys.readouterr().err


@pytest.mark.parametrize("day", ["20240625", "2024-02-30", "today", "2024-06-25T00:00"])
def test_value_that_is_not_a_day_is_refused(day: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["day", day])

    assert exit_.value.code == 2
    assert f"{day!r} is not a day in the form YYYY-MM-DD" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"KPI_TABLE_NAME": "no-such-table"}, "The table no-such-table does not exist."),
        (
            {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
            "No AWS credentials were found. For AWS sign in",
        ),
        ({"AWS_DEFAULT_REGION": None}, "No AWS region is set. Set AWS_DEFAULT_REGION"),
        ({"AWS_PROFILE": "nobody"}, "The config profile (nobody) could not be found. Set AWS_PROFILE"),
        ({"AWS_ENDPOINT_URL": "nowhere"}, "Invalid endpoint: nowhere. AWS_ENDPOINT_URL must be"),
    ],
    ids=["no table", "no credentials", "no region", "no profile", "no address"],
)
def test_wrong_setting_is_named_with_the_remedy(
    variables: dict[str, str | None],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)

    assert message in _error(capsys, "days")


def test_endpoint_that_does_not_answer_is_named_with_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    message = _error(capsys, "days")

    assert f'Could not connect to the endpoint URL: "http://127.0.0.1:{port}/"' in message
    assert "Local AWS is started by `make run`" in message


def test_reader_that_has_enough_gets_no_traceback(table: KpiTable) -> None:
    done = subprocess.run(
        f"{sys.executable} -m include.kpis day 2024-06-24 --format csv | true",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("genre", ["[/]", "[bold]x[/bold]", "[unknown]", "[link=http://x]"])
def test_name_of_a_genre_is_text_and_no_markup(
    dynamodb: Any, empty_table: KpiTable, capsys: pytest.CaptureFixture[str], genre: str
) -> None:
    put_items(dynamodb, empty_table.name, day_items(FIRST, {genre: 3}))

    for command, title in (("songs", f"Top songs of {genre} on {FIRST}"), ("genre", f"{genre} on {FIRST}")):
        assert main([command, str(FIRST), genre]) == 0
        assert title in capsys.readouterr().out
    assert main(["trend", genre]) == 0
    assert f"Trend of {genre}" in capsys.readouterr().out
