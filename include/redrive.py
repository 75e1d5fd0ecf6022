"""Bring quarantined data back: fetch the files and rows that a run rejected, upload the corrected ones.

``python -m include.redrive RUN_KEY [FOLDER]`` with the pipeline's variables and AWS credentials in the
environment, or ``make redrive RUN=RUN_KEY`` for local AWS. Without a run key both list the runs that rejected
something. The first call fetches the rejected files and rows into the folder. A second call puts back the
files that were corrected there. A further call changes nothing: the newest version in the source records the
last correction, and a note beside the quarantined object records it permanently.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from helpers.contract.keys import QUARANTINE_PREFIX, rejected_rows_reasons_key
from helpers.contract.names import is_csv, split_suffix
from helpers.contract.rejections import list_rejections, why_rejected

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

REASON_SUFFIX = ".reason.json"
REDRIVEN_SUFFIX = ".redriven.json"
# File systems take 255 bytes; boto3 adds nine characters to the name while it downloads.
MAX_FILE_NAME_BYTES = 240
SHOWN_RUNS = 10

HOW_TO_CORRECT = (
    "Correct the files there without renaming them: fix headers; in rejected rows fix or fill in user_id, "
    "track_id and listen_time; delete rows that cannot be fixed. Then run the same command again."
)


class RedriveError(Exception):
    """The request cannot be carried out; the message gives the reason and the remedy."""


class Action(Enum):
    """The outcome for a file."""

    FETCHED = auto()
    LEFT = auto()
    PUT_BACK = auto()
    PUT_BACK_BEFORE = auto()
    IGNORED = auto()


@dataclass(frozen=True)
class Outcome:
    """The action on one file, and its description."""

    action: Action
    text: str


@dataclass(frozen=True)
class Quarantined:
    """One rejected file, or the rejected rows of one part of a run.

    Attributes:
        key: the object in the archive bucket.
        name: its path below the run's quarantine, and below the folder that it is fetched into.
        target_key: the object of its correction in the source bucket. It is named after run and file, not
            after the content, so a second correction replaces a first one that no run has taken yet.
        reasons: why it is in quarantine, by line.
    """

    key: str
    name: str
    target_key: str
    reasons: list[str]


def list_runs(s3: S3Client, archive_bucket: str) -> dict[str, tuple[int, int]]:
    """Return the number of quarantined objects and of those that were put back, by run key."""
    keys = set(_list_keys(s3, archive_bucket, QUARANTINE_PREFIX))
    runs: dict[str, tuple[int, int]] = {}
    for key in sorted(keys):
        if is_csv(key):
            run_key = key.split("/")[1]
            quarantined, put_back = runs.get(run_key, (0, 0))
            runs[run_key] = quarantined + 1, put_back + (f"{key}{REDRIVEN_SUFFIX}" in keys)
    return runs


def list_quarantined(s3: S3Client, archive_bucket: str, run_key: str) -> list[Quarantined]:
    """List the files and rows that the run rejected.

    Raises:
        RedriveError: the run rejected nothing or does not exist.
    """
    runs = list_runs(s3, archive_bucket)
    if run_key not in runs:
        known = "".join(f"\n  {known}" for known in list(runs)[-SHOWN_RUNS:]) or " none"
        raise RedriveError(
            f"Nothing of a run {run_key!r} is in s3://{archive_bucket}/{QUARANTINE_PREFIX}: it rejected "
            f"nothing, or the run key is wrong. Runs that rejected something:{known}"
        )
    prefix = f"{QUARANTINE_PREFIX}{run_key}/"
    keys = _list_keys(s3, archive_bucket, prefix)
    rows = _why_rows(s3, archive_bucket, run_key)
    found, present = [], set(keys)
    for key in keys:
        if is_csv(key):
            name = key.removeprefix(prefix)
            # Without this, a correction that is rejected again would get a longer name each time.
            target_key = f"streams/redriven/{run_key}/{re.sub('^redriven/[^/]+/', '', name)}"
            reason = _reason(s3, archive_bucket, key, present)
            found.append(Quarantined(key, name, target_key, [reason] if reason else rows))
    return found


def redrive(
    s3: S3Client, archive_bucket: str, source_bucket: str, run_key: str, folder: Path
) -> Iterator[Outcome]:
    """Fetch the files that are not in the folder yet and put back those that were corrected there.

    Raises:
        RedriveError: the run has nothing in quarantine.
    """
    quarantined = list_quarantined(s3, archive_bucket, run_key)
    for item in quarantined:
        path = folder / local_name(item.name)
        # The sender of the file chose the name, which may contain anything.
        if Path(item.name).is_absolute() or ".." in Path(item.name).parts:
            where = f"s3://{archive_bucket}/{item.key}"
            text = f"left in quarantine: the name leads out of the folder; correct a copy of {where} by hand"
            yield _outcome(item, Action.LEFT, text)
        elif path.is_file():
            yield _put_back_if_corrected(s3, archive_bucket, source_bucket, item, path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(archive_bucket, item.key, str(path))
            yield _outcome(item, Action.FETCHED, *item.reasons)
    expected = {folder / local_name(item.name) for item in quarantined}
    for path in sorted(folder.rglob("*")):
        if is_csv(path.name) and path not in expected:
            text = "ignored; save a correction under the name of the file that it corrects"
            yield Outcome(Action.IGNORED, _printable(f"{path.relative_to(folder)}: {text}"))


def local_name(name: str) -> str:
    """Return the path for a name in quarantine, with each part short enough for a file system."""
    return "/".join(map(_short_enough, name.split("/")))


def _short_enough(part: str) -> str:
    if len(part.encode()) <= MAX_FILE_NAME_BYTES:
        return part
    ending = f"~{hashlib.sha256(part.encode()).hexdigest()[:16]}{split_suffix(part)[1]}"
    return part.encode()[: MAX_FILE_NAME_BYTES - len(ending)].decode(errors="ignore") + ending


def _put_back_if_corrected(
    s3: S3Client, archive_bucket: str, source_bucket: str, item: Quarantined, path: Path
) -> Outcome:
    digest = _sha256(path.open("rb"))
    if digest == _sha256(s3.get_object(Bucket=archive_bucket, Key=item.key)["Body"]):
        return _outcome(item, Action.LEFT, "left in quarantine: not corrected yet", *item.reasons)
    note_key = f"{item.key}{REDRIVEN_SUFFIX}"
    noted = _read_json(s3, archive_bucket, note_key).get("sha256")
    # The source has precedence: a call that stops between the two writes leaves an older note or none.
    last = _last_put_back(s3, source_bucket, item.target_key) or noted
    if last != digest:
        metadata = {"sha256": digest}
        s3.upload_file(str(path), source_bucket, item.target_key, ExtraArgs={"Metadata": metadata})
    if noted != digest:
        note = json.dumps({"sha256": digest, "key": item.target_key}, indent=1, ensure_ascii=False)
        s3.put_object(Bucket=archive_bucket, Key=note_key, Body=note.encode(), ContentType="application/json")
    target = f"s3://{source_bucket}/{item.target_key}"
    if last == digest:
        return _outcome(item, Action.PUT_BACK_BEFORE, f"was put back before as {target}")
    if still := _why_rejected_again(path):
        return _outcome(item, Action.PUT_BACK, f"put back as {target}, but a run will reject:", still)
    return _outcome(item, Action.PUT_BACK, f"put back as {target}")


def _why_rejected_again(path: Path) -> str:
    """Return why the corrected file, or rows of it, will be rejected by a run; empty if all is valid."""
    # Only here, because pandas takes a second to import.
    from helpers.extract_and_combine_streams import COMBINED_SCHEMA, combine_file
    from helpers.ingest.parquet_sink import ParquetSink
    from helpers.ingest.row_rules import VALID_SCHEMA
    from helpers.validate_csv_files import AHEAD, REJECTED_SCHEMA, split_records

    with (
        path.open("rb") as stream,
        ParquetSink(COMBINED_SCHEMA) as combined,
        ParquetSink(VALID_SCHEMA) as valid,
        ParquetSink(REJECTED_SCHEMA) as rejected,
    ):
        outcome = combine_file(stream, 0, combined)
        combined.close()
        latest = datetime.now(UTC) + AHEAD
        (outcome,) = split_records(combined.path, [outcome], 1, latest, valid, rejected)
    return why_rejected(outcome)


def _last_put_back(s3: S3Client, source_bucket: str, key: str) -> str | None:
    """Return the SHA-256 of the key's newest version, even if a run has taken and deleted it since."""
    listed = s3.list_object_versions(Bucket=source_bucket, Prefix=key).get("Versions", [])
    newest = next((version["VersionId"] for version in listed if version["Key"] == key), None)
    if newest is None:
        return None
    head = s3.head_object(Bucket=source_bucket, Key=key, VersionId=newest)
    return head["Metadata"].get("sha256")


def _list_keys(s3: S3Client, bucket: str, prefix: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def _reason(s3: S3Client, bucket: str, key: str, keys: Collection[str]) -> str | None:
    """Return why a whole file is in quarantine; None for the rejected rows of other files."""
    if f"{key}{REASON_SUFFIX}" in keys:
        return str(_read_json(s3, bucket, f"{key}{REASON_SUFFIX}").get("reason"))
    return None


def _why_rows(s3: S3Client, bucket: str, run_key: str) -> list[str]:
    """Return, by line, why the run rejected rows of files that it took; a column explains each row."""
    reasons = _read_json(s3, bucket, rejected_rows_reasons_key(run_key))
    examples = reasons.get("examples", {})
    why = list_rejections(
        (
            key,
            {
                "disposition": "archive",
                "reason": None,
                "rejected": sum(by_reason.values()),
                "rejected_by_reason": by_reason,
                "rejected_examples": examples.get(key, {}),
            },
        )
        for key, by_reason in reasons.get("files", {}).items()
    )
    return ["rejected rows:", *why] if why else ["rejected rows; the column reason says why"]


def _read_json(s3: S3Client, bucket: str, key: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return {}
        raise
    return content


def _sha256(stream: IO[bytes] | StreamingBody) -> str:
    digest = hashlib.sha256()
    with stream:
        while chunk := stream.read(1024**2):
            digest.update(chunk)
    return digest.hexdigest()


def _outcome(item: Quarantined, action: Action, text: str, *further_lines: str) -> Outcome:
    return Outcome(action, "\n  ".join(map(_printable, [f"{item.name}: {text}", *further_lines])))


def _printable(text: str) -> str:
    """Replace control characters: delivered names and values must not control the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m include.redrive", description="Bring back the files and rows that a run quarantined."
    )
    parser.add_argument("run_key", nargs="?", help="folder name below quarantine/ of the archive bucket")
    parser.add_argument("folder", type=Path, nargs="?", help="default: quarantine-RUN_KEY")
    options = parser.parse_args(arguments)
    missing = [name for name in ("SOURCE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME") if not os.environ.get(name)]
    if missing:
        print(f"Error: set {' and '.join(missing)} as in .env.example", file=sys.stderr)
        return 1
    import boto3

    s3 = boto3.client("s3")
    archive, source = os.environ["ARCHIVE_BUCKET_NAME"], os.environ["SOURCE_BUCKET_NAME"]
    if options.run_key is None:
        for run_key, (quarantined, put_back) in list_runs(s3, archive).items():
            print(f"{run_key}: {quarantined} in quarantine, {put_back} put back")
        return 0
    folder = options.folder or Path(f"quarantine-{options.run_key}")
    actions = set()
    try:
        for outcome in redrive(s3, archive, source, options.run_key, folder):
            actions.add(outcome.action)
            print(outcome.text)
    except RedriveError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if Action.FETCHED in actions:
        print(f"Fetched into {folder}. {HOW_TO_CORRECT}")
    if Action.PUT_BACK in actions:
        print("The next run takes the corrected files.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
