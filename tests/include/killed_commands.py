"""Kills a command at one of its calls of AWS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session


class Killed(BaseException):
    """Represents the end of the process."""


def calls_of(
    command: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, die_at: int = 0, after: bool = False
) -> list[bool]:
    """Run the command, and die before or after that call, counted from 1.

    The command must make its calls in the same order every time.

    Returns:
        For each call, whether it may change something.
    """
    calls: list[bool] = []
    send = URLLib3Session.send

    def sent(session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        calls.append(_may_change(request))
        if not die_at or len(calls) < die_at:
            return send(session, request)
        if len(calls) == die_at and after:
            send(session, request)
        # No thread of the command makes a further call.
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(URLLib3Session, "send", sent)
        if die_at:
            with pytest.raises(Killed):
                command()
        else:
            command()
    return calls


def changes_among(calls: list[bool]) -> list[int]:
    """Return the numbers, from 1, of the calls that may change something."""
    return [number for number, changes in enumerate(calls, 1) if changes]


def _may_change(request: AWSPreparedRequest) -> bool:
    # All requests to DynamoDB are POST; their header names the operation.
    if operation := request.headers.get("X-Amz-Target"):
        return b"UpdateItem" in operation
    return request.method in {"PUT", "POST", "DELETE"}
