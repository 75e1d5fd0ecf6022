"""Command line of the KPIs: `python -m include.kpis`; tables for people, JSON and CSV for programs."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import difflib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from helpers.contract.figures import FIGURES
from helpers.contract.kpis import KPIS
from helpers.contract.names import ALL_GENRES
from include.kpis import table as kpis
from include.kpis.model import COMPLETE, DayKpis, GenreKpis
from include.kpis.problems import ReadError
from include.kpis.quality import compared, outlier_in_words, points_by_figure
from include.kpis.reports import open_archive
from include.kpis.runs import read_runs
from include.kpis.table import KpiTable

PROGRAM = "python -m include.kpis"
_UNITS = {kpi.attribute: kpi.unit for kpi in KPIS if kpi.unit != kpi.label.lower()}
_NUMBERS = tuple(kpi.attribute for kpi in KPIS if kpi.attribute != "genre_rank")
_GENRE_COLUMNS = ("genre_rank", "track_genre", *_NUMBERS)


_FIGURE_NAMES = [figure.name for figure in FIGURES]
_RunRow: Any = dataclasses.make_dataclass("_RunRow", ["at", "state", *_FIGURE_NAMES, "unusual", "run_key"])


class Answer(NamedTuple):
    """Rows to print.

    Attributes:
        incomplete: days among them that a run is writing.
        missing: a sentence about the genres without a row; empty if all have one.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Any]
    incomplete: Sequence[date] = ()
    missing: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the answer; return 0, or 1 with a sentence that gives the remedy."""
    arguments = _parser().parse_args(argv)
    try:
        _require_order(arguments)
        answer: Answer = arguments.read(arguments)
    except ReadError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    try:
        _FORMATS[arguments.format](answer)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output, such as `head`, closed it. Python would report that once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if answer.incomplete:
        days = ", ".join(map(str, answer.incomplete))
        print(f"Being written by a run, so some numbers are older than others: {days}", file=sys.stderr)
    if answer.missing:
        print(answer.missing, file=sys.stderr)
    return 0


def _require_order(arguments: argparse.Namespace) -> None:
    if "first" in arguments and arguments.first > arguments.last:
        raise ReadError(
            f"--from {arguments.first} is after --to {arguments.last}. "
            f"Swap them: --from {arguments.last} --to {arguments.first}"
        )


def _of_table(read: Callable[[KpiTable, argparse.Namespace], Answer]) -> Callable[..., Answer]:
    return lambda arguments: read(kpis.open_table(arguments.table), arguments)


def _runs(arguments: argparse.Namespace) -> Answer:
    archive = open_archive()
    runs, _ = read_runs(archive, arguments.newest)
    if not runs:
        raise ReadError(
            f"The bucket {archive.bucket} has no record of a run yet. On local AWS, `make run` makes one."
        )
    outliers: defaultdict[str, list[str]] = defaultdict(list)
    for points in points_by_figure(compared([run.report for run in runs if run.report])).values():
        for point in points:
            if point.is_outlier:
                outliers[point.report.run_key].append(outlier_in_words(point))
    rows = [
        _RunRow(
            at=run.at,
            state=str(run.state),
            **(run.report.figures if run.report else dict.fromkeys(_FIGURE_NAMES)),
            unusual="; ".join(outliers[run.run_key]) or None,
            run_key=run.run_key,
        )
        for run in runs
    ]
    return Answer("Runs, newest first", tuple(field.name for field in dataclasses.fields(_RunRow)), rows)


def _days(table: KpiTable, arguments: argparse.Namespace) -> Answer:
    days = kpis.read_days(table, arguments.first, arguments.last)
    if not days:
        raise ReadError(_no_days(table))
    return Answer("Days", ("date", "status"), days, _incomplete(days))


def _day(table: KpiTable, arguments: argparse.Namespace) -> Answer:
    day = kpis.read_day(table, arguments.date)
    if day is None:
        raise ReadError(_no_such_day(table, arguments.date))
    return Answer(f"Genres of {day.date}, UTC", _GENRE_COLUMNS, day.genres, _incomplete([day]))


def _genre(table: KpiTable, arguments: argparse.Namespace) -> Answer:
    found = _read_genre(table, arguments.date, arguments.genre)
    columns = ("date", *_GENRE_COLUMNS, "status", "version", "computed_at")
    return Answer(f"{found.track_genre} on {found.date}, UTC", columns, [found], _incomplete([found]))


def _trend(table: KpiTable, arguments: argparse.Namespace) -> Answer:
    trend = kpis.read_trend(table, arguments.genre, arguments.first, arguments.last)
    days = sorted({*(day.date for day in trend.days), *(point.date for point in trend.points)})
    if not days:
        raise ReadError(_no_days(table))
    found = {point.track_genre for point in trend.points}
    missing = ""
    if without := [genre for genre in arguments.genre if genre not in found]:
        span = f"from {days[0]} to {days[-1]}"
        missing = f"No listens of {', '.join(without)} {span}. {_hint(table, days[-1], without)}"
    if not trend.points:
        raise ReadError(missing)
    columns = ("date", "track_genre", *_NUMBERS, "genre_rank", "status")
    title = f"Trend of {', '.join(arguments.genre)}"
    return Answer(title, columns, trend.points, _incomplete(trend.days), missing)


def _songs(table: KpiTable, arguments: argparse.Namespace) -> Answer:
    found = _read_genre(table, arguments.date, arguments.genre)
    if not isinstance(found, GenreKpis):
        raise ReadError(
            f"Top songs are by genre; `{PROGRAM} day {arguments.date}` lists the genres of the day."
        )
    columns = ("rank", "track_name", "artists", "listen_count", "track_id")
    title = f"Top songs of {found.track_genre} on {found.date}, UTC"
    return Answer(title, columns, found.top_3_songs_per_genre, _incomplete([found]))


def _top_genres(table: KpiTable, arguments: argparse.Namespace) -> Answer:
    totals = _read_totals(table, arguments.date)
    columns = ("rank", "track_genre", "listen_count")
    return Answer(
        f"Top genres of {totals.date}, UTC", columns, totals.top_5_genres_per_day, _incomplete([totals])
    )


def _top_countries(table: KpiTable, arguments: argparse.Namespace) -> Answer:
    totals = _read_totals(table, arguments.date)
    columns = ("rank", "user_country", "listen_count", "unique_listeners")
    title = f"Top countries of {totals.date}, UTC"
    return Answer(title, columns, totals.top_5_countries_per_day, _incomplete([totals]))


def _read_genre(table: KpiTable, day: date, genre: str) -> GenreKpis | DayKpis:
    if genre == ALL_GENRES:
        return _read_totals(table, day)
    found = kpis.read_genre(table, day, genre)
    if found is None:
        if kpis.read_totals(table, day) is None:
            raise ReadError(_no_such_day(table, day))
        raise ReadError(f"No listens of {genre!r} on {day}. {_hint(table, day, [genre])}")
    return found


def _hint(table: KpiTable, day: date, genres: Iterable[str]) -> str:
    """Name the day's genres with the most similar names, and the command that lists all genres."""
    found = kpis.read_day(table, day)
    names = {genre.track_genre.casefold(): genre.track_genre for genre in found.genres} if found else {}
    near = [
        repr(names[match]) for genre in genres for match in difflib.get_close_matches(genre.casefold(), names)
    ]
    nearest = f"Nearest names: {', '.join(dict.fromkeys(near))}. " if near else ""
    return f"{nearest}`{PROGRAM} day {day}` lists the genres of that day."


def _read_totals(table: KpiTable, day: date) -> DayKpis:
    totals = kpis.read_totals(table, day)
    if totals is None:
        raise ReadError(_no_such_day(table, day))
    return totals


def _no_such_day(table: KpiTable, day: date) -> str:
    bounds = kpis.read_bounds(table)
    if bounds is None:
        return _no_days(table)
    return (
        f"The table {table.name} has no KPIs of {day}. It has days from {bounds[0]} to {bounds[1]}: "
        f"`{PROGRAM} days` lists them."
    )


def _no_days(table: KpiTable) -> str:
    bounds = kpis.read_bounds(table)
    if bounds is None:
        return f"The table {table.name} is empty: no run has stored KPIs yet. On local AWS, `make run` does."
    return f"The table {table.name} has no day in that range. It has days from {bounds[0]} to {bounds[1]}."


def _incomplete(days: Sequence[Any]) -> list[date]:
    return [day.date for day in days if day.status != COMPLETE]


def _print_table(answer: Answer) -> None:
    table = Table(title=_cell(answer.title), title_justify="left", box=box.ROUNDED, header_style="bold")
    numbers = {"rank", "genre_rank", "version", *_NUMBERS, *_FIGURE_NAMES}
    for column in answer.columns:
        unit = f"\n({_UNITS[column]})" if column in _UNITS and column in _NUMBERS else ""
        table.add_column(
            f"{column}{unit}", justify="right" if column in numbers else "left", no_wrap=column == "date"
        )
    for row in answer.rows:
        table.add_row(*(_cell(getattr(row, column)) for column in answer.columns))
    console = Console(highlight=False)
    if not console.is_terminal:
        # Output to a file is never truncated.
        console.width = 200
    console.print(table)


def _print_json(answer: Answer) -> None:
    rows = [
        {column: getattr(row, column) for column in answer.columns} | dataclasses.asdict(row)
        for row in answer.rows
    ]
    print(json.dumps(rows, default=_of_json, ensure_ascii=False, indent=2))


def _print_csv(answer: Answer) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows([getattr(row, column) for column in answer.columns] for row in answer.rows)


def _cell(value: Any) -> Text:
    """Return a cell's text without markup and control characters, because names come from data."""
    if isinstance(value, int):
        return Text(f"{value:,}")
    if isinstance(value, Decimal):
        return Text(f"{value:,.2f}")
    if isinstance(value, float):
        return Text(f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}")
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M} UTC")
    text = "-" if value is None else str(value)
    return Text("".join(character if character.isprintable() else " " for character in text))


def _of_json(value: Any) -> Any:
    # Two decimals: a float prints the same.
    return float(value) if isinstance(value, Decimal) else value.isoformat()


_FORMATS: Mapping[str, Callable[[Answer], None]] = {
    "table": _print_table,
    "json": _print_json,
    "csv": _print_csv,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Daily KPIs of the music streaming pipeline. Days are UTC days, times are minutes.",
        epilog=f"{ALL_GENRES} in place of a genre gives the totals of a day. Local AWS: AWS_ENDPOINT_URL.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, read, arguments, meaning in (
        ("days", _of_table(_days), ("range", "table"), "the days that have KPIs"),
        ("day", _of_table(_day), ("date", "table"), "all genres of a day, by rank"),
        ("genre", _of_table(_genre), ("date", "genre", "table"), "one genre on one day"),
        ("songs", _of_table(_songs), ("date", "genre", "table"), "top songs of a genre on a day"),
        ("top-genres", _of_table(_top_genres), ("date", "table"), "top genres of a day"),
        ("top-countries", _of_table(_top_countries), ("date", "table"), "top countries of a day"),
        ("trend", _of_table(_trend), ("genres", "range", "table"), "one or more genres, day by day"),
        ("runs", _runs, ("newest",), "the newest runs, with their figures and what is unusual"),
    ):
        command = commands.add_parser(name, help=meaning, description=f"Print {meaning}.", allow_abbrev=False)
        command.set_defaults(read=read)
        _add_arguments(command, arguments)
    return parser


def _add_arguments(command: argparse.ArgumentParser, names: Sequence[str]) -> None:
    if "date" in names:
        command.add_argument("date", type=_date, metavar="DAY", help="such as 2024-06-25")
    if "genre" in names:
        command.add_argument("genre", metavar="GENRE")
    if "genres" in names:
        command.add_argument("genre", nargs="+", metavar="GENRE")
    if "range" in names:
        command.add_argument(
            "--from", dest="first", type=_date, default=date.min, metavar="DAY", help="first day"
        )
        command.add_argument(
            "--to", dest="last", type=_date, default=date.max, metavar="DAY", help="last day"
        )
    command.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="default: %(default)s"
    )
    if "table" in names:
        command.add_argument("--table", metavar="NAME", help="default: KPI_TABLE_NAME, else music_kpis_table")
    if "newest" in names:
        command.add_argument(
            "--newest",
            type=_positive,
            default=30,
            metavar="NUMBER",
            help="runs to read (default: %(default)s)",
        )


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs, such as 30")
    return int(text)


def _date(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # Python also reads other forms of ISO 8601, such as 20240625.
    if day is None or day.isoformat() != text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day in the form YYYY-MM-DD, such as 2024-06-25")
    return day


if __name__ == "__main__":
    sys.exit(main())
