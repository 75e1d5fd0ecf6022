"""Bring quarantined data back: fetch what a run rejected, put the corrected files into the source.

``python -m include.redrive RUN_KEY [FOLDER]`` with the pipeline's variables and AWS credentials in the
environment, or ``make redrive RUN=RUN_KEY`` for local AWS. The first call fetches the rejected files and rows
into the folder; after they were corrected there, a second call puts back those that changed. What is put back
is noted beside the quarantined object, so a further call changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REASON_SUFFIX = ".reason.json"
REDRIVEN_SUFFIX = ".redriven.json"


class RedriveError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class Quarantined:
    """One rejected file, or the rejected rows of one part of a run.

    Attributes:
        key: the object in the archive bucket.
        name: its path below the run's quarantine, and below the folder that it is fetched into.
        reason: why it is here.
    """

    key: str
    name: str
    reason: str


def list_quarantined(s3: S3Client, bucket: str, run_key: str) -> list[Quarantined]:
    """List what the run rejected.

    Raises:
        RedriveError: nothing, or there is no such run.
    """
    prefix = f"quarantine/{run_key}/"
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    found = [
        Quarantined(key, key.removeprefix(prefix), _reason(s3, bucket, key, keys))
        for key in keys
        if not key.endswith(".json")
    ]
    if not found:
        raise RedriveError(
            f"s3://{bucket}/{prefix} holds nothing: the run rejected nothing, or its name is another. "
            f"Run keys are the folder names under s3://{bucket}/quarantine/."
        )
    return found


def fetch(s3: S3Client, bucket: str, quarantined: list[Quarantined], folder: Path) -> None:
    """Download the rejected files and rows into the folder.

    Raises:
        RedriveError: a key names a place outside the folder.
    """
    for item in quarantined:
        path = folder / item.name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise RedriveError(f"{item.key} would be written outside {folder}; correct that one by hand")
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, item.key, str(path))


def put_back(
    s3: S3Client, archive_bucket: str, source_bucket: str, quarantined: list[Quarantined], folder: Path
) -> Iterator[tuple[Quarantined, str]]:
    """Put the corrected files of the folder under `streams/` of the source; yield what was done with each."""
    for item in quarantined:
        path = folder / item.name
        if not path.is_file():
            yield item, "left in quarantine: not in the folder"
            continue
        digest = _sha256_of_file(path)
        if digest == _sha256_of_object(s3, archive_bucket, item.key):
            yield item, f"left in quarantine: not corrected yet ({item.reason})"
            continue
        key = _target_key(item.name, digest)
        note = f"{item.key}{REDRIVEN_SUFFIX}"
        if _read_json(s3, archive_bucket, note).get("sha256") == digest:
            yield item, f"was put back before as s3://{source_bucket}/{key}"
            continue
        s3.upload_file(str(path), source_bucket, key)
        body = json.dumps({"sha256": digest, "key": key}, indent=1)
        s3.put_object(Bucket=archive_bucket, Key=note, Body=body.encode(), ContentType="application/json")
        yield item, f"put back as s3://{source_bucket}/{key}; the next run takes it"


def redrive(
    s3: S3Client, archive_bucket: str, source_bucket: str, run_key: str, folder: Path
) -> Iterator[str]:
    """Fetch the run's rejected data, or put back what was corrected in the folder; yield lines for the user.

    Raises:
        RedriveError: the run has nothing in quarantine.
    """
    quarantined = list_quarantined(s3, archive_bucket, run_key)
    if folder.is_dir() and any(folder.iterdir()):
        for item, outcome in put_back(s3, archive_bucket, source_bucket, quarantined, folder):
            yield f"{item.name}: {outcome}"
        return
    fetch(s3, archive_bucket, quarantined, folder)
    for item in quarantined:
        yield f"{item.name}: {item.reason}"
    yield f"Fetched into {folder}. Correct the files there, then give the same command again."


def _target_key(name: str, digest: str) -> str:
    suffix = ".csv.gz" if name.endswith(".csv.gz") else ".csv"
    return f"streams/{name.removesuffix(suffix)}__corrected-{digest[:8]}{suffix}"


def _reason(s3: S3Client, bucket: str, key: str, keys: list[str]) -> str:
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


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_object(s3: S3Client, bucket: str, key: str) -> str:
    digest = hashlib.sha256()
    for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1024**2):
        digest.update(chunk)
    return digest.hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m include.redrive", description=__doc__)
    parser.add_argument("run_key", help="folder name under quarantine/ of the archive bucket")
    parser.add_argument("folder", type=Path, nargs="?", help="default: quarantine-RUN_KEY")
    options = parser.parse_args(arguments)
    missing = [name for name in ("SOURCE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME") if not os.environ.get(name)]
    if missing:
        print(f"Error: set {' and '.join(missing)} as in .env.example", file=sys.stderr)
        return 1
    import boto3

    folder = options.folder or Path(f"quarantine-{options.run_key}")
    archive, source = os.environ["ARCHIVE_BUCKET_NAME"], os.environ["SOURCE_BUCKET_NAME"]
    try:
        for line in redrive(boto3.client("s3"), archive, source, options.run_key, folder):
            print(line)
    except RedriveError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
