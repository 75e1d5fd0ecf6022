"""Command line: `python -m include.sql [QUERY]`, or `make sql [QUERY='...'] [FORMAT=csv]`.

Without a query it asks for statements. QUERY is SQL, or the name of a query in `include/sql/queries`.
The archive bucket is that of the environment or of .env; without either, that of the local AWS of `make run`.
"""

from __future__ import annotations

import argparse
import cmd
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from include.commands.environment import read_port
from include.commands.errors import UserError
from include.doctor import read_settings
from include.kpis.problems import ReadError
from include.kpis.reports import open_archive
from include.sql.session import Session, to_text
from include.sql.tables import TABLES

QUERIES = Path(__file__).parent / "queries"
SHOWN_ROWS = 50
FORMATS = ("table", "csv", "json")


def named_queries() -> dict[str, str]:
    """Return the queries that analysts ask, by name."""
    return {path.stem: path.read_text() for path in sorted(QUERIES.glob("*.sql"))}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the query or ask for statements; return 0, or 1 with a message that gives the remedy."""
    try:
        arguments = _parser().parse_args(argv)
        print(f"Reading {read_settings(arguments.aws_port)}", file=sys.stderr)
        session = Session(open_archive())
        if arguments.query.strip():
            _print(
                session.query(named_queries().get(arguments.query.strip(), arguments.query)), arguments.format
            )
        else:
            _Shell(session, arguments.format).cmdloop()
    except (BotoCoreError, ClientError) as error:
        print(
            f"{error}\nLocal AWS is started by `make run`; for AWS set the variables of .env.",
            file=sys.stderr,
        )
        return 1
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except ReadError as error:
        print(error, file=sys.stderr)
        if arguments.query.isidentifier():
            print(f"The queries are {', '.join(named_queries())}.", file=sys.stderr)
        return 1
    return 0


class _Shell(cmd.Cmd):
    """Asks for statements that end with a semicolon."""

    intro = (
        f"Tables: {', '.join(table.name for table in TABLES)}; DESCRIBE shows a table's columns.\n"
        f"Queries: {', '.join(named_queries())}\n"
        "End a statement with ; and the session with Ctrl-D."
    )
    prompt = "sql> "

    def __init__(self, session: Session, form: str) -> None:
        super().__init__()
        self._session, self._form = session, form
        self._lines: list[str] = []

    def default(self, line: str) -> bool:  # type: ignore[override]
        if line == "EOF":
            print()
            return True
        self._lines.append(line)
        statement = "\n".join(self._lines).strip()
        if statement.endswith(";") or statement in named_queries():
            self._lines = []
            try:
                _print(self._session.query(named_queries().get(statement.rstrip(";"), statement)), self._form)
            except ReadError as error:
                print(error, file=sys.stderr)
        self.prompt = "...> " if self._lines else "sql> "
        return False

    def emptyline(self) -> bool:
        return False

    def onecmd(self, line: str) -> bool:
        # A statement may begin with a word that `Cmd` knows, such as help.
        return self.default(line) if line else self.emptyline()


def _print(rows: pa.Table, form: str) -> None:
    if form == "json":
        print(json.dumps(rows.to_pylist(), indent=1, default=str))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(rows.column_names)
        writer.writerows([to_text(value) for value in row.values()] for row in rows.to_pylist())
    else:
        table = Table(*map(escape, rows.column_names))
        for row in rows.slice(0, SHOWN_ROWS).to_pylist():
            table.add_row(*(Text("" if value is None else str(to_text(value))) for value in row.values()))
        Console().print(table)
        if rows.num_rows > SHOWN_ROWS:
            print(f"{SHOWN_ROWS} of {rows.num_rows:,} rows; FORMAT=csv and FORMAT=json print all.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.sql", allow_abbrev=False)
    parser.add_argument("query", nargs="?", default="", metavar="QUERY", help="SQL, or a query's name")
    parser.add_argument("--format", type=_format, default="table", help="table, csv or json (%(default)s)")
    parser.add_argument("--aws-port", type=read_port, default=5555, help="port of local AWS (%(default)s)")
    return parser


def _format(text: str) -> str:
    if text not in FORMATS:
        raise UserError(f"FORMAT is {text!r}, but it must be one of {', '.join(FORMATS)}.")
    return text


if __name__ == "__main__":
    sys.exit(main())
