"""A folder of CSV files on its way to the source bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from include.local_airflow.environment import LOCAL_DIR
from include.local_airflow.errors import UserError
from include.local_airflow.terminal import spinner

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STREAMS, SONGS, USERS = "streams", "songs", "users"
_SUFFIXES = {STREAMS: (".csv", ".csv.gz"), SONGS: (".csv",), USERS: (".csv",)}
_LAYOUT = "streams/ (listening events), songs/ and users/ (catalogs), each with CSV files"


@dataclass(frozen=True)
class Delivery:
    """The files of a folder that the pipeline reads, and the others."""

    root: Path
    files: dict[str, list[Path]]
    left_out: list[Path]

    def key_of(self, file: Path) -> str:
        """Return the object key of a file: its path below the folder."""
        return file.relative_to(self.root).as_posix()


def read_delivery(root: Path) -> Delivery:
    """List what is to be uploaded from a folder that holds `streams/`, `songs/` and `users/`.

    `streams/` may be empty: a run with nothing to do is skipped.

    Raises:
        UserError: the folder or one of the three is missing, or a catalog has no CSV file.
    """
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"DATA={root} is not a folder. Name one that holds {_LAYOUT}.")
    missing = [name for name in _SUFFIXES if not (root / name).is_dir()]
    if missing:
        raise UserError(
            f"The folder {root} has no {', '.join(f'{name}/' for name in missing)}. It must hold {_LAYOUT}. "
            "Nothing was uploaded."
        )
    folder = _list_files(root, _SUFFIXES)
    for name in (SONGS, USERS):
        if not folder.files[name]:
            raise UserError(
                f"The folder {root / name} has no .csv file, and the pipeline cannot do without the {name} "
                "catalog. Put it there and run again. Nothing was uploaded."
            )
    return folder


def read_catalogs(root: Path) -> Delivery:
    """List what is to be uploaded from a folder with corrected catalogs: of `songs/`, `users/` or both.

    Raises:
        UserError: the folder is missing or has no catalog.
    """
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"DATA={root} is not a folder. Name one with songs/ or users/ or both.")
    folder = _list_files(root, (SONGS, USERS))
    if not any(folder.files.values()):
        raise UserError(
            f"The folder {root} has no .csv file in songs/ or users/: no catalog to compute the days again "
            "with. Nothing was uploaded."
        )
    return folder


def _list_files(root: Path, names: Iterable[str]) -> Delivery:
    files: dict[str, list[Path]] = {}
    left_out: list[Path] = []
    for name in names:
        found = sorted(path for path in (root / name).rglob("*") if path.is_file())
        files[name] = [path for path in found if path.name.endswith(_SUFFIXES[name])]
        left_out += [path for path in found if not path.name.endswith(_SUFFIXES[name])]
    return Delivery(root, files, left_out)


def write_sample() -> Delivery:
    """Generate the sample data, the same every time, and return its files."""
    from include.sample_data import write_sample_data

    root = LOCAL_DIR / "sample_data"
    write_sample_data(root)
    return read_delivery(root)


def deliver_sample_unless_others_wait(bucket: str, console: Console) -> None:
    """Upload the sample data, unless stream files of other content wait for a run: it is theirs then."""
    sample = write_sample()
    own = {sample.key_of(file): _md5(file) for file in sample.files[STREAMS]}
    # A file under a sample's name may be the user's correction of it.
    others = [key for key, md5 in _list_waiting_files(bucket).items() if md5 != own.get(key)]
    if not others:
        deliver(sample, bucket, console)
        return
    console.print(
        Text(
            f"Stream files that wait in s3://{bucket}/{STREAMS}/: {len(others):,} ({others[0]}"
            f"{', ...' if others[1:] else ''}). The run takes them; no sample data is added."
        ),
        soft_wrap=True,
    )


def waiting_line(bucket: str) -> str:
    """Say how many stream files wait for the next run."""
    count = len(_list_waiting_files(bucket))
    if not count:
        return f"No stream file waits in s3://{bucket}/{STREAMS}/."
    return f"Stream files that wait in s3://{bucket}/{STREAMS}/ for the next make run: {count:,}."


def deliver_sample_if_first(bucket: str, console: Console) -> None:
    """Upload the sample data to a source bucket that has never had a stream file, so that there is work."""
    import boto3

    # Archived files count: what is left of them are old versions below a delete marker.
    stored = boto3.client("s3").list_object_versions(Bucket=bucket, Prefix=f"{STREAMS}/", MaxKeys=1)
    if "Versions" in stored or "DeleteMarkers" in stored:
        return
    console.print("The source bucket has never had a stream file; the first run gets sample data.")
    deliver(write_sample(), bucket, console)


def deliver(folder: Delivery, bucket: str, console: Console) -> None:
    """Upload the files of the folder to the source bucket under their names, and say so."""
    import boto3

    with spinner(console, "Uploading"):
        _upload(folder, boto3.client("s3"), bucket)
    counts = ", ".join(f"{len(files):,} {name}" for name, files in folder.files.items())
    console.print(Text(f"Uploaded {folder.root} to s3://{bucket}: files of {counts}"), soft_wrap=True)
    if folder.left_out:
        names = ", ".join(folder.key_of(file) for file in folder.left_out)
        console.print(Text(f"Left out, not .csv (streams also .csv.gz): {names}", style="yellow"))


def show_other_catalog_files(folder: Delivery, bucket: str, console: Console) -> None:
    """Say which catalog files the folder did not replace: they count too."""
    import boto3

    s3 = boto3.client("s3")
    own = {folder.key_of(file) for files in folder.files.values() for file in files}
    for name in (name for name, files in folder.files.items() if files):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{name}/")
        keys = {entry["Key"] for page in pages for entry in page.get("Contents", [])}
        if others := sorted(key for key in keys - own if key.endswith(_SUFFIXES[STREAMS])):
            console.print(
                Text(
                    f"Also in the {name} catalog: {', '.join(others)}. Where files differ, the first by name "
                    "counts; a correction replaces a file of its own name only.",
                    style="yellow",
                ),
                soft_wrap=True,
            )


def _list_waiting_files(bucket: str) -> dict[str, str]:
    """Return the ETag, without quotes, of each stream file, by key."""
    import boto3

    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{STREAMS}/")
    entries = [entry for page in pages for entry in page.get("Contents", [])]
    return {
        entry["Key"]: entry["ETag"].strip('"')
        for entry in entries
        if entry["Key"].endswith(_SUFFIXES[STREAMS])
    }


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def _upload(delivery: Delivery, s3: S3Client, bucket: str) -> None:
    # Catalogs first: a run that begins meanwhile must not find stream files without them.
    for name in (SONGS, USERS, STREAMS):
        for file in delivery.files.get(name, []):
            s3.upload_file(str(file), bucket, delivery.key_of(file))
