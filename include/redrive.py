"""Bring quarantined data back: fetch what a run rejected, put the corrected files into the source.

``python -m include.redrive RUN_KEY [FOLDER]`` with the pipeline's variables and AWS credentials in the
environment, or ``make redrive RUN=RUN_KEY`` for local AWS; without a run key both list the runs that rejected
something. The first call fetches the rejected files and rows into the folder; after they were corrected
there, a second call puts back those that changed. A further call changes nothing: the newest version in the
source says what was put back last, and a note beside the quarantined object says it for good.
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
from enum import Enum, auto
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

QUARANTINE_PREFIX = "quarantine/"
CSV_SUFFIXES = (".csv", ".csv.gz")
REASON_SUFFIX = ".reason.json"
REDRIVEN_SUFFIX = ".redriven.json"
SHOWN_RUNS = 10

HOW_TO_CORRECT = (
    "Correct the files there under the names they have: mend headers; in rejected rows mend or fill in "
    "user_id, track_id and listen_time; delete rows that cannot be mended. Then give the same command again."
)


class RedriveError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


class Action(Enum):
    """What was done with a file."""

    FETCHED = auto()
    LEFT = auto()
    PUT_BACK = auto()
    PUT_BACK_BEFORE = auto()
    IGNORED = auto()


@dataclass(frozen=True)
class Outcome:
    """What was done with one file, and the same in words."""

    action: Action
    text: str


@dataclass(frozen=True)
class Quarantined:
    """One rejected file, or the rejected rows of one part of a run.

    Attributes:
        key: the object in the archive bucket.
        name: its path below the run's quarantine, and below the folder that it is fetched into.
        target_key: where its correction goes in the source. Named after run and file, not after the content,
            so that a second correction replaces a first one that no run has taken yet.
        reason: why it is here.
    """

    key: str
    name: str
    target_key: str
    reason: str


def list_runs(s3: S3Client, archive_bucket: str) -> dict[str, tuple[int, int]]:
    """Return, by run key, how many objects are in quarantine and how many of them were put back."""
    keys = set(_list_keys(s3, archive_bucket, QUARANTINE_PREFIX))
    runs: dict[str, tuple[int, int]] = {}
    for key in sorted(keys):
        if key.endswith(CSV_SUFFIXES):
            run_key = key.split("/")[1]
            quarantined, put_back = runs.get(run_key, (0, 0))
            runs[run_key] = quarantined + 1, put_back + (f"{key}{REDRIVEN_SUFFIX}" in keys)
    return runs


def list_quarantined(s3: S3Client, archive_bucket: str, run_key: str) -> list[Quarantined]:
    """List what the run rejected.

    Raises:
        RedriveError: nothing, or there is no such run.
    """
    runs = list_runs(s3, archive_bucket)
    if run_key not in runs:
        known = "".join(f"\n  {known}" for known in list(runs)[-SHOWN_RUNS:]) or " none"
        raise RedriveError(
            f"Nothing of a run {run_key!r} is in s3://{archive_bucket}/{QUARANTINE_PREFIX}: it rejected "
            f"nothing, or its run key is another. Runs that rejected something:{known}"
        )
    prefix = f"{QUARANTINE_PREFIX}{run_key}/"
    keys = _list_keys(s3, archive_bucket, prefix)
    found, present = [], set(keys)
    for key in keys:
        if key.endswith(CSV_SUFFIXES):
            name = key.removeprefix(prefix)
            # What was put back before and rejected again does not get a longer name each time.
            target_key = f"streams/redriven/{run_key}/{re.sub('^redriven/[^/]+/', '', name)}"
            found.append(Quarantined(key, name, target_key, _reason(s3, archive_bucket, key, present)))
    return found


def redrive(
    s3: S3Client, archive_bucket: str, source_bucket: str, run_key: str, folder: Path
) -> Iterator[Outcome]:
    """Fetch what is not in the folder yet, put back what was corrected there; yield what was done.

    Raises:
        RedriveError: the run has nothing in quarantine.
    """
    quarantined = list_quarantined(s3, archive_bucket, run_key)
    for item in quarantined:
        path = folder / item.name
        # The name was given by who delivered the file, and may hold anything.
        if Path(item.name).is_absolute() or ".." in Path(item.name).parts:
            where = f"s3://{archive_bucket}/{item.key}"
            text = f"left in quarantine: the name leads out of the folder; correct a copy of {where} by hand"
            yield _outcome(item, Action.LEFT, text)
        elif path.is_file():
            yield _put_back_if_corrected(s3, archive_bucket, source_bucket, item, path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(archive_bucket, item.key, str(path))
            yield _outcome(item, Action.FETCHED, item.reason)
    expected = {folder / item.name for item in quarantined}
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(CSV_SUFFIXES) and path not in expected:
            text = "ignored; save a correction under the name of the file that it corrects"
            yield Outcome(Action.IGNORED, _printable(f"{path.relative_to(folder)}: {text}"))


def _put_back_if_corrected(
    s3: S3Client, archive_bucket: str, source_bucket: str, item: Quarantined, path: Path
) -> Outcome:
    digest = _sha256(path.open("rb"))
    if digest == _sha256(s3.get_object(Bucket=archive_bucket, Key=item.key)["Body"]):
        return _outcome(item, Action.LEFT, f"left in quarantine: not corrected yet ({item.reason})")
    note_key = f"{item.key}{REDRIVEN_SUFFIX}"
    noted = _read_json(s3, archive_bucket, note_key).get("sha256")
    # The source goes before the note: a call that dies between the two writes leaves an older note, or none.
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
    return _outcome(item, Action.PUT_BACK, f"put back as {target}")


def _last_put_back(s3: S3Client, source_bucket: str, key: str) -> str | None:
    """Return the SHA-256 of the key's newest version, also when a run has taken and so deleted it since."""
    listed = s3.list_object_versions(Bucket=source_bucket, Prefix=key).get("Versions", [])
    newest = next((version["VersionId"] for version in listed if version["Key"] == key), None)
    if newest is None:
        return None
    head = s3.head_object(Bucket=source_bucket, Key=key, VersionId=newest)
    return head["Metadata"].get("sha256")


def _list_keys(s3: S3Client, bucket: str, prefix: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def _reason(s3: S3Client, bucket: str, key: str, keys: Collection[str]) -> str:
    if f"{key}{REASON_SUFFIX}" in keys:
        return str(_read_json(s3, bucket, f"{key}{REASON_SUFFIX}").get("reason"))
    return "rejected rows; the column reason says why"


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


def _outcome(item: Quarantined, action: Action, text: str) -> Outcome:
    return Outcome(action, _printable(f"{item.name}: {text}"))


def _printable(text: str) -> str:
    """Names and reasons hold what was delivered: nothing of it may steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m include.redrive", description="Bring back what a run put into quarantine."
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
        print("The next run takes what was put back.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
