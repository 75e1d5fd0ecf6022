"""Reads the table of S3A's requests in docs/s3a.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from include.commands.environment import ROOT

DOCS = ROOT / "docs" / "s3a.md"


@dataclass(frozen=True)
class Row:
    """A row of the table: an operation, the pattern of its keys or prefixes, and the required right.

    In a pattern, `*` is within a folder, `**` goes across folders.
    """

    operation: str
    pattern: str
    right: str

    def covers(self, operation: str, key: str) -> bool:
        pattern = re.escape(self.pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
        return operation == self.operation and re.fullmatch(pattern, key) is not None


def rows() -> list[Row]:
    """Return the rows of the table."""
    found = re.findall(
        r"^\|[^|]*\| `(\w+)` \| `([^`]+)` \|.*\| `(s3:\w+)` \|$", DOCS.read_text(), re.MULTILINE
    )
    return [Row(*row) for row in found]


def undocumented(requests: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return operation and key (or prefix) of the requests that are missing in the table."""
    table = rows()
    asked = {(request["operation"], key) for request in requests for key in request["keys"]}
    return {found for found in asked if not any(row.covers(*found) for row in table)}
