"""A local AWS that keeps states of pipelines and returns to them; see `KeptState`."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends
from moto.moto_api._internal.urls import url_paths
from moto.s3.models import s3_backends

from include.commands.environment import REGION
from include.local_aws.server import serve

Answer = tuple[int, dict[str, str], str]
# Buckets and tables by name.
_kept: list[tuple[dict[str, Any], dict[str, Any]]] = []


def keep(request: Any, url: str, headers: Any) -> Answer:
    """Keep the buckets and the table of the request; answer with the number of the state."""
    names = json.loads(request.data)
    buckets = {name: _buckets()[name] for name in names["buckets"]}
    _kept.append(deepcopy((buckets, {names["table"]: _tables()[names["table"]]})))
    return 200, {}, str(len(_kept) - 1)


def restore(request: Any, url: str, headers: Any) -> Answer:
    """Return to the state of the number in the request."""
    buckets, tables = deepcopy(_kept[int(request.data)])
    _buckets().update(buckets)
    _tables().update(tables)
    return 200, {}, ""


def _buckets() -> dict[str, Any]:
    buckets: dict[str, Any] = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets
    return buckets


def _tables() -> dict[str, Any]:
    tables: dict[str, Any] = dynamodb_backends[DEFAULT_ACCOUNT_ID][REGION].tables
    return tables


if __name__ == "__main__":
    url_paths.update({"{0}/moto-api/keep": keep, "{0}/moto-api/restore": restore})
    serve("127.0.0.1", 0)
    # Python would free all states first, object by object.
    os._exit(0)
