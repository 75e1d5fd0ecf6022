"""The wording of why stream files and their rows were rejected, in one home for all reports of a run.

Validation puts `rejected_rows` into a file's reason. Terminal, redrive, note, messages and dashboard use the
lines of `list_rejections`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from helpers.contract.records import FileCounts, RejectedExample
from helpers.contract.wording import counted, shortened

SHOWN_FILES = 5
SHOWN_CHARACTERS = 61


class FileRejectedError(ValueError):
    """A CSV file is unusable as a whole; the message gives the reason."""


def make_example(line: int, value: str | None, remedy: str, looks_like: str | None = None) -> RejectedExample:
    """Return an example whose value is cut to a bounded length."""
    shown = value and shortened(value, SHOWN_CHARACTERS)
    return RejectedExample(line=line, value=shown, looks_like=looks_like, remedy=remedy)


def rejections(files: Iterable[tuple[str, FileCounts | Mapping[str, Any]]]) -> str:
    """Return `list_rejections` as one text for a message; empty if nothing was rejected."""
    return "; ".join(list_rejections(files))


def list_rejections(files: Iterable[tuple[str, FileCounts | Mapping[str, Any]]]) -> list[str]:
    """Return a line with the reason for each file that was rejected or has rejected rows.

    Whole files come first, then files by rejected rows. After `SHOWN_FILES` lines, one line counts the rest.

    Args:
        files: stream files by key, as a run's outcomes, its report or a `.reason.json` describe them.
    """
    broken = [(key, file) for key, file in files if why_rejected(file)]
    broken.sort(key=lambda entry: (entry[1]["disposition"] == "archive", -entry[1]["rejected"]))
    lines = [f"{key}: {why_rejected(file)}" for key, file in broken[:SHOWN_FILES]]
    return lines + [f"and {counted(len(broken) - SHOWN_FILES, 'more file')}"] * (len(broken) > SHOWN_FILES)


def why_rejected(file: FileCounts | Mapping[str, Any]) -> str:
    """Return why the file or some of its rows were rejected; empty if all rows are valid."""
    return file["reason"] or rejected_rows(file["rejected_by_reason"], file.get("rejected_examples", {}))


def rejected_rows(by_reason: Mapping[str, int], examples: Mapping[str, RejectedExample]) -> str:
    """Return each reason with its number of rows, an example and the remedy, the most common first."""
    ordered = sorted(by_reason.items(), key=lambda entry: (-entry[1], entry[0]))
    return "; ".join(_reason(reason, rows, examples.get(reason)) for reason, rows in ordered)


def _reason(reason: str, rows: int, example: RejectedExample | None) -> str:
    text = f"{reason} in {counted(rows, 'row')}"
    if example is None:
        return text
    value = f"such as {example['value']!r}" if example["value"] else "the first"
    looks = f", which looks like {example['looks_like']}" if example["looks_like"] else ""
    return f"{text}, {value} in line {example['line']:,}{looks}: {example['remedy']}"
