from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from include.commands.tables import kpi_tables, quarantine_line, report_tables, shown_days


def _file(key: str, **changes: Any) -> dict[str, Any]:
    file = {"key": key, "rows": 1000, "valid": 990, "rejected": 10, "disposition": "archive", "reason": None}
    return file | {"extra_columns": [], "rejected_by_reason": {"bad_listen_time": 10}} | changes


def _report(**changes: Any) -> dict[str, Any]:
    report: dict[str, Any] = {
        "totals": {
            "files": 3,
            "archived": 2,
            "quarantined": 1,
            "left": 0,
            "rows": 1234567,
            "valid": 1234000,
            "rejected": 567,
            "rejected_by_reason": {"bad_listen_time": 500, "missing_user_id": 67},
            "new": 1230000,
            "repeated": 4000,
        },
        "days": {"2024-06-25": {"rows_read": 7, "new": 5, "repeated": 2, "total": 9, "version": 3}},
        "files": [
            _file("streams/a.csv", extra_columns=["device"]),
            _file("streams/bad.csv", disposition="quarantine", reason="no column listen_time"),
        ],
        "ignored_keys": [],
        "catalogs": {
            "songs": {"files": ["songs/songs.csv"], "rows": 89741, "notes": {"repeated": 0, "no_duration": 3}}
        },
    }
    return report | changes


def _items(genre: str = "rock", name: str = "A song", artists: str = "Someone") -> list[dict[str, Any]]:
    return [
        {
            "track_genre": "ALL_GENRES",
            "listen_count": Decimal(11346),
            "unique_listeners": Decimal(8123),
            "total_listening_time": Decimal("43210.50"),
            "avg_listening_time_per_user": Decimal("5.32"),
            "top_5_genres_per_day": [
                {"rank": Decimal(1), "track_genre": genre, "listen_count": Decimal(1200)}
            ],
        },
        {
            "track_genre": genre,
            "top_3_songs_per_genre": [
                {"rank": Decimal(1), "track_name": name, "artists": artists, "listen_count": Decimal(40)},
                {"rank": Decimal(2), "track_name": "Second", "artists": "B", "listen_count": Decimal(39)},
            ],
        },
    ]


def _lines(console: Console, renderable: RenderableType) -> list[str]:
    console.print(renderable)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(cell_len(line) <= 100 for line in lines)
    return list(lines)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def _after(heading: str, lines: list[str]) -> list[str]:
    return [line.strip() for line in lines[lines.index(heading) + 1 :]]


def test_report_shows_totals_reasons_files_days_and_catalogs(console: Console) -> None:
    rows = [_cells(line) for line in _lines(console, report_tables(_report()))]

    assert ["3", "2", "1", "1,234,567", "1,234,000", "567", "1,230,000", "4,000"] in rows
    assert ["bad_listen_time", "500"] in rows
    assert ["missing_user_id", "67"] in rows
    assert ["streams/a.csv", "1,000", "990", "10", "archive", "extra columns: device"] in rows
    assert ["streams/bad.csv", "1,000", "990", "10", "quarantine", ""] in rows
    assert ["streams/bad.csv: no column listen_time"] in rows
    assert ["streams/a.csv: bad_listen_time in 10 rows"] in rows
    assert ["2024-06-25", "7", "5", "2", "9"] in rows
    assert ["Catalog songs: 89,741 rows from 1 file (no_duration 3)"] in rows


def test_report_without_a_valid_row_has_files_and_reasons_only(console: Console) -> None:
    report = _report(days={})
    del report["catalogs"], report["totals"]["new"], report["totals"]["repeated"]

    lines = _lines(console, report_tables(report))

    assert ["3", "2", "1", "1,234,567", "1,234,000", "567"] in [_cells(line) for line in lines]
    assert any("streams/bad.csv" in line for line in lines)
    assert "Listens per day" not in "\n".join(lines)


def test_files_that_changed_during_the_run_are_counted(console: Console) -> None:
    report = _report()
    report["totals"]["left"] = 2

    rows = [_cells(line) for line in _lines(console, report_tables(report))]

    assert any(row[-1] == "left" for row in rows)
    assert ["3", "2", "1", "1,234,567", "1,234,000", "567", "1,230,000", "4,000", "2"] in rows


def test_quarantined_files_come_first_when_there_are_many(console: Console) -> None:
    files = [_file(f"streams/{number:04}.csv") for number in range(300)]
    files.append(_file("streams/z.csv", disposition="quarantine", reason="no header"))

    lines = _lines(console, report_tables(_report(files=files)))

    named = [_cells(line)[0] for line in lines if line.startswith("│ streams/")]
    assert named == ["streams/z.csv", *(f"streams/{number:04}.csv" for number in range(11))]
    assert "... and 289 more files, all in the run report" in lines
    assert _after("What was not taken, and how to correct it", lines)[0] == "streams/z.csv: no header"


def test_last_days_are_shown_when_there_are_many(console: Console) -> None:
    counts = {"rows_read": 1, "new": 1, "repeated": 0, "total": 1, "version": 1}
    report = _report(days={f"2024-06-{day:02}": counts for day in range(1, 31)})

    lines = _lines(console, report_tables(report))

    shown = [_cells(line)[0] for line in lines if "2024-06-" in line]
    assert shown == shown_days(report) == [f"2024-06-{day}" for day in range(24, 31)]
    assert "... and 23 earlier days, all in the run report" in lines


def _report_of_days_computed_again(days: int) -> dict[str, Any]:
    counts = {"rows_read": 0, "new": 0, "repeated": 0, "total": 12345, "version": 3}
    totals = dict.fromkeys(_report()["totals"], 0) | {"rejected_by_reason": {}}
    return _report(
        totals=totals,
        files=[],
        days={f"2024-06-{day:02}": counts for day in range(1, days + 1)},
        reprocess_dates=[f"2024-06-{day:02}" for day in range(1, days + 1)],
        kpi_items_written=2300,
        kpi_items_deleted=4,
    )


def test_reprocessed_days_have_listens_and_changed_items_but_no_files(console: Console) -> None:
    lines = _lines(console, report_tables(_report_of_days_computed_again(2)))

    rows = [_cells(line) for line in lines]
    assert ["2024-06-01", "12,345"] in rows
    assert ["2024-06-02", "12,345"] in rows
    assert "KPI items: 2,300 written, 4 deleted" in lines
    assert ["Catalog songs: 89,741 rows from 1 file (no_duration 3)"] in rows
    assert not {"Run report", "Stream files", "Listens per day"} & {line.strip() for line in lines}


def test_last_reprocessed_days_are_shown_if_there_are_many(console: Console) -> None:
    lines = _lines(console, report_tables(_report_of_days_computed_again(30)))

    assert [_cells(line)[0] for line in lines if "2024-06-" in line] == [
        f"2024-06-{day}" for day in range(24, 31)
    ]
    assert "... and 23 earlier days, all in the run report" in lines


@pytest.mark.parametrize(
    ("files", "line"),
    [
        pytest.param([_file("a", rejected=0)], None, id="nothing"),
        pytest.param([], None, id="no files"),
        pytest.param([_file("a", rejected=1)], "In quarantine: 1 row of accepted files", id="a row"),
        pytest.param(
            [_file("a", rejected=0), _file("b", disposition="quarantine", rejected=50)],
            "In quarantine: 1 file",
            id="a file with its rows",
        ),
        pytest.param(
            [_file("a", rejected=1200)] + 2 * [_file("b", disposition="quarantine")],
            "In quarantine: 2 files and 1,200 rows of accepted files",
            id="both",
        ),
        pytest.param([_file("a", disposition="left", rejected=0)], None, id="left for the next run"),
    ],
)
def test_what_is_in_quarantine_is_said(files: list[dict[str, Any]], line: str | None) -> None:
    assert quarantine_line(_report(files=files)) == line


def test_kpis_show_genres_of_each_day_and_songs_of_the_last(console: Console) -> None:
    days = {"2024-06-26": _items("jazz", "Late"), "2024-06-25": _items("rock", "Early")}

    lines = _lines(console, kpi_tables(days, more_days=0))

    rows = [_cells(line) for line in lines]
    first = rows.index(["2024-06-25", "11,346", "8,123", "43,210.50", "5.32", "rock (1,200)"])
    assert rows[first + 1] == ["2024-06-26", "11,346", "8,123", "43,210.50", "5.32", "jazz (1,200)"]
    assert ["jazz", "1", "Late", "Someone", "40"] in rows
    assert ["", "2", "Second", "B", "39"] in rows
    assert "Early" not in "\n".join(lines)


def test_kpis_say_how_many_days_are_left_out(console: Console) -> None:
    lines = _lines(console, kpi_tables({"2024-06-25": _items()}, more_days=12))

    assert "... and 12 earlier days in the table" in lines


def test_day_without_a_known_track_has_no_songs(console: Console) -> None:
    total = _items()[0] | {"top_5_genres_per_day": []}

    rows = [_cells(line) for line in _lines(console, kpi_tables({"2024-06-25": [total]}, more_days=0))]

    assert ["2024-06-25", "11,346", "8,123", "43,210.50", "5.32", ""] in rows


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("[bold]loud[/bold]", "[bold]loud[/bold]", id="markup"),
        pytest.param("[/]", "[/]", id="closing markup"),
        pytest.param("two\nlines\tand tabs", "two lines and tabs", id="line break"),
        pytest.param("red \x1b[31malert\x07", "red [31malert", id="control characters"),
        pytest.param("千本桜 夜に駆ける", "千本桜 夜に駆ける", id="wide characters"),
        pytest.param("أغنية", "أغنية", id="right to left"),
        pytest.param("x" * 500, "x" * 33 + "…", id="long"),
        pytest.param("長" * 300, "長" * 16, id="long and wide"),
    ],
)
def test_any_name_leaves_the_table_whole(console: Console, name: str, shown: str) -> None:
    lines = _lines(
        console, kpi_tables({"2024-06-25": _items(genre=name, name=name, artists=name)}, more_days=0)
    )

    start = next(number for number, line in enumerate(lines) if line.startswith("Top songs"))
    table = lines[start + 1 :]
    assert len({cell_len(line) for line in table}) == 1
    song = next(_cells(line) for line in table if "│ 1 │" in line)
    assert song[2].startswith(shown)
    assert song[4] == "40"


def test_checks_that_did_not_simply_pass_are_shown_as_text(console: Console) -> None:
    warned = {"name": "old_days", "value": 1, "limit": 0, "verdict": "warned", "message": "[bold]x[/bold]"}

    checks = [warned, warned | {"verdict": "passed", "name": "fine"}]
    shown = "\n".join(_lines(console, report_tables(_report(checks=checks))))

    assert "old_days" in shown
    assert "[bold]x[/bold]" in shown
    assert "fine" not in shown


def test_report_shows_late_listens_newest_listen_and_cost_where_it_has_them(console: Console) -> None:
    report = _report(
        newest_listen="2024-06-25T23:58:00+00:00",
        glue={"job_runs": 1, "dpu_seconds": 150.0, "estimated_usd": 0.018333},
    )
    report["totals"]["late"] = 77
    report["files"] = []

    before = "\n".join(_lines(console, report_tables(_report())))
    now = "\n".join(_lines(console, report_tables(report))).removeprefix(before)

    assert "│ late │" in now
    assert "Newest listen: 2024-06-25 23:58 UTC" in now
    assert "Glue: 150 DPU-seconds, about 0.018 US dollars" in now
    assert not any(word in before for word in ("late", "Newest listen", "Glue"))
