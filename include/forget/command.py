"""Shows what holds the users, asks, and forgets them: the same on AWS and on local AWS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.contract.wording import counted
from include.forget.content import UserIds
from include.forget.erasure import (
    Eraser,
    ForgetError,
    Found,
    Places,
    days_to_reprocess,
    read_unfinished,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

REMAINS = (
    "What remains: backups of the KPI table for up to 35 days, which hold counts and no user id; logs and "
    "messages that quoted a rejected row; files that make redrive fetched. docs/privacy.md says more."
)
_SHOWN = 5


def read_ids(given: Sequence[str], file: Path | None) -> list[str]:
    """Return the ids from arguments, separated by commas, and from the lines of a file.

    Raises:
        ForgetError: the file cannot be read, or there is no id in it.
    """
    ids = [user_id for text in given for user_id in text.split(",")]
    if file:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise ForgetError(f"The file {file} cannot be read as UTF-8 text: {error}") from error
        if not any(line.strip() for line in lines):
            raise ForgetError(f"The file {file} names no user: write one id per line.")
        ids += lines
    return list(dict.fromkeys(filter(None, map(str.strip, ids))))


def forget(
    s3: S3Client,
    dynamodb: DynamoDBClient,
    places: Places,
    ids: Sequence[str],
    agrees: Callable[[str], bool],
    say: Callable[[str], None],
    refuse: bool = False,
) -> list[str]:
    """Forget the users, and first finish an erasure that was interrupted; return the days to reprocess.

    Args:
        s3: the client of S3.
        dynamodb: the client of DynamoDB.
        places: the pipeline's buckets and its table.
        ids: the users; may be empty if an erasure was interrupted.
        agrees: asks the question that it is given.
        say: prints a line.
        refuse: whether later files with listens of these users are refused; without ids, of those whose
            erasure was interrupted.

    Raises:
        ForgetError: no user is named, the user does not agree, or S3 refuses something.
    """
    to_refuse = ids
    interrupted = read_unfinished(s3, places)
    if interrupted:
        say(
            f"An erasure of {counted(interrupted['users'], 'user')} that began at "
            f"{interrupted['started_at']} was interrupted; it is finished now."
        )
        ids = [*ids, *interrupted.get("user_ids", [])]
    users = UserIds(ids)
    if not users.ids:
        raise ForgetError(
            "Name the users to forget: USER=id or USER=id,id, or FILE=ids.txt with one id per line."
        )
    eraser = Eraser(s3, dynamodb, places, users)
    named = counted(len(users.ids), "user")
    say(f"Searching every version in {places.archive} and {places.source} for {named}.")
    found = eraser.search()
    for line in _describe(found, eraser, places):
        say(line)
    is_needed = bool(found.findings or interrupted)
    if is_needed and not agrees(f"Remove {named} from these versions, for good?"):
        raise ForgetError("Nothing was removed: the answer was not yes. --yes answers it.")
    if refuse:
        # Before the erasure is recorded: a call that finishes it need not know that this was asked for.
        refused = UserIds(to_refuse or ids)
        eraser.refuse_later_files(refused)
        say(f"From now on, a file with a row of {counted(len(refused.ids), 'user')} goes to quarantine.")
    if is_needed:
        record = eraser.erase(found)
        erased = sum(record["days"].values())
        say(f"Removed: {counted(record['users'], 'user')}, {erased:,} listens of {len(record['days'])} days.")
    else:
        say(
            "No copy that the pipeline keeps holds these users. Ids are compared exactly: check the spelling."
        )
    eraser.delete_old_records()
    for line in _remaining(found):
        say(line)
    return days_to_reprocess(s3, dynamodb, places)


def _describe(found: Found, eraser: Eraser, places: Places) -> list[str]:
    versions: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    for finding in found.findings:
        place = f"s3://{finding.version.bucket}/{finding.version.key.split('/')[0]}/"
        versions[place] += 1
        removed[place] += finding.removed
    lines = [
        f"  {place}: {versions[place]:,} versions, {removed[place]:,} rows or samples"
        for place in sorted(versions)
    ]
    if days := found.days():
        lines.append(
            "  listens in the history: " + ", ".join(f"{day} {n:,}" for day, n in sorted(days.items()))
        )
    if found.findings:
        lines.append(
            f"  s3://{places.intermediate}/: runs/ and snapshots/ will be emptied; they derive from the rest"
        )
        lines += [
            f"  Run {run_key} has not ended. If it is in progress, wait for its end: it will store nothing "
            "after this, and a new run must take its files."
            for run_key in eraser.unfinished_runs()
        ]
    return lines


def _remaining(found: Found) -> list[str]:
    lines = []
    for version in found.catalogs:
        lines.append(
            f"{version.address} names these users. It belongs to its sender: upload the catalog without "
            "them, then give this command again, which deletes the old versions."
        )
    if found.unsearchable:
        lines.append(
            f"{len(found.unsearchable)} objects could not be searched; look into them or delete them:"
        )
        lines += [
            f"  {version.address}: {reason}" for version, reason in islice(found.unsearchable.items(), _SHOWN)
        ]
        if len(found.unsearchable) > _SHOWN:
            lines.append(f"  and {len(found.unsearchable) - _SHOWN} more")
    return [*lines, REMAINS]
