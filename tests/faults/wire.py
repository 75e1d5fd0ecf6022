"""Counts the AWS calls of a process and makes any of them fail."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import botocore.endpoint
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import EndpointConnectionError
from botocore.httpsession import URLLib3Session

from tests.e2e.deployment import connect

PAUSED = "paused before"

Send = Callable[[AWSPreparedRequest], AWSResponse]


@dataclass(frozen=True)
class Call:
    """An AWS call: its operation and its task.

    Each attempt of the SDK is a call; attempts of the same request share a `request_id`.
    """

    task: str
    operation: str
    mutating: bool
    request_id: str


@dataclass(frozen=True)
class Fault:
    """A fault of an attempt's AWS calls.

    Attributes:
        kind: a key of `FAULTS`, or `PAUSED`.
        call: number of the affected call, from 1 on; 0 affects the first attempt of every call.
        lasts: whether all later calls are affected too.
        operation: pattern of the operations that are counted.
        task: pattern of the tasks whose calls are counted.
    """

    kind: str
    call: int = 1
    lasts: bool = False
    operation: str = "*"
    task: str = "*"


class Wire:
    """Replaces the send method of the SDK's HTTP session; each attempt of the SDK is a call."""

    def __init__(self, fault: Fault | None, pause: Callable[[], object]) -> None:
        """Take the fault, and a function that blocks until this process may continue."""
        self.task = ""
        self.calls: list[Call] = []
        self.waits: list[float] = []
        self._fault = fault
        self._pause = pause
        self._suffered: set[str] = set()

    def install(self) -> None:
        send = URLLib3Session.send

        def sent(session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
            return self._handle(request, lambda request: send(session, request))

        URLLib3Session.send = sent  # type: ignore[method-assign]
        # The SDK's waits between its attempts are recorded instead of slept.
        botocore.endpoint.time = SimpleNamespace(  # type: ignore[attr-defined]
            sleep=self.waits.append, time=time.time
        )

    def _handle(self, request: AWSPreparedRequest, send: Send) -> AWSResponse:
        call = Call(self.task, _operation(request), _is_mutating(request), _request_id(request))
        self.calls.append(call)
        if self._fault and self._strikes(request):
            if self._fault.kind == PAUSED:
                self._pause()
                return send(request)
            return FAULTS[self._fault.kind](request, send)
        return send(request)

    def _strikes(self, request: AWSPreparedRequest) -> bool:
        assert self._fault is not None
        if not self._counts(self.calls[-1]):
            return False
        number = sum(map(self._counts, self.calls))
        if self._fault.call:
            return number >= self._fault.call if self._fault.lasts else number == self._fault.call
        request_id = self.calls[-1].request_id
        if request_id in self._suffered:
            return False
        self._suffered.add(request_id)
        return True

    def _counts(self, call: Call) -> bool:
        assert self._fault is not None
        return fnmatchcase(call.operation, self._fault.operation) and fnmatchcase(call.task, self._fault.task)


def _operation(request: AWSPreparedRequest) -> str:
    target = request.headers.get("X-Amz-Target", b"")
    if target:
        return (target.decode() if isinstance(target, bytes) else target).partition(".")[2]
    copy = " (copy)" if "x-amz-copy-source" in request.headers else ""
    path = "/".join(request.url.split("/")[4:]) or request.url.rpartition("/")[2]
    return f"{request.method}{copy} {path}"


def _request_id(request: AWSPreparedRequest) -> str:
    value = request.headers["amz-sdk-invocation-id"]
    return value.decode() if isinstance(value, bytes) else str(value)


def _is_mutating(request: AWSPreparedRequest) -> bool:
    target = request.headers.get("X-Amz-Target", b"")
    if target:
        return _operation(request).startswith(("Put", "Update", "Delete", "Transact", "Create", "Start"))
    return request.method in {"PUT", "POST", "DELETE"}


def _die_before(request: AWSPreparedRequest, send: Send) -> AWSResponse:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _die_after(request: AWSPreparedRequest, send: Send) -> AWSResponse:
    send(request)
    return _die_before(request, send)


def _connection_error(request: AWSPreparedRequest, send: Send) -> AWSResponse:
    raise EndpointConnectionError(endpoint_url=request.url)


def _corrupt_copy(request: AWSPreparedRequest, send: Send) -> AWSResponse:
    answer = send(request)
    if "x-amz-copy-source" in request.headers:
        s3 = connect("s3", request.url[: request.url.index("/", 8)])
        bucket, key = unquote(urlsplit(request.url).path).lstrip("/").split("/", 1)
        s3.put_object(Bucket=bucket, Key=key, Body=b"user_id,track_id,listen_time\n")
    return answer


def _after(fault: Callable[[AWSPreparedRequest, Send], AWSResponse]) -> Callable[..., AWSResponse]:
    def rule(request: AWSPreparedRequest, send: Send) -> AWSResponse:
        send(request)
        return fault(request, send)

    return rule


def _answer(
    status: int, s3_code: str, dynamodb_status: int, dynamodb_code: str
) -> Callable[..., AWSResponse]:
    def rule(request: AWSPreparedRequest, send: Send) -> AWSResponse:
        if request.headers.get("X-Amz-Target"):
            body = f'{{"__type": "com.amazonaws.dynamodb.v20120810#{dynamodb_code}", "message": "told to"}}'
            return _response(request, dynamodb_status, body)
        body = f"<Error><Code>{s3_code}</Code><Message>told to</Message></Error>"
        return _response(request, status, "" if request.method == "HEAD" else body)

    return rule


class _Body(io.BytesIO):
    def stream(self) -> Any:
        yield self.read()


def _response(request: AWSPreparedRequest, status: int, body: str) -> AWSResponse:
    return AWSResponse(request.url, status, {}, _Body(body.encode()))


_unavailable = _answer(503, "ServiceUnavailable", 500, "InternalServerError")

FAULTS: dict[str, Callable[[AWSPreparedRequest, Send], AWSResponse]] = {
    "killed before": _die_before,
    "killed after": _die_after,
    "unavailable": _unavailable,
    "throttled": _answer(503, "SlowDown", 400, "ProvisionedThroughputExceededException"),
    "denied": _answer(403, "AccessDenied", 400, "AccessDeniedException"),
    "expired": _answer(400, "ExpiredToken", 400, "ExpiredTokenException"),
    "connection error": _connection_error,
    "copy corrupted": _corrupt_copy,
    "answer lost, 503": _after(_unavailable),
    "answer lost, connection error": _after(_connection_error),
}
