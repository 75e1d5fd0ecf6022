"""The claims that only AWS can prove, read from their list in `docs/unproven.md`."""

from __future__ import annotations

import re

from include.commands.environment import ROOT

DOCUMENT = ROOT / "docs" / "unproven.md"
_ROW = re.compile(r"^\| (?P<claim>[^|]+) \| (?P<why>[^|]+) \| `(?P<step>[a-z-]+)` \|$", re.MULTILINE)


def claims_by_step() -> dict[str, list[str]]:
    """Return the claims that each step of the smoke test proves, in the document's order."""
    claims: dict[str, list[str]] = {}
    for row in _ROW.finditer(DOCUMENT.read_text()):
        claims.setdefault(row["step"], []).append(row["claim"].replace("`", ""))
    return claims
