"""Formats a run's report and KPIs as tables for a terminal or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from helpers.contract.glue_cost import cost_in_words
from helpers.contract.kpis import COMMON_KPIS
from helpers.contract.names import ALL_GENRES
from helpers.contract.rejections import list_rejections
from helpers.contract.wording import counted

SHOWN_DAYS = 7
SHOWN_FILES = 12
# Checks that repeat what the files' rejections say.
SAID_BY_FILE = ("quarantined_files", "left_files", "rejected_rows")


def report_tables(report: Mapping[str, Any]) -> RenderableType:
    """Return files, rows, rejected rows by reason, days and catalogs of a run report.

    A reprocessing run has no files. Its tables show the days' listens and the changes of the table.
    """
    totals = report["totals"]
    parts: list[RenderableType] = []
    if report.get("reprocess_dates"):
        parts.append(_computed_again_table(report))
    else:
        parts.append(_totals_table(totals))
        if totals["rejected_by_reason"]:
            parts.append(_reasons_table(totals["rejected_by_reason"]))
        parts.append(_files_table(report["files"]))
        parts += _rejections(report["files"])
        if report["days"]:
            parts.append(_days_table(report["days"]))
    checks = [check for check in report.get("checks", []) if check["verdict"] != "passed"]
    if checks := [check for check in checks if check["name"] not in SAID_BY_FILE]:
        parts.append(_checks_table(checks))
    parts += [_catalog_line(name, catalog) for name, catalog in report.get("catalogs", {}).items()]
    if newest := report.get("newest_listen"):
        parts.append(_cell(f"Newest listen: {newest[:16].replace('T', ' ')} UTC"))
    if (glue := report.get("glue")) and glue["job_runs"]:
        cost = cost_in_words(glue["dpu_seconds"], glue["estimated_usd"])
        parts.append(_cell(f"Glue: {cost}, if it ran as long on AWS; local AWS costs nothing"))
    if report["ignored_keys"]:
        parts.append(_cell(f"Ignored objects: {', '.join(report['ignored_keys'])}"))
    return Group(*parts)


def kpi_tables(items_by_day: Mapping[str, Sequence[Mapping[str, Any]]], more_days: int) -> RenderableType:
    """Return each day's top genres, and the top songs of the last day's top genres.

    Args:
        items_by_day: KPI items by day.
        more_days: number of earlier days of the run that are left out.
    """
    days = sorted(items_by_day)
    parts: list[RenderableType] = [_genres_table({day: items_by_day[day] for day in days})]
    if more_days:
        parts.append(_cell(f"... and {counted(more_days, 'earlier day')} in the table"))
    parts.append(_songs_table(days[-1], items_by_day[days[-1]]))
    return Group(*parts)


def quarantine_line(report: Mapping[str, Any]) -> str | None:
    """Return a sentence about what the run put into quarantine, or None if that is nothing."""
    files = sum(file["disposition"] == "quarantine" for file in report["files"])
    rows = sum(file["rejected"] for file in report["files"] if file["disposition"] == "archive")
    parts = [counted(files, "file")] * bool(files)
    parts += [f"{counted(rows, 'row')} of accepted files"] * bool(rows)
    return f"In quarantine: {' and '.join(parts)}" if parts else None


def shown_days(report: Mapping[str, Any]) -> list[str]:
    """Return the last days of the report, oldest first."""
    return sorted(report["days"])[-SHOWN_DAYS:]


def _totals_table(totals: Mapping[str, Any]) -> Table:
    # `new` is missing in a run without a valid row. Files are left if they changed or cannot be read. Late
    # listens are among the new ones.
    columns = ["files", "archived", "quarantined", "rows", "valid", "rejected"]
    columns += [column for column in ("new", "repeated") if column in totals]
    columns += [column for column in ("late", "left") if totals.get(column)]
    table = _table("Run report")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row(*(_number(totals[column]) for column in columns))
    return table


def _computed_again_table(report: Mapping[str, Any]) -> RenderableType:
    table = _table("Reprocessed days")
    table.add_column("day", no_wrap=True)
    table.add_column("listens", justify="right", no_wrap=True)
    days = report["days"]
    shown = shown_days(report)
    for day in shown:
        table.add_row(day, _number(days[day]["total"]))
    written, deleted = report["kpi_items_written"], report["kpi_items_deleted"]
    parts: list[RenderableType] = [table]
    if len(days) > len(shown):
        parts.append(
            _cell(f"... and {counted(len(days) - len(shown), 'earlier day')}, all in the run report")
        )
    parts.append(_cell(f"KPI items: {_number(written)} written, {_number(deleted)} deleted"))
    return Group(*parts)


def _reasons_table(rejected_by_reason: Mapping[str, int]) -> Table:
    table = _table("Rejected rows by reason")
    table.add_column("reason")
    table.add_column("rows", justify="right")
    for reason, rows in sorted(rejected_by_reason.items(), key=lambda entry: (-entry[1], entry[0])):
        table.add_row(_cell(reason), _number(rows))
    return table


def _files_table(files: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = _table("Stream files")
    table.add_column("file", overflow="fold")
    for column in ("rows", "valid", "rejected"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("went to", no_wrap=True)
    table.add_column("note")
    ordered = sorted(
        files, key=lambda file: (file["disposition"] == "archive", not file["rejected"], file["key"])
    )
    for file in ordered[:SHOWN_FILES]:
        table.add_row(
            _cell(file["key"]),
            *(_number(file[column]) for column in ("rows", "valid", "rejected")),
            file["disposition"],
            _cell(_drift(file)),
        )
    if len(files) <= SHOWN_FILES:
        return table
    return Group(
        table, _cell(f"... and {counted(len(files) - SHOWN_FILES, 'more file')}, all in the run report")
    )


def _rejections(files: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    lines = list_rejections((file["key"], file) for file in files)
    heading = Text("\nWhat was not taken, and how to correct it", "bold")
    return [heading, *(Padding(_cell(line), (0, 0, 0, 2)) for line in lines)] if lines else []


def _drift(file: Mapping[str, Any]) -> str:
    extra = file["extra_columns"]
    return f"extra columns: {', '.join(extra)}" if extra else ""


def _days_table(days: Mapping[str, Mapping[str, int]]) -> RenderableType:
    table = _table("Listens per day")
    table.add_column("day", no_wrap=True)
    columns = {"rows_read": "rows read", "new": "new", "repeated": "repeated", "total": "total of the day"}
    for header in columns.values():
        table.add_column(header, justify="right", no_wrap=True)
    shown = sorted(days)[-SHOWN_DAYS:]
    for day in shown:
        table.add_row(day, *(_number(days[day][column]) for column in columns))
    if len(days) == len(shown):
        return table
    return Group(
        table, _cell(f"... and {counted(len(days) - len(shown), 'earlier day')}, all in the run report")
    )


def _checks_table(checks: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Checks to look at")
    table.add_column("verdict", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("why")
    for check in checks:
        table.add_row(_cell(check["verdict"]), _cell(check["name"]), _cell(check["message"]))
    return table


def _catalog_line(name: str, catalog: Mapping[str, Any]) -> Text:
    notes = ", ".join(f"{note} {value}" for note, value in catalog["notes"].items() if value)
    files = len(catalog["files"])
    return _cell(
        f"Catalog {name}: {counted(catalog['rows'], 'row')} from {counted(files, 'file')}"
        + (f" ({notes})" if notes else "")
    )


def _genres_table(items_by_day: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    table = _table("Top genres per day")
    table.add_column("day", no_wrap=True)
    for kpi in COMMON_KPIS:
        table.add_column(kpi.unit.replace("minutes per ", "min/"), justify="right", no_wrap=True)
    table.add_column("top genres (listens)")
    for day, items in items_by_day.items():
        total = next((item for item in items if item["track_genre"] == ALL_GENRES), None)
        if total is None:
            table.add_row(day, *["-"] * len(table.columns[1:]))
            continue
        genres = total["top_5_genres_per_day"]
        table.add_row(
            day,
            *(f"{total[kpi.attribute]:,{'' if kpi.is_whole else '.2f'}}" for kpi in COMMON_KPIS),
            _cell(
                ", ".join(f"{genre['track_genre']} ({_number(genre['listen_count'])})" for genre in genres)
            ),
        )
    return table


def _songs_table(day: str, items: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(f"Top songs of the top genres on {day}")
    table.add_column("genre")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("song")
    table.add_column("artists")
    table.add_column("listens", justify="right", no_wrap=True)
    by_genre = {item["track_genre"]: item for item in items}
    for entry in by_genre.get(ALL_GENRES, {}).get("top_5_genres_per_day", []):
        genre = entry["track_genre"]
        for song in by_genre[genre]["top_3_songs_per_genre"]:
            table.add_row(
                _cell(genre if song["rank"] == 1 else "", 18),
                str(song["rank"]),
                _cell(song["track_name"], 34),
                _cell(song["artists"], 22),
                _number(song["listen_count"]),
            )
        table.add_section()
    return table


def _table(title: str) -> Table:
    return Table(
        title=f"\n{title}", title_justify="left", title_style="bold", box=box.ROUNDED, header_style="bold"
    )


def _cell(text: str, max_width: int | None = None) -> Text:
    """Return a cell's text without markup and control characters, because names come from data."""
    cell = Text(" ".join("".join(c if c.isprintable() else " " for c in text).split()))
    if max_width is not None:
        cell.truncate(max_width, overflow="ellipsis")
    return cell


def _number(value: Any) -> str:
    return f"{int(value):,}"
