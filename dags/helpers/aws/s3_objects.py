"""S3 operations that several tasks share: pinned reads, verified copies, JSON objects, listings."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from helpers.contract.records import ObjectVersion
from helpers.contract.wording import counted
from helpers.errors import CopyError, RetryableError

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CopySourceTypeDef, HeadObjectOutputTypeDef

logger = logging.getLogger(__name__)

# CopyObject copies up to 5 GB and keeps the ETag. Only larger objects need a multipart copy.
MAX_COPY_BYTES = 5 * 1024**3
_COPY_IN_PARTS = TransferConfig(multipart_threshold=1, multipart_chunksize=512 * 1024**2)

MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
PRECONDITION_FAILED = frozenset({"412", "PreconditionFailed"})
# S3 is processing another request for the object and asks the caller to retry.
CONFLICT = frozenset({"409", "ConditionalRequestConflict"})


# Prefix of the reason if S3 denies this role access to an object; other objects may be readable.
ACCESS_DENIED = "access denied"


class UnreadableObjectError(Exception):
    """S3 refuses to return this object; the message gives the reason and the remedy."""


class HashedBody:
    """An object's body that is hashed while it is read."""

    def __init__(self, body: StreamingBody) -> None:
        self._body = body
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; empty at the end."""
        data: bytes = self._body.read(size)
        self._digest.update(data)
        return data

    def sha256(self) -> str:
        """Read the rest of the object and return the hex digest of all of it."""
        while self.read(1024**2):
            pass
        return self._digest.hexdigest()


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
    """Return key -> size in bytes for the objects under `prefix`."""
    return {listed["key"]: listed["size"] for listed in list_objects(s3, bucket, prefix)}


def list_objects(s3: S3Client, bucket: str, prefix: str) -> list[ObjectVersion]:
    """List the objects under `prefix` by key, without the ids of their versions."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [
        ObjectVersion(
            key=entry["Key"],
            version_id=None,
            etag=entry["ETag"],
            size=entry["Size"],
            last_modified=entry["LastModified"].isoformat(),
        )
        for page in pages
        for entry in page.get("Contents", [])
    ]


def list_modified(s3: S3Client, bucket: str, prefix: str) -> dict[str, datetime]:
    """Return key -> time of the last modification for the objects under `prefix`."""
    return {
        listed["key"]: datetime.fromisoformat(listed["last_modified"])
        for listed in list_objects(s3, bucket, prefix)
    }


def open_version(s3: S3Client, bucket: str, version: ObjectVersion) -> StreamingBody | None:
    """Open exactly the listed version for reading.

    Returns None if the version is gone: it was overwritten or deleted in a bucket without versioning.

    Raises:
        UnreadableObjectError: the object is in an archive storage class, or its key or ACL denies access.
    """
    pin: dict[str, Any] = (
        {"VersionId": version["version_id"]} if version["version_id"] else {"IfMatch": version["etag"]}
    )
    try:
        return s3.get_object(Bucket=bucket, Key=version["key"], **pin)["Body"]
    except ClientError as error:
        if error_code(error) in MISSING | PRECONDITION_FAILED:
            return None
        if reason := _why_unreadable(error):
            raise UnreadableObjectError(reason) from error
        raise


def _why_unreadable(error: ClientError) -> str | None:
    """Return why S3 refuses this one object, or None if the error does not concern the object."""
    code, message = error_code(error), error.response.get("Error", {}).get("Message", "")
    if code == "InvalidObjectState":
        answer: Any = error.response
        storage_class = answer.get("StorageClass") or answer["Error"].get("StorageClass") or "of an archive"
        return f"in storage class {storage_class}: restore it"
    if code in {"403", "AccessDenied"}:
        return f"{ACCESS_DENIED} ({message}): grant the right to read it and to use its KMS key"
    if code.startswith("KMS."):
        return f"its KMS key cannot be used ({code}: {message}): make the key usable"
    if code == "InvalidRequest":
        # The sender may have encrypted the object with its own key, for example.
        return f"S3 refuses to read it ({message}): upload it in a form that can be read"
    return None


def head_object(s3: S3Client, bucket: str, key: str, **extra_args: Any) -> HeadObjectOutputTypeDef | None:
    """Return the object's metadata, or None if there is no such object or version."""
    try:
        return s3.head_object(Bucket=bucket, Key=key, **extra_args)
    except ClientError as error:
        if error_code(error) in MISSING:
            return None
        raise


def read_json(s3: S3Client, bucket: str, key: str) -> Any:
    """Return the decoded JSON object, or None if there is no such object."""
    try:
        return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        if error_code(error) in MISSING:
            return None
        raise


def write_json(s3: S3Client, bucket: str, key: str, value: Any) -> None:
    """Write `value` as JSON and replace an existing object."""
    s3.put_object(Bucket=bucket, Key=key, Body=_to_json(value), ContentType="application/json")


def write_json_once(s3: S3Client, bucket: str, key: str, value: Any) -> Any:
    """Write `value` as JSON unless the object exists; return the object's content afterwards.

    A second writer gets status 412 and reads the existing object. So does an SDK retry after a lost response.

    Raises:
        RetryableError: another writer has not finished yet; a retry will find its object.
    """
    body = _to_json(value)
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*")
        return json.loads(body)
    except ClientError as error:
        if error_code(error) not in PRECONDITION_FAILED | CONFLICT:
            raise
    written = read_json(s3, bucket, key)
    if written is None:
        raise RetryableError(f"s3://{bucket}/{key} is being written by another task")
    return written


def copy_object(
    s3: S3Client, source: CopySourceTypeDef, destination: tuple[str, str], **arguments: Any
) -> None:
    """Copy an object to `(bucket, key)` in one request, which S3 allows up to 5 GB.

    Args:
        s3: the client.
        source: `Bucket` and `Key`, and `VersionId` unless the current version is meant.
        destination: bucket and key.
        arguments: further arguments of CopyObject.
    """
    s3.copy_object(CopySource=source, Bucket=destination[0], Key=destination[1], **arguments)


def copy_verified(
    s3: S3Client,
    bucket: str,
    version: ObjectVersion,
    destination: tuple[str, str],
    sha256: str | None = None,
    **arguments: Any,
) -> None:
    """Copy a listed version to `(bucket, key)` and verify that the copy has the same bytes.

    Args:
        s3: the client.
        bucket: the bucket of the version.
        version: the version, as it was listed.
        destination: bucket and key.
        sha256: hex digest of the version, if known. S3 computes the copy's digest, so neither object is read.
        arguments: further arguments of CopyObject.

    Raises:
        CopyError: the copy differs from its source.
    """
    source: CopySourceTypeDef = {"Bucket": bucket, "Key": version["key"]}
    # A bucket without versioning may have other bytes under the key by now.
    arguments["CopySourceIfMatch"] = version["etag"]
    if version["version_id"]:
        source["VersionId"] = version["version_id"]
    if sha256:
        # If no algorithm is given, S3 uses the source's kind of checksum for the copy.
        arguments["ChecksumAlgorithm"] = "SHA256"
    if version["size"] > MAX_COPY_BYTES:
        s3.copy(source, *destination, ExtraArgs=arguments, Config=_COPY_IN_PARTS)
    else:
        copy_object(s3, source, destination, **arguments)
    if not _same_content(s3, source, version, destination, sha256):
        raise CopyError(
            f"s3://{destination[0]}/{destination[1]} is not equal to its source "
            f"s3://{bucket}/{version['key']}; the source is left where it is. Clear this task to copy again."
        )


def delete_objects(s3: S3Client, bucket: str, keys: list[str]) -> None:
    """Delete the objects, 1,000 per call.

    Raises:
        RetryableError: S3 returned 200 but could not delete some of them.
    """
    for start in range(0, len(keys), 1000):
        response = s3.delete_objects(
            Bucket=bucket,
            Delete={"Objects": [{"Key": key} for key in keys[start : start + 1000]], "Quiet": True},
        )
        if errors := response.get("Errors"):
            raise RetryableError(
                f"{counted(len(errors), 'object')} not deleted from s3://{bucket}, first "
                f"{errors[0].get('Key')}: {errors[0].get('Code')} {errors[0].get('Message')}"
            )


def _to_json(value: Any) -> bytes:
    # On one line, as Athena needs it: its readers of JSON take each line for a record.
    return json.dumps(value, ensure_ascii=False).encode()


def _same_content(
    s3: S3Client,
    source: CopySourceTypeDef,
    version: ObjectVersion,
    copy: tuple[str, str],
    sha256: str | None,
) -> bool:
    copied: Any = head_object(s3, *copy, ChecksumMode="ENABLED")
    if copied is None or copied["ContentLength"] != version["size"]:
        return False
    # Equal ETags prove equal bytes. Different ETags prove nothing for multipart or KMS-encrypted objects.
    if copied["ETag"] == version["etag"]:
        return True
    checksum_of_copy = copied.get("ChecksumSHA256", "")
    # A multipart object's checksum combines those of its parts and ends with their number.
    if sha256 and checksum_of_copy and "-" not in checksum_of_copy:
        return bool(base64.b64decode(checksum_of_copy).hex() == sha256)
    original: Any = s3.head_object(**source, ChecksumMode="ENABLED")
    for checksum in ("ChecksumSHA256", "ChecksumCRC64NVME", "ChecksumCRC32C", "ChecksumCRC32"):
        if checksum in original and original.get(checksum) == copied.get(checksum):
            return True
    return _sha256(s3, **source) == _sha256(s3, Bucket=copy[0], Key=copy[1])


def _sha256(s3: S3Client, **location: Any) -> str:
    digest = hashlib.sha256()
    for chunk in s3.get_object(**location)["Body"].iter_chunks(1024**2):
        digest.update(chunk)
    return digest.hexdigest()
