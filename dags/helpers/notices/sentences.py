"""Sentences about delivered files for notes, logs and messages."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.contract.wording import counted

SHOWN_KEYS = 3


def ignored_sentence(keys: Sequence[str]) -> str:
    """Return a sentence about objects under `streams/` that no run takes; empty if there are none.

    Markers that S3's console creates for folders are left out.
    """
    ignored = [key for key in keys if not key.endswith("/")]
    if not ignored:
        return ""
    return f"Ignored, since they end neither in .csv nor in .csv.gz: {name_some(ignored)}."


def waiting_sentence(keys: Sequence[str]) -> str:
    """Return a sentence about stream files that wait for another run; empty if there are none."""
    if not keys:
        return ""
    one = len(keys) == 1
    return (
        f"{counted(len(keys), 'new file')} wait{'s' * one} in streams/ ({name_some(keys)}), which "
        "this run did not take: trigger a new run, or leave it to the next one."
    )


def name_some(keys: Sequence[str]) -> str:
    """Return the first keys as inline code, and the number of the others."""
    more = len(keys) - SHOWN_KEYS
    return ", ".join(map(as_code, keys[:SHOWN_KEYS])) + (f" and {more:,} more" if more > 0 else "")


def as_code(text: str) -> str:
    """Return the text as inline code of Markdown, since names of files could contain markup."""
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return f"`{printable.replace('`', chr(39))}`"
