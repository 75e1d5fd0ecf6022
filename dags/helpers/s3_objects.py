"""What several tasks do with S3: pinned reads, verified copies, JSON objects, listings."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any, TypedDict

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from helpers.errors import ReconciliationError

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

# CopyObject takes up to 5 GB and keeps the ETag; only what is larger needs a multipart copy.
MULTIPART_COPY_ABOVE = 5 * 1024**3
_COPY_CONFIG = TransferConfig(multipart_threshold=MULTIPART_COPY_ABOVE, multipart_chunksize=512 * 1024**2)

MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
PRECONDITION_FAILED = frozenset({"412", "PreconditionFailed"})
# Another request for the object is under way: S3 has not decided, and wants to be asked again.
CONFLICT = frozenset({"409", "ConditionalRequestConflict"})


class ObjectVersion(TypedDict):
    """One version of an object; `version_id` is None in a bucket without versioning."""

    key: str
    version_id: str | None
    etag: str
    size: int
    last_modified: str


def error_code(error: ClientError) -> str:
    """Return the service's error code, e.g. `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def list_current_versions(s3: S3Client, bucket: str, prefix: str) -> list[ObjectVersion]:
    """List the current version of every object under `prefix` by key; deleted objects are left out."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    versions = [
        ObjectVersion(
            key=version["Key"],
            version_id=None if version["VersionId"] == "null" else version["VersionId"],
            etag=version["ETag"],
            size=version["Size"],
            last_modified=version["LastModified"].isoformat(),
        )
        for page in pages
        for version in page.get("Versions", [])
        if version["IsLatest"]
    ]
    return sorted(versions, key=lambda version: version["key"])


def list_sizes(s3: S3Client, bucket: str, prefix: str) -> dict[str, int]:
    """Return the size in bytes of every object under `prefix`, by key."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}


def open_version(s3: S3Client, bucket: str, version: ObjectVersion) -> StreamingBody | None:
    """Open exactly the listed version for reading.

    Returns None when it cannot be had any more: overwritten or deleted in a bucket that keeps no versions.
    """
    pin: dict[str, Any] = (
        {"VersionId": version["version_id"]} if version["version_id"] else {"IfMatch": version["etag"]}
    )
    try:
        return s3.get_object(Bucket=bucket, Key=version["key"], **pin)["Body"]
    except ClientError as error:
        if error_code(error) in MISSING | PRECONDITION_FAILED:
            return None
        raise


def read_json(s3: S3Client, bucket: str, key: str) -> Any:
    """Return the decoded JSON object, or None when there is no such object."""
    try:
        return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        if error_code(error) in MISSING:
            return None
        raise


def write_json(s3: S3Client, bucket: str, key: str, value: Any) -> None:
    """Write `value` as JSON, replacing what is there."""
    s3.put_object(Bucket=bucket, Key=key, Body=_to_json(value), ContentType="application/json")


def write_json_once(s3: S3Client, bucket: str, key: str, value: Any) -> Any:
    """Write `value` as JSON unless the object exists; return what the object holds afterwards.

    A second writer, or an SDK retry whose first answer was lost, is told 412 and reads what was written.

    Raises:
        RuntimeError: another writer was at it and has not finished; a retry will find what it wrote.
    """
    try:
        s3.put_object(
            Bucket=bucket, Key=key, Body=_to_json(value), ContentType="application/json", IfNoneMatch="*"
        )
    except ClientError as error:
        if error_code(error) not in PRECONDITION_FAILED | CONFLICT:
            raise
    written = read_json(s3, bucket, key)
    if written is None:
        raise RuntimeError(f"s3://{bucket}/{key} is being written by another task")
    return written


def copy_object(
    s3: S3Client,
    source: tuple[str, str, str | None],
    destination: tuple[str, str],
    **extra_args: Any,
) -> None:
    """Copy `(bucket, key, version_id)` to `(bucket, key)`, in one request up to `MULTIPART_COPY_ABOVE`."""
    bucket, key, version_id = source
    copy_source: Any = {"Bucket": bucket, "Key": key, **({"VersionId": version_id} if version_id else {})}
    s3.copy(
        CopySource=copy_source,
        Bucket=destination[0],
        Key=destination[1],
        ExtraArgs=extra_args,
        Config=_COPY_CONFIG,
    )


def copy_verified(
    s3: S3Client,
    source: tuple[str, str, str | None],
    destination: tuple[str, str],
    **extra_args: Any,
) -> None:
    """Copy `(bucket, key, version_id)` to `(bucket, key)` and prove that the copy has the same bytes.

    A destination that already holds the same bytes is left as it is.

    Raises:
        ReconciliationError: the copy differs from its source.
    """
    if _same_content(s3, source, destination):
        return
    copy_object(s3, source, destination, **extra_args)
    if not _same_content(s3, source, destination):
        raise ReconciliationError(
            f"s3://{destination[0]}/{destination[1]} is not equal to its source "
            f"s3://{source[0]}/{source[1]}; the source is left where it is. Clear this task to copy again."
        )


def delete_objects(s3: S3Client, bucket: str, keys: list[str]) -> None:
    """Delete the objects, 1,000 a call.

    Raises:
        RuntimeError: S3 answered 200 but could not delete some of them.
    """
    for start in range(0, len(keys), 1000):
        response = s3.delete_objects(
            Bucket=bucket,
            Delete={"Objects": [{"Key": key} for key in keys[start : start + 1000]], "Quiet": True},
        )
        if errors := response.get("Errors"):
            raise RuntimeError(
                f"{len(errors)} objects of s3://{bucket} were not deleted, first {errors[0].get('Key')}: "
                f"{errors[0].get('Code')} {errors[0].get('Message')}"
            )


def _to_json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def _same_content(s3: S3Client, source: tuple[str, str, str | None], copy: tuple[str, str]) -> bool:
    copied = _head(s3, (*copy, None))
    if copied is None:
        return False
    original = _head(s3, source)
    if original is None or original["ContentLength"] != copied["ContentLength"]:
        return False
    # Equal ETags prove equal bytes; different ones prove nothing where an object is multipart or under KMS.
    if original["ETag"] == copied["ETag"]:
        return True
    for checksum in ("ChecksumSHA256", "ChecksumCRC64NVME", "ChecksumCRC32C", "ChecksumCRC32"):
        if checksum in original and original.get(checksum) == copied.get(checksum):
            return True
    return _sha256(s3, source) == _sha256(s3, (*copy, None))


def _head(s3: S3Client, location: tuple[str, str, str | None]) -> Any:
    bucket, key, version_id = location
    extra: dict[str, Any] = {"VersionId": version_id} if version_id else {}
    try:
        return s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED", **extra)
    except ClientError as error:
        if error_code(error) in MISSING:
            return None
        raise


def _sha256(s3: S3Client, location: tuple[str, str, str | None]) -> str:
    bucket, key, version_id = location
    extra: dict[str, Any] = {"VersionId": version_id} if version_id else {}
    digest = hashlib.sha256()
    for chunk in s3.get_object(Bucket=bucket, Key=key, **extra)["Body"].iter_chunks(1024**2):
        digest.update(chunk)
    return digest.hexdigest()
