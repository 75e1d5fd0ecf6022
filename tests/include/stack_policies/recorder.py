"""Records what the AWS clients of a process call."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.client import BaseClient


@dataclass(frozen=True)
class Call:
    """A call of the SDK: service (`s3`), operation (`GetObject`), its parameters, the access key it used."""

    service: str
    operation: str
    parameters: Mapping[str, Any]
    access_key: str = ""


def record_calls(file: Path) -> None:
    """Let every AWS client of this process write its calls to the file, a JSON line each."""
    make_call = BaseClient._make_api_call  # type: ignore[attr-defined]
    lock = threading.Lock()

    def recorded(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
        call = {
            "service": self.meta.service_model.service_name,
            "operation": operation,
            "parameters": {name: value for name, value in parameters.items() if name != "Body"},
            "access_key": self._request_signer._credentials.access_key,
        }
        with lock, file.open("a") as lines:
            lines.write(json.dumps(call, default=str) + "\n")
        return make_call(self, operation, parameters)

    BaseClient._make_api_call = recorded  # type: ignore[attr-defined]


def read_calls(file: Path) -> list[Call]:
    """Return what was recorded."""
    return [Call(**json.loads(line)) for line in file.read_text().splitlines()]
