"""A pipeline's state in S3 and DynamoDB, read at one moment."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from tests.kpi_oracle import Items


@dataclass(frozen=True)
class Resources:
    """The resources that hold a pipeline's data, with their clients."""

    s3: Any
    dynamodb: Any
    source_bucket: str
    intermediate_bucket: str
    archive_bucket: str
    kpi_table: str


@dataclass
class Observed:
    """A pipeline's complete state at one moment.

    Attributes:
        source: content of the current objects under `streams/`, by key.
        archive: content of all current objects of the archive bucket, by key.
        temporary_keys: keys of the current objects under `runs/` of the intermediate bucket.
        items: the table's items by (date, track_genre), without these two attributes.
    """

    source: dict[str, bytes]
    archive: dict[str, bytes]
    temporary_keys: list[str]
    items: Items

    def archived(self, prefix: str) -> dict[str, bytes]:
        """Return the objects of the archive under a prefix."""
        return {key: content for key, content in self.archive.items() if key.startswith(prefix)}

    @property
    def reports(self) -> dict[str, dict[str, Any]]:
        """All run reports by run key."""
        return self._records_of_runs("report.json")

    @property
    def manifests(self) -> dict[str, dict[str, Any]]:
        """The lists of files that the runs worked on, by run key."""
        return self._records_of_runs("manifest.json")

    def _records_of_runs(self, name: str) -> dict[str, dict[str, Any]]:
        return {
            key.split("/")[1]: json.loads(content)
            for key, content in self.archived("runs/").items()
            if key.endswith(f"/{name}")
        }


def observe(resources: Resources) -> Observed:
    """Read the pipeline's complete state."""
    return Observed(
        source=read_objects(resources, resources.source_bucket, "streams/"),
        archive=read_objects(resources, resources.archive_bucket),
        temporary_keys=_list_keys(resources, resources.intermediate_bucket, "runs/"),
        items=scan_items(resources),
    )


def snapshot(resources: Resources) -> dict[str, Any]:
    """Return every current object (version and ETag) and every item, by a name for messages.

    How runs failed or were skipped is left out: people read it, and the pipeline does not.
    """
    found: dict[str, Any] = {}
    for bucket in (resources.source_bucket, resources.intermediate_bucket, resources.archive_bucket):
        for page in resources.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for version in page.get("Versions", []):
                if version["IsLatest"] and not version["Key"].endswith("/ending.json"):
                    found[f"s3://{bucket}/{version['Key']}"] = (version["VersionId"], version["ETag"])
    for key, item in scan_items(resources).items():
        found[f"item {key}"] = item
    return found


def scan_items(resources: Resources) -> Items:
    """Return all items of the table by (date, track_genre), without these two attributes."""
    deserialize = TypeDeserializer().deserialize
    scan = resources.dynamodb.get_paginator("scan")
    items: Items = {}
    for page in scan.paginate(TableName=resources.kpi_table, ConsistentRead=True):
        for stored in page["Items"]:
            item = {name: deserialize(value) for name, value in stored.items()}
            items[item.pop("date"), item.pop("track_genre")] = item
    return items


def read_objects(resources: Resources, bucket: str, prefix: str = "") -> dict[str, bytes]:
    """Return the content of every current object under the prefix, by key."""
    keys = _list_keys(resources, bucket, prefix)
    with ThreadPoolExecutor(8) as pool:
        contents = pool.map(lambda key: resources.s3.get_object(Bucket=bucket, Key=key)["Body"].read(), keys)
        return dict(zip(keys, contents, strict=True))


def _list_keys(resources: Resources, bucket: str, prefix: str) -> list[str]:
    pages = resources.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
