"""Files with listens of users who were forgotten, and whose later files are refused (include/forget)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pyarrow as pa
from pyarrow import compute as pc

from helpers.contract.records import FileOutcome, RefusedUsers


def digest_of(user_id: str, salt: str) -> str:
    """Return the digest by which a user is refused; white space around the id is ignored."""
    return hashlib.sha256(f"{salt}{user_id.strip()}".encode()).hexdigest()


def without_refused(
    outcomes: list[FileOutcome], records: Iterable[pa.Table], refused: RefusedUsers
) -> list[FileOutcome]:
    """Quarantine each accepted file that has a row of a refused user.

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
    return outcome | {
        "disposition": "quarantine",
        "valid": 0,
        "rejected": outcome["rows"],
        "reason": f"{rows:,} of {outcome['rows']:,} rows are of users who were forgotten, the first in line "
        f"{first_line:,}: redrive the file without their lines, then forget them again, which takes them out "
        "of the copy in quarantine",
    }
