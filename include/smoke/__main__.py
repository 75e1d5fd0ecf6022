"""Command line: `python -m include.smoke`; the package describes what it does."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from include.commands.errors import UserError
from include.commands.terminal import open_console
from include.findings import failed
from include.smoke.account import Account
from include.smoke.claims import claims_by_step
from include.smoke.names import Names
from include.smoke.removal import Leftover, Removal, find_existing, list_log_groups
from include.smoke.steps import ESSENTIAL, FURTHER, NotHereError, StepFailedError, Steps

COST = (
    "About 0.10 US dollars: two Glue runs of two workers for a minute or two each; all else is below a cent. "
    "At most 0.90, since a run that hangs is stopped after 30 minutes. docs/costs.md has the prices."
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _UnbreakableOutput:
    """Output that may disappear with its terminal or pipe; the removal must continue nevertheless."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Interrupted(BaseException):
    """A signal asked the command to end; it must first remove what it created."""


class _Interrupts:
    """Turns the first signal into an exception; once the removal has begun, it ignores signals."""

    is_removing = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_removing:
            # The console cannot be used, because it may be in the middle of a line.
            with suppress(OSError):
                os.write(2, b"Still removing everything that was created; please wait.\n")
            return
        # Set here, so a second signal cannot arrive between this one and the removal.
        self.is_removing = True
        raise _Interrupted


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if all was shown and removed, 130 if interrupted, otherwise 1."""
    options = _parser().parse_args(argv)
    console = open_console()
    console.file = _UnbreakableOutput(console.file)  # type: ignore[assignment]
    interrupts = _Interrupts()
    with interrupts.installed():
        try:
            names = Names(options.remove) if options.remove else Names.new()
            account = Account(names)
            if options.remove:
                return _remove_earlier(account, options.yes, interrupts, console)
            groups_before = _examine_account(account, options.yes, console)
        except (UserError, ValueError) as error:
            console.print(f"Error: {error}", markup=False, soft_wrap=True)
            return 1
        except (BotoCoreError, ClientError) as error:
            finding = failed("AWS", error)
            console.print(f"Error: {finding.what} -> {finding.remedy}", markup=False, soft_wrap=True)
            console.print("Nothing was created.")
            return 1
        except _Interrupted:
            console.print("\nNothing was created or removed.")
            return 130
        return _smoke(account, groups_before, interrupts, console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m include.smoke",
        description="Deploy the stack under a random suffix, run the DAG, compare, remove everything.",
        allow_abbrev=False,
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--remove", metavar="SUFFIX", help="only remove what an earlier smoke test could not remove"
    )
    return parser


def _examine_account(account: Account, yes: bool, console: Console) -> frozenset[str] | None:
    """Show what would be created, and where, and ask; return the existing log groups, if visible.

    Raises:
        UserError: one of the names is taken, or the user does not agree.
    """
    if taken := find_existing(account):
        raise UserError(
            f"There is already: {', '.join(taken)}. Nothing was created or removed. Run it again for another "
            "suffix."
        )
    names = account.names
    where = f"account {account.id}, region {account.region}, as {account.arn}"
    for line in (
        where + ("" if account.is_aws else ": a stand-in, not AWS"),
        "This will be created there, and removed at the end, also after a failure or Ctrl-C:",
        f"  stack          {names.stack}",
        *(f"  bucket         {bucket}" for bucket in names.buckets),
        f"  table          {names.table}",
        f"  roles          {names.airflow_role}, {names.glue_role}",
        f"  topic, alarm   {names.topic}, {names.alarm}",
        f"  Glue job       {names.job}",
        COST,
        "It takes about 20 minutes on AWS.",
        f"Should it be killed before it has removed everything: make smoke REMOVE={names.suffix}",
    ):
        console.print(line, markup=False, soft_wrap=True)
    _ask(f"Create this in account {account.id}?", yes, console)
    try:
        return list_log_groups(account)
    except ClientError:
        return None


def _ask(question: str, yes: bool, console: Console) -> None:
    if yes:
        return
    console.print(f"{question} [y/N] ", end="", markup=False)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UserError("Nothing was created or removed: the answer was not yes. --yes answers it.")


def _smoke(
    account: Account, groups_before: frozenset[str] | None, interrupts: _Interrupts, console: Console
) -> int:
    steps = Steps(account, secrets.token_hex(8), console)
    passed: list[str] = []
    problems: list[str] = []
    is_interrupted = False
    # Nothing may happen between the first call that creates something and the removal.
    try:
        try:
            _prove(steps, passed, problems, console)
        except Exception:
            problems.append("an unforeseen error")
            console.print(traceback.format_exc(), markup=False, soft_wrap=True)
        interrupts.is_removing = True
    except _Interrupted:
        is_interrupted = True
        console.print("Interrupted.")
    console.print("\nremoving everything that was created")
    leftovers = Removal(account, groups_before, _printer(console)).remove()
    _conclude(account, passed, problems, leftovers, console)
    return 130 if is_interrupted else int(bool(problems or leftovers))


def _prove(steps: Steps, passed: list[str], problems: list[str], console: Console) -> None:
    for name, step in ESSENTIAL.items():
        if not _run(name, partial(step, steps), passed, problems, console):
            return
    for name, step in FURTHER.items():
        _run(name, partial(step, steps), passed, problems, console)


def _run(
    name: str, step: Callable[[], Any], passed: list[str], problems: list[str], console: Console
) -> bool:
    """Run a step and print its result; return False if it failed."""
    console.print(f"\n{name}")
    started = time.monotonic()
    try:
        step()
    except NotHereError as error:
        console.print(f"  not here: {error}", markup=False, soft_wrap=True)
        return True
    except (StepFailedError, BotoCoreError, ClientError) as error:
        lines = error.args if isinstance(error, StepFailedError) else [str(error)]
        console.print(f"  failed: {lines[0]}", markup=False, soft_wrap=True)
        for line in lines[1:]:
            console.print(f"    {line}", markup=False, soft_wrap=True)
        problems.append(name)
        return False
    console.print(f"  passed{time.monotonic() - started:68.1f} s")
    passed.append(name)
    return True


def _remove_earlier(account: Account, yes: bool, interrupts: _Interrupts, console: Console) -> int:
    found = find_existing(account)
    console.print(
        f"Account {account.id}, region {account.region}, as {account.arn}", markup=False, soft_wrap=True
    )
    for what in found:
        console.print(f"  {what}", markup=False, soft_wrap=True)
    if not found:
        console.print(f"Nothing carries the suffix {account.names.suffix}.")
        return 0
    _ask(f"Remove this from account {account.id}?", yes, console)
    interrupts.is_removing = True
    leftovers = Removal(account, None, _printer(console)).remove()
    _conclude(account, [], [], leftovers, console)
    return int(bool(leftovers))


def _conclude(
    account: Account,
    passed: Sequence[str],
    problems: Sequence[str],
    leftovers: Sequence[Leftover],
    console: Console,
) -> None:
    claims = [(step, claim) for step in passed for claim in claims_by_step().get(step, [])]
    if claims:
        console.print(
            "\nProven on AWS:"
            if account.is_aws
            else "\nThis was a stand-in, so nothing about AWS is proven. There, the same steps prove:"
        )
    for step, claim in claims:
        console.print(f"  {step:<12}  {claim}", markup=False, soft_wrap=True)
    if leftovers:
        console.print("\nNot removed:")
        for leftover in leftovers:
            console.print(f"  {leftover.what}: {leftover.why}", markup=False, soft_wrap=True)
        console.print(
            "With the rights for it, this removes it: "
            f"make smoke REMOVE={account.names.suffix} (without make: "
            f"python -m include.smoke --remove {account.names.suffix})",
            markup=False,
            soft_wrap=True,
        )
    else:
        console.print(
            f"\nRemoved: nothing is left that carries the suffix {account.names.suffix}, but what AWS itself "
            "keeps at no cost: the table's metric for 15 months, the record of the stack for 90 days.",
            soft_wrap=True,
        )
    if problems:
        console.print(f"Failed: {', '.join(problems)}", markup=False)


def _printer(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(f"  {line}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
