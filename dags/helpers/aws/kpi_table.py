"""Reads and writes days of the KPI table; a write never replaces the items of a newer computation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError

from helpers.aws.s3_objects import error_code
from helpers.contract.names import ALL_GENRES
from helpers.contract.records import Stamp

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

logger = logging.getLogger(__name__)

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
MAX_ITEM_BYTES = 400 * 1024
MAX_SORT_KEY_BYTES = 1024
# A transaction has at most 100 actions, including the condition check, and 4 MB.
MAX_CHANGES = 99
MAX_TRANSACTION_BYTES = 3 * 1024**2

# A larger version is a superset of the listens. With equal versions, the newer catalogs win.
NOT_NEWER = (
    "attribute_not_exists(#version) OR #version < :version "
    "OR (#version = :version AND (attribute_not_exists(#frozen) OR #frozen <= :frozen))"
)
_NAMES = {"#version": "version", "#frozen": "catalogs_frozen_at"}


class DayTotals(NamedTuple):
    """A day's version, its number of listens, and when the run that wrote it froze its input."""

    version: int
    listens: int
    frozen_at: str


def write_day(dynamodb: DynamoDBClient, table: str, day: str, items: list[dict[str, Any]]) -> tuple[int, int]:
    """Write a day's items, its totals last, and delete the items of genres that the day no longer has.

    A day that a newer computation wrote is left unchanged.

    Returns:
        The number of items written and the number deleted.
    """
    *genres, totals = items
    stamp = {name: totals[name] for name in Stamp.__annotations__}
    if not _mark_as_updating(dynamodb, table, day, stamp):
        logger.warning("%s holds a newer computation than version %d: left unchanged", day, stamp["version"])
        return 0, 0
    stale = _stored_genres(dynamodb, table, day) - {item["track_genre"] for item in items}
    changes = [{"Put": {"TableName": table, "Item": serialize(item)}} for item in genres]
    changes += [
        {"Delete": {"TableName": table, "Key": serialize({"date": day, "track_genre": genre})}}
        for genre in sorted(stale)
    ]
    if not _write_unless_overtaken(dynamodb, table, day, stamp, changes):
        logger.warning("%s: a newer computation than version %d overtook this one", day, stamp["version"])
        return 0, 0
    return len(genres) + _put(dynamodb, table, totals), len(stale)


def delete_day(dynamodb: DynamoDBClient, table: str, day: str, stamp: Stamp) -> int:
    """Delete all items of a day without listens, its totals last; return their number.

    A day that a newer computation wrote is left unchanged.
    """
    key = serialize({"date": day, "track_genre": ALL_GENRES})
    if not dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item"):
        return 0
    conditions: dict[str, Any] = dict(stamp)
    if not _mark_as_updating(dynamodb, table, day, conditions):
        logger.warning("%s holds a newer computation than version %d: left unchanged", day, stamp["version"])
        return 0
    genres = sorted(_stored_genres(dynamodb, table, day) - {ALL_GENRES})
    deletions = [
        {"Delete": {"TableName": table, "Key": serialize({"date": day, "track_genre": genre})}}
        for genre in genres
    ]
    if not _write_unless_overtaken(dynamodb, table, day, conditions, deletions):
        logger.warning("%s: a newer computation than version %d overtook this one", day, stamp["version"])
        return 0
    deleted = _unless_newer(
        dynamodb.delete_item,
        TableName=table,
        Key=key,
        ConditionExpression=NOT_NEWER,
        ExpressionAttributeNames=_NAMES,
        ExpressionAttributeValues=_condition_values(conditions),
    )
    return len(genres) + deleted


def read_totals(dynamodb: DynamoDBClient, table: str, day: str, consistent: bool = False) -> DayTotals | None:
    """Return the table's totals of the day, or None unless its last write was completed."""
    key = serialize({"date": day, "track_genre": ALL_GENRES})
    found: Any = dynamodb.get_item(TableName=table, Key=key, ConsistentRead=consistent).get("Item", {})
    if found.get("status", {}).get("S") != "complete":
        return None
    return DayTotals(
        int(found["version"]["N"]), int(found["listen_count"]["N"]), found["catalogs_frozen_at"]["S"]
    )


def serialize(item: dict[str, Any]) -> dict[str, Any]:
    """Return the item in DynamoDB's wire format."""
    serializer = TypeSerializer()
    return {name: serializer.serialize(value) for name, value in item.items()}


def size_in_bytes(value: Any) -> int:
    """Return an upper bound of the size that DynamoDB counts; every number counts as 21 bytes."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict):
        return 3 + sum(len(name.encode()) + 1 + size_in_bytes(element) for name, element in value.items())
    return 3 + sum(1 + size_in_bytes(element) for element in value) if isinstance(value, list) else 21


def _mark_as_updating(dynamodb: DynamoDBClient, table: str, day: str, stamp: dict[str, Any]) -> bool:
    values = _condition_values(stamp) | serialize({":status": "updating"})
    return _unless_newer(
        dynamodb.update_item,
        TableName=table,
        Key=serialize({"date": day, "track_genre": ALL_GENRES}),
        UpdateExpression="SET #status = :status, #version = :version, #frozen = :frozen",
        ConditionExpression=NOT_NEWER,
        ExpressionAttributeNames=_NAMES | {"#status": "status"},
        ExpressionAttributeValues=values,
    )


def _put(dynamodb: DynamoDBClient, table: str, item: dict[str, Any]) -> bool:
    return _unless_newer(
        dynamodb.put_item,
        TableName=table,
        Item=serialize(item),
        ConditionExpression=NOT_NEWER,
        ExpressionAttributeNames=_NAMES,
        ExpressionAttributeValues=_condition_values(item),
    )


def _write_unless_overtaken(
    dynamodb: DynamoDBClient, table: str, day: str, stamp: dict[str, Any], changes: list[Any]
) -> bool:
    """Apply the changes as long as the day's totals still carry this computation's stamp.

    A newer computation replaces the stamp first. A condition on each item's own version is not enough: a
    genre that the newer computation no longer has leaves no item to check.
    """
    check: Any = {
        "ConditionCheck": {
            "TableName": table,
            "Key": serialize({"date": day, "track_genre": ALL_GENRES}),
            "ConditionExpression": "#version = :version AND #frozen = :frozen",
            "ExpressionAttributeNames": _NAMES,
            "ExpressionAttributeValues": _condition_values(stamp),
        }
    }
    for chunk in _transactions(changes):
        try:
            dynamodb.transact_write_items(TransactItems=[check, *chunk])
        except ClientError as error:
            reasons: Any = error.response.get("CancellationReasons", [{}])
            if error_code(error) == "TransactionCanceledException" and (
                reasons[0].get("Code") == "ConditionalCheckFailed"
            ):
                return False
            raise
    return True


def _transactions(changes: list[Any]) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    size = 0
    for change in changes:
        change_size = size_in_bytes(change)
        if chunk and (len(chunk) == MAX_CHANGES or size + change_size > MAX_TRANSACTION_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(change)
        size += change_size
    if chunk:
        yield chunk


def _unless_newer(call: Any, **arguments: Any) -> bool:
    try:
        call(**arguments)
    except ClientError as error:
        if error_code(error) == "ConditionalCheckFailedException":
            return False
        raise
    return True


def _condition_values(stamp: dict[str, Any]) -> dict[str, Any]:
    return serialize({":version": stamp["version"], ":frozen": stamp["catalogs_frozen_at"]})


def _stored_genres(dynamodb: DynamoDBClient, table: str, day: str) -> set[str]:
    pages = dynamodb.get_paginator("query").paginate(
        TableName=table,
        KeyConditionExpression="#date = :date",
        ProjectionExpression="track_genre",
        ExpressionAttributeNames={"#date": "date"},
        ExpressionAttributeValues={":date": {"S": day}},
        ConsistentRead=True,
    )
    return {str(item["track_genre"]["S"]) for page in pages for item in page["Items"]}
