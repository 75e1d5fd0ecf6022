from __future__ import annotations

import pyarrow as pa
import pytest

from helpers.contract.records import FileOutcome, RefusedUsers
from helpers.extract_and_combine_streams import COMBINED_SCHEMA
from helpers.ingest.refused_users import digest_of, without_refused

REFUSED = RefusedUsers(salt="s", sha256=[digest_of(user_id, "s") for user_id in ("zoe", "Bob 1")])


def outcome_of(index: int, disposition: str = "archive") -> FileOutcome:
    return FileOutcome(
        index=index,
        rows=4,
        valid=3,
        rejected=1,
        rejected_by_reason={"empty track_id": 1},
        extra_columns=[],
        lines=None,
        disposition=disposition,
        reason="it was empty" if disposition == "quarantine" else None,
    )


def records(*rows: tuple[int, int, str | None]) -> pa.Table:
    """Rows of file, row and user id; each record is one line below its row."""
    blank = dict.fromkeys(COMBINED_SCHEMA.names)
    return pa.Table.from_pylist(
        [blank | {"file": file, "row": row, "line_offset": 1, "user_id": user} for file, row, user in rows],
        schema=COMBINED_SCHEMA,
    )


def test_file_with_a_refused_user_goes_to_quarantine_and_another_does_not() -> None:
    tables = [records((0, 1, "ann"), (1, 1, "ann")), records((1, 2, " zoe "), (1, 3, "Bob 1"), (0, 2, "Zoe"))]

    kept, refused = without_refused([outcome_of(0), outcome_of(1)], tables, REFUSED)

    assert kept == outcome_of(0)
    assert (refused["disposition"], refused["valid"], refused["rejected"]) == ("quarantine", 0, 4)
    assert refused["reason"] == (
        "2 of 4 rows belong to users who were forgotten, the first in line 3: redrive the file without "
        "their lines, then forget these users again, which cleans the copy in quarantine"
    )


@pytest.mark.parametrize("user_id", [None, "", "zo", "zoe2", "ZOE"])
def test_other_ids_are_no_reason_to_refuse(user_id: str | None) -> None:
    assert without_refused([outcome_of(0)], [records((0, 1, user_id))], REFUSED) == [outcome_of(0)]


def test_file_that_was_rejected_before_keeps_its_reason() -> None:
    rejected = outcome_of(0, "quarantine")

    assert without_refused([rejected], [records((0, 1, "zoe"))], REFUSED) == [rejected]


def test_refused_file_has_no_newest_listen() -> None:
    outcome = outcome_of(0)
    outcome["newest_listen"] = "2024-06-25T10:00:00+00:00"

    [refused] = without_refused([outcome], [records((0, 1, "zoe"))], REFUSED)

    assert "newest_listen" not in refused
    assert "newest_listen" in outcome


@pytest.mark.parametrize("around", [" {}\t", "\ufeff{}", "{}\0"])
def test_digest_depends_on_the_salt_and_not_on_what_is_around_the_id(around: str) -> None:
    assert digest_of(around.format("zoe"), "s") == digest_of("zoe", "s") != digest_of("zoe", "another")
