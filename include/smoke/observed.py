"""Reads the runs' results from table and buckets, and compares them with the expected values."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from include.smoke.account import Account

# These depend on when and how a run computed, not on what.
_OF_THE_RUN = ("version", "run_key", "computed_at", "catalogs_frozen_at")
_TOTALS = ("files", "archived", "quarantined", "rows", "valid", "rejected", "new", "repeated")
_REJECTED_COLUMNS = ("source_file", "row", "user_id", "track_id", "listen_time")
_VERSIONED = re.compile(r"__[^/]*?(?=\.csv)")


def observe(account: Account) -> dict[str, Any]:
    """Read all results, in the form of `data.AFTER_LATE`."""
    names, s3 = account.names, account.client("s3")
    archive = {entry["Key"]: entry for entry in _list(s3, names.archive_bucket)}

    def read(key: str) -> str:
        body: bytes = s3.get_object(Bucket=names.archive_bucket, Key=key)["Body"].read()
        return body.decode()

    history = [key for key in archive if key.startswith("listens/")]
    found: dict[str, Any] = {
        **_read_items(account),
        "stream files left in the source": [
            entry["Key"] for entry in _list(s3, names.source_bucket, "streams/")
        ],
        "objects of runs left in the intermediate bucket": [
            entry["Key"] for entry in _list(s3, names.intermediate_bucket, "runs/")
        ],
        "unfinished uploads": [
            upload["Key"]
            for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=names.intermediate_bucket)
            for upload in page.get("Uploads", [])
        ],
        "objects of the history that are not Parquet": [
            key for key in history if not key.endswith(".parquet")
        ],
        "days of the history": sorted({key.split("/")[1].removeprefix("listen_date=") for key in history}),
    }
    for key, entry in archive.items():
        name = _VERSIONED.sub("", key.rpartition("/")[2])
        if key.startswith("streams/"):
            found[f"archive/{name}"] = (entry.get("StorageClass", "STANDARD"), read(key))
        elif key.endswith("/report.json"):
            report = json.loads(read(key))
            files = sorted(file["key"].removeprefix("streams/") for file in report["files"])
            found[f"report of {', '.join(files)}"] = {total: report["totals"][total] for total in _TOTALS}
        elif "/rejected_rows/part-" in key:
            rows = csv.DictReader(read(key).splitlines())
            found["rejected rows"] = [tuple(row[column] for column in _REJECTED_COLUMNS) for row in rows]
        elif key.startswith("quarantine/") and key.endswith(".reason.json"):
            found[f"reason of {name.removesuffix('.reason.json')}"] = json.loads(read(key))["reason"]
        elif key.startswith("quarantine/") and key.endswith(".csv"):
            found[f"quarantine/{name}"] = read(key)
    return found


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return a line for each value that differs from the expected one."""
    return list(_differences(expected, found, ""))


def _differences(expected: Mapping[str, Any], found: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in sorted(expected.keys() | found.keys()):
        place = f"{path}{name}"
        if name not in found:
            yield f"{place}: missing, expected {expected[name]!r}"
        elif name not in expected:
            yield f"{place}: {found[name]!r}, expected none"
        elif isinstance(expected[name], Mapping) and isinstance(found[name], Mapping):
            yield from _differences(expected[name], found[name], f"{place}: ")
        elif expected[name] != found[name]:
            yield f"{place}: {found[name]!r}, expected {expected[name]!r}"


def _read_items(account: Account) -> dict[str, Any]:
    deserialize = TypeDeserializer().deserialize
    pages = (
        account.client("dynamodb")
        .get_paginator("scan")
        .paginate(TableName=account.names.table, ConsistentRead=True)
    )
    items: dict[str, Any] = {}
    for page in pages:
        for stored in page["Items"]:
            item = {name: deserialize(value) for name, value in stored.items() if name not in _OF_THE_RUN}
            items[f"item {item.pop('date')} {item.pop('track_genre')}"] = item
    return items


def _list(s3: Any, bucket: str, prefix: str = "") -> list[dict[str, Any]]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry for page in pages for entry in page.get("Contents", [])]
