"""S3 in a local folder, hooked in where the AWS SDK sends its requests.

A measured process pays for the SDK's work on the bytes (checksums, chunks, copies, threads), but not for a
network or a server. Objects are files, `<folder>/<bucket>/<key>`; versions are not kept.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from boto3.s3.transfer import TransferConfig
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session

# With https, the SDK signs and checks as it does with AWS; nothing listens at this address.
ENDPOINT_URL = "https://127.0.0.1:1"
_PIECE = 1024**2
# Applies to all parts of an upload except the last.
_PART_BYTES = TransferConfig().multipart_chunksize
_MODIFIED = "2024-06-26T00:00:00.000Z"


class FolderS3:
    """Answers this process's S3 calls from a folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder that holds the buckets."""
        self._folder = folder

    def install(self) -> None:
        """Answer all requests of this process from now on."""
        URLLib3Session.send = lambda _, request: self._answer(request)  # type: ignore[method-assign]

    def _answer(self, request: AWSPreparedRequest) -> AWSResponse:
        parts = urlsplit(request.url)
        path = self._folder / unquote(parts.path).lstrip("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        answer = getattr(self, f"_{request.method.lower()}")
        response: AWSResponse = answer(request, path, query)
        return response

    def _get(self, request: AWSPreparedRequest, path: Path, query: dict[str, str]) -> AWSResponse:
        if "versions" in query or "list-type" in query:
            return self._listing(request, path, query)
        if not path.is_file():
            return _response(request, 404, "<Error><Code>NoSuchKey</Code></Error>")
        file = path.open("rb", buffering=0)
        size = path.stat().st_size
        wanted = _header(request, "Range")
        if not wanted:
            return AWSResponse(request.url, 200, _headers(path, size), _Body(file, size))
        first, last = wanted.removeprefix("bytes=").split("-")
        end = min(size, int(last) + 1 if last else size)
        file.seek(int(first))
        headers = _headers(path, end - int(first)) | {"Content-Range": f"bytes {first}-{end - 1}/{size}"}
        return AWSResponse(request.url, 206, headers, _Body(file, end - int(first)))

    def _head(self, request: AWSPreparedRequest, path: Path, query: dict[str, str]) -> AWSResponse:
        if not path.is_file():
            return _response(request, 404)
        return AWSResponse(request.url, 200, _headers(path, path.stat().st_size), _Empty())

    def _put(self, request: AWSPreparedRequest, path: Path, query: dict[str, str]) -> AWSResponse:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _header(request, "If-None-Match") and path.exists():
            return _response(request, 412, "<Error><Code>PreconditionFailed</Code></Error>")
        if "partNumber" in query:
            return self._put_part(request, path, int(query["partNumber"]))
        path.unlink(missing_ok=True)
        if source := self._copied(request):
            # S3 copies by itself.
            os.link(source, path)
            return _response(request, 200, _xml("CopyObjectResult", f"<ETag>{_etag(path)}</ETag>"))
        with path.open("wb") as file:
            for piece in _sent(request):
                file.write(piece)
        return AWSResponse(request.url, 200, {"ETag": _etag(path)}, _Empty())

    def _put_part(self, request: AWSPreparedRequest, path: Path, number: int) -> AWSResponse:
        with os.fdopen(os.open(_upload(path), os.O_WRONLY | os.O_CREAT), "wb") as file:
            file.seek((number - 1) * _PART_BYTES)
            if source := self._copied(request):
                with source.open("rb") as original:
                    os.copy_file_range(original.fileno(), file.fileno(), _PART_BYTES, file.tell())
                return _response(request, 200, _xml("CopyPartResult", f'<ETag>"{number}"</ETag>'))
            for piece in _sent(request):
                file.write(piece)
        return AWSResponse(request.url, 200, {"ETag": f'"{number}"'}, _Empty())

    def _copied(self, request: AWSPreparedRequest) -> Path | None:
        source = _header(request, "x-amz-copy-source")
        return self._folder / unquote(source).lstrip("/").partition("?")[0] if source else None

    def _post(self, request: AWSPreparedRequest, path: Path, query: dict[str, str]) -> AWSResponse:
        if "uploads" in query:
            path.parent.mkdir(parents=True, exist_ok=True)
            _upload(path).unlink(missing_ok=True)
            return _response(request, 200, _xml("InitiateMultipartUploadResult", "<UploadId>u</UploadId>"))
        _upload(path).replace(path)
        return _response(request, 200, _xml("CompleteMultipartUploadResult", f"<ETag>{_etag(path)}</ETag>"))

    def _listing(self, request: AWSPreparedRequest, bucket: Path, query: dict[str, str]) -> AWSResponse:
        entries = []
        element = "Version" if "versions" in query else "Contents"
        for path in sorted(path for path in bucket.rglob("*") if path.is_file()):
            key = path.relative_to(bucket).as_posix()
            if key.startswith(query.get("prefix", "")):
                entries.append(
                    f"<{element}><Key>{escape(key)}</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>"
                    f"<LastModified>{_MODIFIED}</LastModified><ETag>{_etag(path)}</ETag>"
                    f"<Size>{path.stat().st_size}</Size></{element}>"
                )
        root = "ListVersionsResult" if "versions" in query else "ListBucketResult"
        return _response(request, 200, _xml(root, "<IsTruncated>false</IsTruncated>" + "".join(entries)))


class _Body(io.RawIOBase):
    """A part of an open file, in the form in which the SDK reads an answer."""

    def __init__(self, file: io.FileIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, amount: int | None = -1) -> bytes:
        wanted = self._left if amount is None or amount < 0 else min(amount, self._left)
        data = self._file.read(wanted)
        self._left -= len(data)
        return data

    def stream(self) -> Iterator[bytes]:
        while data := self.read(_PIECE):
            yield data

    def close(self) -> None:
        self._file.close()
        super().close()


class _Empty(io.BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


def _sent(request: AWSPreparedRequest) -> Iterator[bytes | memoryview]:
    body: Any = request.body
    if not hasattr(body, "read"):
        yield body.encode() if isinstance(body, str) else bytes(body or b"")
        return
    if "aws-chunked" not in (_header(request, "Content-Encoding") or ""):
        while piece := body.read(_PIECE):
            yield piece
        return
    # Each chunk starts with its length. The last one is empty, and the checksum follows it.
    for chunk in body:
        length, _, _ = chunk[:20].partition(b"\r\n")
        start = len(length) + 2
        yield memoryview(chunk)[start : start + int(length, 16)]


def _header(request: AWSPreparedRequest, name: str) -> str | None:
    value: Any = request.headers.get(name)
    return value.decode() if isinstance(value, bytes) else value


def _headers(path: Path, length: int) -> dict[str, str]:
    return {
        "Content-Length": str(length),
        "ETag": _etag(path),
        "Last-Modified": "Wed, 26 Jun 2024 00:00:00 GMT",
    }


def _etag(path: Path) -> str:
    return f'"{path.stat().st_mtime_ns:x}"'


def _upload(path: Path) -> Path:
    return path.with_name(f".{path.name}.upload")


def _xml(root: str, content: str) -> str:
    return f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{content}</{root}>'


def _response(request: AWSPreparedRequest, status: int, body: str = "") -> AWSResponse:
    headers = {"Content-Type": "application/xml"}
    return AWSResponse(request.url, status, headers, _Empty(body.encode()))
