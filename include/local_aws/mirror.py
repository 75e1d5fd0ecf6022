"""Local copies of S3 prefixes for the duration of a job run."""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CHUNK = 8 * 1024 * 1024
# moto joins multipart uploads in memory, which takes twice as long as a single request.
_TRANSFER = TransferConfig(multipart_threshold=1024**3, multipart_chunksize=1024**3, use_threads=False)
_LONGEST_FILE_NAME = 255
_S3_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<key>.*))?", re.DOTALL)


class MirrorError(RuntimeError):
    """S3 refused to return or to accept an object."""


class Location(NamedTuple):
    """A bucket and a prefix or key in it."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> "Location | None":
        """Split an ``s3://bucket/key`` URI; return None if it is not one, or no file can have that name."""
        match = _S3_URI.fullmatch(uri)
        if match is None or (match["key"] and not _is_file_path(match["key"].removesuffix("/"))):
            return None
        return cls(match["bucket"], match["key"] or "")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def covers(self, key: str) -> bool:
        """Return whether ``key`` is this location's object or lies below it as a folder."""
        folder = self.key if self.key.endswith("/") or not self.key else f"{self.key}/"
        return key == self.key or key.startswith(folder)


class _Fingerprint(NamedTuple):
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "_Fingerprint":
        stat = path.stat()
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns)


class Mirror:
    """One directory per bucket, with the objects of some locations as files named by their keys."""

    def __init__(self, s3: "S3Client", root: Path, locations: Iterable[Location]) -> None:
        """Prepare an empty mirror of ``locations`` below ``root``."""
        self._s3 = s3
        self._root = root
        self._locations = sorted(set(locations))
        self._filled: dict[Location, _Fingerprint] = {}
        for bucket in self.buckets:
            self.directory(bucket).mkdir(parents=True)

    @property
    def buckets(self) -> list[str]:
        """The buckets that have a directory."""
        return sorted({location.bucket for location in self._locations})

    @property
    def filled_bytes(self) -> int:
        """Total size of the objects that ``fill`` downloaded."""
        return sum(fingerprint.size for fingerprint in self._filled.values())

    def directory(self, bucket: str) -> Path:
        """Return the directory of ``bucket``."""
        return self._root / bucket

    def fill(self, cancelled: Callable[[], bool]) -> list[str]:
        """Download every object below the locations; return the URIs of objects that cannot be files.

        Args:
            cancelled: called before each object; downloading ends early once it returns true.

        Raises:
            MirrorError: a bucket does not exist or may not be read.
        """
        unmirrored: list[str] = []
        for location in self._locations:
            with _naming(location):
                for key in self._list_keys(location):
                    if cancelled():
                        return unmirrored
                    found = Location(location.bucket, key)
                    if not self._download(found):
                        unmirrored.append(str(found))
        return unmirrored

    def write_back(self, cancelled: Callable[[], bool]) -> None:
        """Make the locations in S3 equal to their files; only changes since ``fill`` are written.

        Deletions come first, then files in the order they were written, as a reader of S3 would see them.

        Args:
            cancelled: called before each object; writing ends early once it returns true.

        Raises:
            MirrorError: an object may not be written.
        """
        current = {found: _Fingerprint.of(self._path(found)) for found in self._files()}
        for gone in sorted(self._filled.keys() - current.keys()):
            if cancelled():
                return
            with _naming(gone):
                self._s3.delete_object(Bucket=gone.bucket, Key=gone.key)
        changed = [found for found, fingerprint in current.items() if self._filled.get(found) != fingerprint]
        for found in sorted(changed, key=lambda found: (current[found].modified_ns, found)):
            if cancelled():
                return
            with _naming(found):
                self._s3.upload_file(str(self._path(found)), found.bucket, found.key, Config=_TRANSFER)

    def _list_keys(self, location: Location) -> Iterator[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=location.bucket, Prefix=location.key
        )
        for page in pages:
            for entry in page.get("Contents", []):
                if location.covers(entry["Key"]):
                    yield entry["Key"]

    def _download(self, location: Location) -> bool:
        if location in self._filled:
            return True
        if not _is_file_path(location.key.removesuffix("/")):
            return False
        path = self._path(location)
        try:
            if location.key.endswith("/"):  # empty objects that the S3 console creates for folders
                path.mkdir(parents=True, exist_ok=True)
                return True
            path.parent.mkdir(parents=True, exist_ok=True)
            body = self._s3.get_object(Bucket=location.bucket, Key=location.key)["Body"]
            with body, path.open("xb") as file:
                shutil.copyfileobj(body, file, _CHUNK)
        except (NotADirectoryError, FileExistsError, IsADirectoryError):
            return False  # S3 may hold both `a` and `a/b`; a file system cannot
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":  # deleted since it was listed
                return True
            raise
        self._filled[location] = _Fingerprint.of(path)
        return True

    def _files(self) -> Iterator[Location]:
        found = set()
        for bucket, prefix in self._locations:
            top = self._path(Location(bucket, prefix))
            if top.is_file():
                found.add(Location(bucket, prefix))
            for folder, _, names in os.walk(top):
                for name in names:
                    path = Path(folder, name)
                    if path.is_file() and not path.is_symlink():
                        found.add(Location(bucket, path.relative_to(self.directory(bucket)).as_posix()))
        return iter(found)

    def _path(self, location: Location) -> Path:
        return self.directory(location.bucket) / location.key


@contextmanager
def _naming(location: Location) -> Iterator[None]:
    try:
        yield
    except (ClientError, S3UploadFailedError) as error:
        raise MirrorError(f"{location}: {error}") from error


def _is_file_path(key: str) -> bool:
    return all(
        segment not in ("", ".", "..")
        and "\0" not in segment
        and len(os.fsencode(segment)) <= _LONGEST_FILE_NAME
        for segment in key.split("/")
    )
