"""Files with listens of users who were forgotten, and whose later files are refused (include/forget)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pyarrow as pa
from pyarrow import compute as pc

from helpers.contract.records import FileOutcome, RefusedUsers

# Rows with these characters in an id are rejected, but their files keep them.
_AROUND_IDS = " \t\r\n\0\ufeff"


def trimmed(user_id: str) -> str:
    """Return the id by which a user is known, whatever a file has around it."""
    return user_id.strip().strip(_AROUND_IDS)


def digest_of(user_id: str, salt: str) -> str:
    """Return the digest by which a user is refused."""
    return hashlib.sha256(f"{salt}{trimmed(user_id)}".encode()).hexdigest()


def without_refused(
    outcomes: list[FileOutcome], records: Iterable[pa.Table], refused: RefusedUsers
) -> list[FileOutcome]:
    """Quarantine each accepted file that has a row of a refused user.

    Records that cannot be split into columns are not searched.

    Args:
        outcomes: the outcomes of the files.
        records: combined records, with the columns of `COMBINED_SCHEMA`.
        refused: the users.

    Returns:
        The outcomes in the same order; the reason gives the line of the first such row, and no id.
    """
    digests = frozenset(refused["sha256"])
    rows: dict[int, int] = {}
    first_lines: dict[int, int] = {}
    for table in records:
        ids = table["user_id"]
        found = [
            user_id
            for user_id in ids.unique().to_pylist()
            if user_id is not None and digest_of(user_id, refused["salt"]) in digests
        ]
        for record in table.filter(pc.is_in(ids, pa.array(found, pa.string()))).to_pylist():
            file = record["file"]
            rows[file] = rows.get(file, 0) + 1
            first_lines.setdefault(file, record["row"] + record["line_offset"])
    return [
        _quarantined(outcome, rows[outcome["index"]], first_lines[outcome["index"]])
        if outcome["index"] in rows and outcome["disposition"] == "archive"
        else outcome
        for outcome in outcomes
    ]


def _quarantined(outcome: FileOutcome, rows: int, first_line: int) -> FileOutcome:
    outcome = outcome.copy()
    # Nothing of the file counts as heard.
    outcome.pop("newest_listen", None)
    return outcome | {
        "disposition": "quarantine",
        "valid": 0,
        "rejected": outcome["rows"],
        "reason": f"{rows:,} of {outcome['rows']:,} rows belong to users who were forgotten, the first "
        f"in line {first_line:,}: redrive the file without their lines, then forget these users again, which "
        "cleans the copy in quarantine",
    }
