"""Command line: `python -m include.commands`, the commands that the Makefile calls."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from include.commands.command_settings import refuse_what_has_no_effect
from include.commands.dashboard import dashboard
from include.commands.environment import read_port
from include.commands.errors import UserError
from include.commands.forget import forget
from include.commands.local_aws import LocalAws
from include.commands.redrive import redrive
from include.commands.replay import replay
from include.commands.reprocess import reprocess
from include.commands.run import run
from include.commands.scheduler import down, up
from include.commands.terminal import open_console


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 with a message that gives the remedy."""
    console = open_console()
    try:
        arguments = _parser().parse_args(argv)
        if arguments.command != "down":
            refuse_what_has_no_effect(arguments.command, os.environ)
        return _call(arguments, console)
    except UserError as error:
        Console(stderr=True, highlight=False).print(
            Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True
        )
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted. Background services keep running; make down stops them.")
        return 130


def _call(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.command == "down":
        return down(console)
    aws = LocalAws(arguments.aws_port, console)
    if arguments.command == "up":
        return up(aws, arguments.web_port, arguments.dashboard_port)
    if arguments.command == "dashboard":
        return dashboard(aws, arguments.dashboard_port)
    if arguments.command == "run":
        return run(_path(arguments.data), aws, arguments.accept_checks)
    if arguments.command == "reprocess":
        return reprocess(arguments.dates, _path(arguments.data), aws, arguments.accept_checks)
    if arguments.command == "redrive":
        return redrive(arguments.run_key, aws)
    if arguments.command == "replay":
        return replay(arguments.dates, arguments.run_key, aws, arguments.yes)
    return forget(arguments.users, _path(arguments.file), aws, arguments.yes, arguments.refuse)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.commands", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the pipeline once to its end")
    run.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="folder with streams/, songs/ and users/; sample data without it",
    )
    up = commands.add_parser("up", help="start the pipeline under a scheduler, with both UIs")
    commands.add_parser("down", help="stop everything that run, up and dashboard started")
    dashboard = commands.add_parser("dashboard", help="start the dashboard on local AWS")
    reprocess = commands.add_parser("reprocess", help="reprocess days with the current catalogs")
    reprocess.add_argument("dates", metavar="DATES", help="days such as 2024-06-25,2024-07-01..2024-07-31")
    reprocess.add_argument(
        "data", nargs="?", metavar="DATA", help="folder with corrected songs/ or users/, uploaded first"
    )
    redrive = commands.add_parser("redrive", help="correct and redeliver the quarantined files of a run")
    redrive.add_argument(
        "run_key", nargs="?", default="", metavar="RUN", help="run key; without it those that can be given"
    )
    replay = commands.add_parser("replay", help="put archived files back into the source")
    replay.add_argument("dates", nargs="?", default="", metavar="DATES", help="listen days, as for reprocess")
    replay.add_argument("run_key", nargs="?", default="", metavar="RUN", help="run key, instead of days")
    forget = commands.add_parser("forget", help="remove users from every copy, and reprocess their days")
    forget.add_argument("users", nargs="?", default="", metavar="USER", help="user ids such as 123,456")
    forget.add_argument("file", nargs="?", metavar="FILE", help="file with further ids, one per line")
    forget.add_argument("--refuse", action="store_true", help="refuse later files that bring them back")
    for command in (replay, forget):
        command.add_argument("--yes", action="store_true", help="do not ask")
    for command in (run, reprocess):
        command.add_argument(
            "--accept-checks", action="store_true", help="accept the data even if checks fail"
        )
    for command in (run, up, reprocess, redrive, replay, forget, dashboard):
        command.add_argument(
            "--aws-port", type=read_port, default=5555, help="port of local AWS (%(default)s)"
        )
    up.add_argument("--web-port", type=read_port, default=8083, help="port of Airflow's UI (%(default)s)")
    for command in (up, dashboard):
        command.add_argument(
            "--dashboard-port", type=read_port, default=8501, help="port of the dashboard (%(default)s)"
        )
    return parser


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


if __name__ == "__main__":
    sys.exit(main())
