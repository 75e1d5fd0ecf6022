"""Uploads a folder of CSV files to the source bucket."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from helpers.contract.names import is_csv
from helpers.contract.wording import counted
from helpers.notices.sentences import ignored_sentence
from include.commands.environment import LOCAL_DIR
from include.commands.errors import UserError
from include.commands.local_aws import LocalAws
from include.commands.terminal import spinner

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

STREAMS, SONGS, USERS = "streams", "songs", "users"
_LAYOUT = "streams/ (listening events), songs/ and users/ (catalogs), each with CSV files"


@dataclass(frozen=True)
class Delivery:
    """A folder's files that the pipeline reads, and its other files."""

    root: Path
    files: dict[str, list[Path]]
    left_out: list[Path]

    def key_of(self, file: Path) -> str:
        """Return the object key of a file: its path below the folder."""
        return file.relative_to(self.root).as_posix()

    def digests(self, *names: str) -> dict[str, str]:
        """Return key -> MD5 of the files in these of the three folders."""
        return {self.key_of(file): _md5(file) for name in names for file in self.files.get(name, [])}


def read_delivery(root: Path) -> Delivery:
    """List the files to upload from a folder that holds `streams/`, `songs/` and `users/`.

    `streams/` may be empty: a run with nothing to do is skipped.

    Raises:
        UserError: the folder or one of the three is missing, or a catalog has no CSV file.
    """
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"DATA={root} is not a folder. Name one that holds {_LAYOUT}.")
    missing = [name for name in (STREAMS, SONGS, USERS) if not (root / name).is_dir()]
    if missing:
        raise UserError(
            f"The folder {root} has no {', '.join(f'{name}/' for name in missing)}. It must hold {_LAYOUT}. "
            "Nothing was uploaded."
        )
    folder = _list_files(root, (STREAMS, SONGS, USERS))
    for name in (SONGS, USERS):
        if not folder.files[name]:
            raise UserError(
                f"The folder {root / name} has no .csv file, and the pipeline needs the {name} "
                "catalog. Put it there and run again. Nothing was uploaded."
            )
    return folder


def read_catalogs(root: Path) -> Delivery:
    """List the files to upload from a folder with corrected catalogs: `songs/`, `users/` or both.

    Raises:
        UserError: the folder is missing or has no catalog.
    """
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"DATA={root} is not a folder. Name one with songs/ or users/ or both.")
    folder = _list_files(root, (SONGS, USERS))
    if not any(folder.files.values()):
        raise UserError(
            f"The folder {root} has no .csv file in songs/ or users/: no catalog to reprocess the days "
            "with. Nothing was uploaded."
        )
    return folder


def _list_files(root: Path, names: Iterable[str]) -> Delivery:
    files: dict[str, list[Path]] = {}
    left_out: list[Path] = []
    for name in names:
        found = sorted(path for path in (root / name).rglob("*") if path.is_file())
        files[name] = [path for path in found if is_csv(path.name)]
        left_out += [path for path in found if not is_csv(path.name)]
    return Delivery(root, files, left_out)


def write_sample() -> Delivery:
    """Generate the sample data, which is always the same, and return its files."""
    from include.sample_data import write_sample_data

    root = LOCAL_DIR / "sample_data"
    write_sample_data(root)
    return read_delivery(root)


def deliver_sample_unless_others(bucket: str, console: Console) -> None:
    """Upload the sample data, unless other stream files or catalogs are already there."""
    sample = write_sample()
    streams = sample.digests(STREAMS)
    # A file with a sample's name may be the user's correction of it.
    others = [key for key, md5 in _list_csv_files(bucket, STREAMS).items() if md5 != streams.get(key)]
    if others:
        console.print(
            Text(
                f"In s3://{bucket}/{STREAMS}/ already: {counted(len(others), 'stream file')} ({others[0]}"
                f"{', ...' if others[1:] else ''}). The run takes these; no sample data is added."
            ),
            soft_wrap=True,
        )
    elif others := _other_catalogs(sample, bucket):
        console.print(
            Text(
                f"The catalogs in s3://{bucket} are not the sample's ({', '.join(others)}), so no sample "
                "data is added. To start again with the sample: make down, then make run."
            ),
            soft_wrap=True,
        )
    else:
        deliver(sample, bucket, console)


def require_apart_from_sample(folder: Delivery, aws: LocalAws) -> None:
    """Check that the folder does not combine other catalogs with listens of the sample.

    Every run applies the catalogs to all listens of its days. With the folder's catalogs the sample's days
    would get wrong numbers, and with the sample's catalogs the folder's days would.

    Raises:
        UserError: it does.
    """
    delivered = _list_delivered_streams(aws.resources["SOURCE_BUCKET_NAME"])
    if not delivered:
        return
    sample = write_sample()
    has_sample = not delivered.isdisjoint(sample.digests(STREAMS).items())
    if not has_sample or folder.digests(SONGS, USERS).items() <= sample.digests(SONGS, USERS).items():
        return
    command = f"make run DATA={shlex.quote(str(folder.root))}"
    raise UserError(
        "Local AWS holds the sample data, and the catalogs of a folder of your own would make its numbers "
        "wrong. Nothing was uploaded.\n"
        f"  In place of the sample:  make down, then {command}{aws.make_options}\n"
        f"  Beside it, apart:        {command}{aws.options_of_another}"
    )


def _list_delivered_streams(bucket: str) -> set[tuple[str, str]]:
    """Return key and MD5 of all stream files that were ever in the bucket."""
    import boto3

    # Archived files leave their versions behind, below a delete marker.
    paginator = boto3.client("s3").get_paginator("list_object_versions")
    pages = paginator.paginate(Bucket=bucket, Prefix=f"{STREAMS}/")
    return {(entry["Key"], entry["ETag"].strip('"')) for page in pages for entry in page.get("Versions", [])}


def _other_catalogs(sample: Delivery, bucket: str) -> list[str]:
    own = sample.digests(SONGS, USERS)
    return [key for key, md5 in _list_csv_files(bucket, SONGS, USERS).items() if md5 != own.get(key)]


def waiting_line(bucket: str) -> str:
    """Return a sentence about the number of stream files that wait for the next run."""
    count = len(_list_csv_files(bucket, STREAMS))
    if not count:
        return f"No stream file waits in s3://{bucket}/{STREAMS}/."
    wait = "waits" if count == 1 else "wait"
    return f"{counted(count, 'stream file')} {wait} in s3://{bucket}/{STREAMS}/ for the next make run."


def ignored_line(bucket: str) -> str:
    """Return a sentence about the objects under `streams/` that no run takes; empty if there are none."""
    keys = [entry["Key"] for entry in _list_objects(bucket, STREAMS)]
    return ignored_sentence([key for key in keys if not is_csv(key)])


def deliver_sample_if_first(bucket: str, console: Console) -> None:
    """Upload the sample data if the source bucket never had a stream file, so that there is work.

    It uploads nothing if other catalogs are already there.
    """
    import boto3

    # Archived files count too: they leave old versions below a delete marker.
    stored = boto3.client("s3").list_object_versions(Bucket=bucket, Prefix=f"{STREAMS}/", MaxKeys=1)
    if "Versions" in stored or "DeleteMarkers" in stored:
        return
    deliver_sample_unless_others(bucket, console)


def deliver(folder: Delivery, bucket: str, console: Console) -> None:
    """Upload the folder's files under their names; print what was uploaded and replaced."""
    import boto3

    stored = _list_csv_files(bucket, *folder.files)
    with spinner(console, "Uploading"):
        _upload(folder, boto3.client("s3"), bucket)
    counts = [f"{counted(len(files), 'file')} in {name}/" for name, files in folder.files.items() if files]
    size = sum(file.stat().st_size for files in folder.files.values() for file in files)
    console.print(
        Text(f"Uploaded {folder.root} to s3://{bucket}: {', '.join(counts)}, {decimal(size)}"), soft_wrap=True
    )
    uploaded = folder.digests(*folder.files)
    if replaced := [key for key, md5 in uploaded.items() if stored.get(key, md5) != md5]:
        console.print(
            Text(f"Replaced, with other content: {', '.join(replaced)}", style="yellow"), soft_wrap=True
        )
    if folder.left_out:
        names = ", ".join(folder.key_of(file) for file in folder.left_out)
        console.print(Text(f"Left out, neither .csv nor .csv.gz: {names}", style="yellow"))


def show_other_files(folder: Delivery, bucket: str, console: Console) -> None:
    """Print the files of the source bucket that the folder did not replace; the run reads them too."""
    own = {folder.key_of(file) for files in folder.files.values() for file in files}
    for name in (name for name, files in folder.files.items() if files):
        others = sorted(_list_csv_files(bucket, name).keys() - own)
        if others and name == STREAMS:
            console.print(
                Text(f"Also waiting, from before: {', '.join(others)}", style="yellow"), soft_wrap=True
            )
        elif others:
            console.print(
                Text(
                    f"Also in the {name} catalog: {', '.join(others)}. Where files differ, the first by name "
                    "counts; a correction replaces a file of its own name only.",
                    style="yellow",
                ),
                soft_wrap=True,
            )


def _list_csv_files(bucket: str, *names: str) -> dict[str, str]:
    """Return key -> MD5 of the CSV files in these folders of the bucket.

    A multipart upload has another text instead of its MD5, which equals none.
    """
    return {
        entry["Key"]: entry["ETag"].strip('"')
        for entry in _list_objects(bucket, *names)
        if is_csv(entry["Key"])
    }


def _list_objects(bucket: str, *names: str) -> list[ObjectTypeDef]:
    # Imported late, because `make down` does not wait for boto3.
    import boto3

    from include.kpis.reports import list_objects

    s3 = boto3.client("s3")
    return [entry for name in names for entry in list_objects(s3, bucket, f"{name}/")]


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def _upload(delivery: Delivery, s3: S3Client, bucket: str) -> None:
    from boto3.s3.transfer import TransferConfig

    # A single request makes the MD5 the ETag.
    config = TransferConfig(multipart_threshold=1024**3)
    # Catalogs first: a run that starts meanwhile must not find stream files without them.
    for name in (SONGS, USERS, STREAMS):
        for file in delivery.files.get(name, []):
            s3.upload_file(str(file), bucket, delivery.key_of(file), Config=config)
