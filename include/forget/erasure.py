"""Finds every version of every object that holds the users, and replaces or deletes it.

An erasure is recorded in the archive bucket before anything changes. Until the record has the time of the
end, no run stores KPIs (`helpers.run.erasures`), and a further call resumes it. Every step may be repeated.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from helpers.contract.keys import (
    ERASURES_PREFIX,
    HISTORY_PREFIX,
    QUARANTINE_PREFIX,
    REFUSED_USERS_KEY,
    RUNS_PREFIX,
    SNAPSHOTS_PREFIX,
    catalog_copy_key,
    ending_key,
    erasure_key,
    report_key,
)
from helpers.contract.names import ALL_GENRES, STREAMS_PREFIX, USERS_PREFIX
from helpers.contract.records import Erasure, RefusedUsers
from helpers.ingest.refused_users import digest_of
from include.commands.errors import UserError
from include.forget.content import (
    Listen,
    UnsearchableError,
    UserIds,
    listens_of,
    remove_from_csv,
    remove_from_json,
    remove_from_parquet,
    require_text,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

WORKERS = 8
# S3 takes larger objects only in parts, for which a condition on the present version is not possible.
_MAX_PUT_BYTES = 5 * 1024**3
_MAX_ROUNDS = 10
_USERS_COPY_PREFIX = catalog_copy_key("users", "")
_ARCHIVE_PREFIXES = (HISTORY_PREFIX, STREAMS_PREFIX, QUARANTINE_PREFIX, RUNS_PREFIX, _USERS_COPY_PREFIX)
_INTERMEDIATE_PREFIXES = (RUNS_PREFIX, SNAPSHOTS_PREFIX)
_GZIP_MAGIC = b"\x1f\x8b"
_OVERTAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404"})
_SKIPPED = frozenset({"InvalidObjectState", "NoSuchKey", "NoSuchVersion"})


class ForgetError(UserError):
    """The users cannot be forgotten; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Places:
    """The pipeline's buckets and its table."""

    source: str
    intermediate: str
    archive: str
    table: str


@dataclass(frozen=True)
class Version:
    """One version of an object."""

    bucket: str
    key: str
    version_id: str
    etag: str
    size: int
    storage_class: str
    is_latest: bool

    @property
    def address(self) -> str:
        """The place, for messages."""
        return f"s3://{self.bucket}/{self.key}" + ("" if self.is_latest else f" (version {self.version_id})")


@dataclass(frozen=True)
class Finding:
    """A version that holds the users: its lines or values of theirs, and their listens in the history."""

    version: Version
    removed: int
    listens: tuple[Listen, ...] = ()


@dataclass
class Found:
    """The result of a search.

    Attributes:
        findings: versions to rewrite or delete.
        catalogs: current catalogs with the users, which belong to their sender.
        unsearchable: objects that could not be searched, with the reason.
        searched: all versions that were searched.
    """

    findings: list[Finding] = field(default_factory=list)
    catalogs: list[Version] = field(default_factory=list)
    unsearchable: dict[Version, str] = field(default_factory=dict)
    searched: set[Version] = field(default_factory=set)

    def days(self, of: Callable[[str], bool] = lambda _: True) -> Counter[str]:
        """Return the distinct listens of these users in the history, by day."""
        listens = {
            listen
            for finding in self.findings
            if finding.version.is_latest
            for listen in finding.listens
            if of(listen.user_id)
        }
        return Counter(
            (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=listen.instant)).date().isoformat()
            for listen in listens
        )


class Eraser:
    """Searches the buckets for the users and removes them."""

    def __init__(self, s3: S3Client, dynamodb: DynamoDBClient, places: Places, users: UserIds) -> None:
        """Take the clients, the places and the users."""
        self._s3, self._dynamodb, self._places = s3, dynamodb, places
        self._users = users

    def search(self, known: Iterable[Version] = ()) -> Found:
        """Search all versions but the known ones."""
        found, known = Found(), set(known)
        versions = [version for version in self._versions_to_search() if version not in known]
        with ThreadPoolExecutor(WORKERS) as pool:
            for version, result in zip(versions, pool.map(self._search_one, versions), strict=True):
                found.searched.add(version)
                if isinstance(result, str):
                    found.unsearchable[version] = result
                elif result and self._is_catalog(version):
                    found.catalogs.append(version)
                elif result:
                    found.findings.append(result)
        return found

    def refuse_later_files(self, users: UserIds) -> None:
        """Add users to those whose later files are refused.

        Raises:
            ForgetError: another call adds users at the same time.
        """
        bucket, key = self._places.archive, REFUSED_USERS_KEY
        condition: dict[str, Any] = {"IfNoneMatch": "*"}
        refused = RefusedUsers(salt=uuid.uuid4().hex, sha256=[])
        try:
            answer = self._s3.get_object(Bucket=bucket, Key=key)
            refused, condition = json.loads(answer["Body"].read()), {"IfMatch": answer["ETag"]}
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
        digests = {digest_of(user_id, refused["salt"]) for user_id in users.ids}
        if digests <= set(refused["sha256"]):
            return
        refused["sha256"] = sorted(digests | set(refused["sha256"]))
        try:
            self._put_json(key, refused, **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _OVERTAKEN:
                raise
            raise ForgetError(
                f"Another call changed s3://{bucket}/{key} at the same time. Give the same command again."
            ) from error

    def erase(self, found: Found) -> Erasure:
        """Remove everything that was found, and what was added meanwhile; return the finished record.

        Raises:
            ForgetError: S3 refuses to delete a version, or files with the users keep arriving.
        """
        record = self._begin(found)
        known = set(found.searched)
        for _ in range(_MAX_ROUNDS):
            for finding in found.findings:
                self._replace(finding.version)
            # One call deletes up to 1,000 versions; each is gone only after its successor was written.
            self._delete((f.version.bucket, f.version.key, f.version.version_id) for f in found.findings)
            found = self.search(known)
            known |= found.searched
            if not found.findings:
                break
        else:
            raise ForgetError(
                f"Objects with these users keep arriving, such as {found.findings[0].version.address}. Stop "
                "the runs and the senders, then give the same command again."
            )
        self._empty_intermediate_bucket()
        self._delete_lone_markers()
        return self._finish(record)

    def unfinished_runs(self) -> list[str]:
        """Return the keys of runs that have temporary objects and neither a report nor an ending."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._places.intermediate, Prefix=RUNS_PREFIX, Delimiter="/"
        )
        keys = [entry["Prefix"].split("/")[1] for page in pages for entry in page.get("CommonPrefixes", [])]
        return [key for key in keys if not (self._exists(report_key(key)) or self._exists(ending_key(key)))]

    def _versions_to_search(self) -> Iterator[Version]:
        for bucket, prefixes in (
            (self._places.archive, _ARCHIVE_PREFIXES),
            (self._places.source, (STREAMS_PREFIX, USERS_PREFIX)),
        ):
            for prefix in prefixes:
                yield from _versions(self._s3, bucket, prefix)

    def _is_catalog(self, version: Version) -> bool:
        return (
            version.is_latest and version.bucket == self._places.source and _is_below(version, USERS_PREFIX)
        )

    def _search_one(self, version: Version) -> Finding | str | None:
        with tempfile.TemporaryDirectory(prefix="forget-") as folder:
            try:
                removed, listens = self._without_users(version, Path(folder))
            except UnsearchableError as error:
                return str(error)
        return Finding(version, removed, tuple(listens)) if removed else None

    def _without_users(self, version: Version, folder: Path) -> tuple[int, list[Listen]]:
        """Write the version without the users to `result`; return how much it loses.

        Raises:
            UnsearchableError: the content cannot be read.
        """
        path, result = folder / "object", folder / "result"
        self._fetch(version, path)
        if version.key.endswith(".json"):
            content, removed = remove_from_json(path.read_bytes(), self._users)
            result.write_bytes(content)
            return removed, []
        if version.bucket == self._places.archive and _is_below(version, HISTORY_PREFIX):
            listens = listens_of(remove_from_parquet(path, result, self._users))
            return len(listens), listens
        if version.bucket == self._places.archive and _is_below(version, _USERS_COPY_PREFIX):
            return remove_from_parquet(path, result, self._users).num_rows, []
        is_gzip = path.open("rb").read(2) == _GZIP_MAGIC
        text = _unzipped(path, folder / "text") if is_gzip else path
        with text.open("rb") as source:
            if not self._users.may_be_in(source):
                source.seek(0)
                # A compressed format hides an id.
                require_text(source.read(4096))
                return 0, []
            source.seek(0)
            with result.open("wb") as plain:
                removed = remove_from_csv(source, plain, self._users)
        if is_gzip and removed:
            _zip(result)
        return removed, []

    def _fetch(self, version: Version, path: Path) -> None:
        try:
            body = self._s3.get_object(Bucket=version.bucket, Key=version.key, **_pin(version.version_id))[
                "Body"
            ]
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in _SKIPPED:
                raise
            if code == "InvalidObjectState":
                raise UnsearchableError(
                    f"it is in storage class {version.storage_class}: restore it"
                ) from error
            raise UnsearchableError("it vanished during the search") from error
        with body, path.open("wb") as file:
            shutil.copyfileobj(body, file, 1024**2)

    def _replace(self, version: Version) -> None:
        """Put the object without the users in place of its current version; older versions need none."""
        if not version.is_latest:
            return
        with tempfile.TemporaryDirectory(prefix="forget-") as folder:
            try:
                removed, _ = self._without_users(version, Path(folder))
            except UnsearchableError:
                return
            if removed:
                self._put(version, Path(folder) / "result")

    def _put(self, version: Version, path: Path) -> None:
        head = self._s3.head_object(Bucket=version.bucket, Key=version.key, **_pin(version.version_id))
        kept: dict[str, Any] = {
            name: head[name]  # type: ignore[literal-required]
            for name in ("ContentType", "ContentEncoding", "Metadata", "StorageClass")
            if head.get(name)
        }
        if path.stat().st_size > _MAX_PUT_BYTES:
            self._s3.upload_file(str(path), version.bucket, version.key, ExtraArgs=kept)
            return
        try:
            with path.open("rb") as body:
                self._s3.put_object(
                    Bucket=version.bucket, Key=version.key, Body=body, IfMatch=version.etag, **kept
                )
        except ClientError as error:
            # A newer version exists; the next round searches it.
            if error.response["Error"]["Code"] not in _OVERTAKEN:
                raise

    def _delete(self, versions: Iterable[tuple[str, str, str]]) -> None:
        by_bucket: dict[str, list[Any]] = {}
        for bucket, key, version_id in versions:
            # In a bucket without versioning, the object was replaced.
            if version_id != "null":
                by_bucket.setdefault(bucket, []).append({"Key": key, "VersionId": version_id})
        for bucket, objects in by_bucket.items():
            for start in range(0, len(objects), 1000):
                answer = self._s3.delete_objects(
                    Bucket=bucket, Delete={"Objects": objects[start : start + 1000], "Quiet": True}
                )
                if errors := answer.get("Errors"):
                    raise ForgetError(
                        f"S3 did not delete {len(errors)} versions in s3://{bucket}, first "
                        f"{errors[0].get('Key')}: {errors[0].get('Message')}. Correct that, then give the "
                        "same command again."
                    )

    def _empty_intermediate_bucket(self) -> None:
        """Delete every version of every run and snapshot: each derives from the other buckets."""
        bucket = self._places.intermediate
        versions = [v for prefix in _INTERMEDIATE_PREFIXES for v in _versions(self._s3, bucket, prefix)]
        self._delete((bucket, version.key, version.version_id) for version in versions)
        unversioned = [version.key for version in versions if version.version_id == "null"]
        for start in range(0, len(unversioned), 1000):
            objects: list[Any] = [{"Key": key} for key in unversioned[start : start + 1000]]
            self._s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})

    def _delete_lone_markers(self) -> None:
        """Delete the delete markers of objects of which no version is left."""
        for bucket, prefixes in (
            (self._places.archive, _ARCHIVE_PREFIXES),
            (self._places.source, (STREAMS_PREFIX, USERS_PREFIX)),
            (self._places.intermediate, _INTERMEDIATE_PREFIXES),
        ):
            for prefix in prefixes:
                listed = _list_versions(self._s3, bucket, prefix)
                present = {version["Key"] for version, is_marker in listed if not is_marker}
                self._delete(
                    (bucket, marker["Key"], marker["VersionId"])
                    for marker, is_marker in listed
                    if is_marker and marker["Key"] not in present
                )

    def _begin(self, found: Found) -> Erasure:
        """Record the erasure, or join it with an interrupted one, whose listens may be gone in part."""
        before = read_unfinished(self._s3, self._places)
        known = set(before.get("user_ids", [])) if before else set()
        days = found.days(lambda user_id: user_id not in known)
        if before:
            days.update(before["days"])
        ids = sorted(self._users.ids | known)
        record = Erasure(
            erasure_id=before["erasure_id"] if before else f"{_now():%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}",
            started_at=before["started_at"] if before else _now().isoformat(),
            finished_at=None,
            users=len(ids),
            days=dict(sorted(days.items())),
            user_ids=ids,
        )
        if record != before:
            self._write(record)
        return record

    def _finish(self, record: Erasure) -> Erasure:
        finished = record.copy()
        finished["finished_at"] = _now().isoformat()
        del finished["user_ids"]
        self._write(finished)
        self.delete_old_records()
        return finished

    def delete_old_records(self) -> None:
        """Delete the versions of records that name the users."""
        bucket = self._places.archive
        versions = _versions(self._s3, bucket, ERASURES_PREFIX)
        self._delete(
            (bucket, version.key, version.version_id) for version in versions if not version.is_latest
        )

    def _write(self, record: Erasure) -> None:
        self._put_json(erasure_key(record["erasure_id"]), record)

    def _put_json(self, key: str, record: Erasure | RefusedUsers, **condition: Any) -> None:
        body = json.dumps(record, indent=1).encode()
        self._s3.put_object(
            Bucket=self._places.archive, Key=key, Body=body, ContentType="application/json", **condition
        )

    def _exists(self, key: str) -> bool:
        listed = self._s3.list_objects_v2(Bucket=self._places.archive, Prefix=key, MaxKeys=1)
        return any(entry["Key"] == key for entry in listed.get("Contents", []))


def read_unfinished(s3: S3Client, places: Places) -> Erasure | None:
    """Return the erasure that was interrupted, or None."""
    return next((record for record in _records(s3, places) if record["finished_at"] is None), None)


def days_to_reprocess(s3: S3Client, dynamodb: DynamoDBClient, places: Places) -> list[str]:
    """Return the days whose KPIs still count users that were forgotten."""
    erased_at: dict[str, str] = {}
    for record in _records(s3, places):
        for day in record["days"]:
            erased_at[day] = max(erased_at.get(day, ""), record["finished_at"] or "")
    return [day for day in sorted(erased_at) if _is_before(dynamodb, places.table, day, erased_at[day])]


def _is_before(dynamodb: DynamoDBClient, table: str, day: str, instant: str) -> bool:
    key: Any = {"date": {"S": day}, "track_genre": {"S": ALL_GENRES}}
    item: Any = dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
    if not item or not instant:
        return False
    frozen_at = datetime.fromisoformat(item["catalogs_frozen_at"]["S"])
    return item["status"]["S"] != "complete" or frozen_at < datetime.fromisoformat(instant)


def _records(s3: S3Client, places: Places) -> list[Erasure]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=places.archive, Prefix=ERASURES_PREFIX)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return [json.loads(s3.get_object(Bucket=places.archive, Key=key)["Body"].read()) for key in keys]


def _versions(s3: S3Client, bucket: str, prefix: str) -> Iterator[Version]:
    for version, is_marker in _list_versions(s3, bucket, prefix):
        if not is_marker:
            yield Version(
                bucket,
                version["Key"],
                version["VersionId"],
                version["ETag"],
                version["Size"],
                version.get("StorageClass", "STANDARD"),
                version["IsLatest"],
            )


def _list_versions(s3: S3Client, bucket: str, prefix: str) -> list[tuple[Any, bool]]:
    """Return all versions and delete markers, each with whether it is a marker."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return [
        (entry, is_marker)
        for page in pages
        for entries, is_marker in ((page.get("Versions", []), False), (page.get("DeleteMarkers", []), True))
        for entry in entries
    ]


def _is_below(version: Version, prefix: str) -> bool:
    return version.key.startswith(prefix)


def _pin(version_id: str) -> dict[str, Any]:
    return {} if version_id == "null" else {"VersionId": version_id}


def _unzipped(path: Path, target: Path) -> Path:
    try:
        with gzip.open(path, "rb") as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1024**2)
    except (EOFError, OSError, zlib.error) as error:
        raise UnsearchableError(f"its gzip data is damaged ({error})") from error
    return target


def _zip(path: Path) -> None:
    plain = path.with_name("plain")
    path.rename(plain)
    with (
        plain.open("rb") as source,
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file,
    ):
        shutil.copyfileobj(source, file, 1024**2)


def _now() -> datetime:
    return datetime.now(UTC)
