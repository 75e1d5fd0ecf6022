"""Task store_kpis_in_dynamodb: adds the run's listens to the history and writes the days' KPI items."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError

from helpers.aws import dynamodb_client, s3_client
from helpers.config import ALL_GENRES, PipelineConfig
from helpers.errors import ReconciliationError
from helpers.glue_output import (
    RUN_GLUE_AGAIN,
    GlueSummary,
    check_summary,
    history_copies,
    history_problem,
    read_kpi_records,
    read_summary,
)
from helpers.manifest import read_input_manifest, read_report
from helpers.run_key import output_prefix, run_key_of
from helpers.s3_objects import copy_object, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
MAX_ITEM_BYTES = 400 * 1024
MAX_SORT_KEY_BYTES = 1024
# A transaction takes 100 actions, one of them the check, and 4 MB.
MAX_CHANGES = 99
MAX_TRANSACTION_BYTES = 3 * 1024**2

# A larger version is a superset of the listens; with equal listens the newer catalogs win.
NOT_NEWER = (
    "attribute_not_exists(#version) OR #version < :version "
    "OR (#version = :version AND (attribute_not_exists(#frozen) OR #frozen <= :frozen))"
)
_NAMES = {"#version": "version", "#frozen": "catalogs_frozen_at"}


class StoredKpis(TypedDict):
    """Counts of a run's writes; `versions` has the version that each day was written with."""

    run_key: str
    items_written: int
    items_deleted: int
    versions: dict[str, int]


class Stamp(TypedDict):
    """What every item carries to tell which computation it comes from."""

    run_key: str
    computed_at: str
    version: int
    catalogs_frozen_at: str


def store_kpis_in_dynamodb(dag_run_id: str, config: PipelineConfig) -> StoredKpis:
    """Check the Glue job's output, add the new listens to the history, write the KPI items.

    Raises:
        ReconciliationError: counts or objects do not agree, an item cannot be stored, or another run came
            between; the message says what to clear.
    """
    s3, dynamodb = s3_client(), dynamodb_client()
    run_key = run_key_of(dag_run_id)
    if report := read_report(s3, config, run_key):
        logger.info("Run %s is complete; nothing to do", run_key)
        versions = {day: counts["version"] for day, counts in report["days"].items()}
        return StoredKpis(
            run_key=run_key,
            items_written=report["kpi_items_written"],
            items_deleted=report["kpi_items_deleted"],
            versions=versions,
        )
    summary = read_summary(s3, config, run_key)
    moved = read_input_manifest(s3, config, run_key)
    check_summary(s3, config, summary, moved["listens"]["rows"])
    versions = day_versions(summary)
    items = to_items(read_kpi_records(s3, config, summary), summary, moved["frozen_at"], versions)
    _check_day_totals(dynamodb, config.kpi_table, summary, items)
    add_to_history(s3, config, summary)
    written = deleted = 0
    for day in sorted(items):
        day_written, day_deleted = write_day(dynamodb, config.kpi_table, day, items[day])
        written, deleted = written + day_written, deleted + day_deleted
        logger.info("%s: %d items written, %d deleted", day, day_written, day_deleted)
    return StoredKpis(run_key=run_key, items_written=written, items_deleted=deleted, versions=versions)


def day_versions(summary: GlueSummary) -> dict[str, int]:
    """Return each day's version: the number of objects in its history once the run's own are added."""
    own = list(history_copies(summary))
    return {
        day: len(counts["history_objects"])
        + sum(name.startswith(f"listens/listen_date={day}/") for name in own)
        for day, counts in summary["days"].items()
    }


def to_items(
    records: list[dict[str, Any]], summary: GlueSummary, frozen_at: str, versions: dict[str, int]
) -> dict[str, list[dict[str, Any]]]:
    """Turn KPI records into table items by day, each with its stamp and the totals' item last.

    Raises:
        ReconciliationError: an item that DynamoDB would refuse, a key that stands twice, a day without
            totals. Nothing has been written then.
    """
    items: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for record in records:
        day, genre = record.get("date"), record.get("track_genre")
        if not day or not genre or len(str(genre).encode()) > MAX_SORT_KEY_BYTES:
            raise _bad_item(day, genre, "its key is missing or too long")
        if day not in versions or genre in items[day]:
            raise _bad_item(day, genre, "its key stands twice or its day is not in the summary")
        stamp = Stamp(
            run_key=summary["batch_id"],
            computed_at=summary["computed_at"],
            version=versions[day],
            catalogs_frozen_at=frozen_at,
        )
        items[day][genre] = _storable({**record, **stamp}, day, genre)
    for day, counts in summary["days"].items():
        totals = items[day].pop(ALL_GENRES, {}) if day in items else {}
        if totals.get("listen_count", 0) != counts["total"] or (items.get(day) and not totals):
            raise _bad_item(day, ALL_GENRES, f"the summary counts {counts['total']} listens that day")
        if totals:
            items[day][ALL_GENRES] = totals | {"status": "complete"}
    return {day: list(by_genre.values()) for day, by_genre in items.items()}


def add_to_history(s3: S3Client, config: PipelineConfig, summary: GlueSummary) -> None:
    """Copy the run's new listens to the history and check that no other run came between.

    Raises:
        ReconciliationError: the history is not exactly what Glue saw plus the run's own objects.
    """
    prefix = output_prefix(summary["batch_id"])
    for name, key in history_copies(summary).items():
        source = (config.intermediate_bucket, prefix + name, None)
        copy_object(s3, source, (config.archive_bucket, key))
    problem = history_problem(s3, config, summary, added=True)
    if problem:
        raise ReconciliationError(f"Run {summary['batch_id']}: {problem}. {RUN_GLUE_AGAIN}")


def write_day(dynamodb: DynamoDBClient, table: str, day: str, items: list[dict[str, Any]]) -> tuple[int, int]:
    """Write a day's items, the totals' item last, and delete the items of genres that the day has no more.

    A day that a newer computation wrote stays as it is.

    Returns:
        How many items were written and how many deleted.
    """
    *genres, totals = items
    stamp = {name: totals[name] for name in Stamp.__annotations__}
    if not _mark_as_updating(dynamodb, table, day, stamp):
        logger.warning("%s holds a newer computation than version %d: left as it is", day, stamp["version"])
        return 0, 0
    stale = _stored_genres(dynamodb, table, day) - {item["track_genre"] for item in items}
    changes = [{"Put": {"TableName": table, "Item": serialize(item)}} for item in genres]
    changes += [
        {"Delete": {"TableName": table, "Key": serialize({"date": day, "track_genre": genre})}}
        for genre in sorted(stale)
    ]
    if not _write_unless_overtaken(dynamodb, table, day, stamp, changes):
        logger.warning("%s: a newer computation than version %d came between", day, stamp["version"])
        return 0, 0
    return len(genres) + _put(dynamodb, table, totals), len(stale)


def serialize(item: dict[str, Any]) -> dict[str, Any]:
    """Return the item in DynamoDB's wire format."""
    serializer = TypeSerializer()
    return {name: serializer.serialize(value) for name, value in item.items()}


def _check_day_totals(
    dynamodb: DynamoDBClient, table: str, summary: GlueSummary, items: dict[str, list[dict[str, Any]]]
) -> None:
    """Where the table holds the history that Glue saw, its total plus the added listens is the new total."""
    for day in items:
        counts = summary["days"][day]
        key = serialize({"date": day, "track_genre": ALL_GENRES})
        stored: Any = dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", {})
        if stored.get("status", {}).get("S") != "complete":
            continue
        if int(stored["version"]["N"]) != len(counts["history_objects"]):
            continue
        before = int(stored["listen_count"]["N"])
        if before + counts["added"] != counts["total"]:
            raise ReconciliationError(
                f"{day}: the table has {before} listens and the run adds {counts['added']}, but the Glue job "
                f"counts {counts['total']}. The table is unchanged. {RUN_GLUE_AGAIN}"
            )


def _storable(record: dict[str, Any], day: str, genre: str) -> dict[str, Any]:
    item = {name: _number_checked(value, day, genre) for name, value in record.items() if value is not None}
    if _size_in_bytes(item) > MAX_ITEM_BYTES:
        raise _bad_item(day, genre, "it is larger than 400 KB")
    try:
        serialize(item)
    except (ArithmeticError, TypeError) as error:
        raise _bad_item(day, genre, f"it has no number that DynamoDB takes: {error!r}") from error
    return item


def _size_in_bytes(item: dict[str, Any]) -> int:
    return len(json.dumps(item, default=str, ensure_ascii=False).encode())


def _number_checked(value: Any, day: str, genre: str) -> Any:
    if isinstance(value, float):
        value = Decimal(str(value))
    if isinstance(value, Decimal) and not value.is_finite():
        raise _bad_item(day, genre, f"{value} is no number that DynamoDB takes")
    if isinstance(value, list):
        return [_number_checked(element, day, genre) for element in value]
    if isinstance(value, dict):
        return {name: _number_checked(element, day, genre) for name, element in value.items()}
    return value


def _bad_item(day: Any, genre: Any, reason: str) -> ReconciliationError:
    return ReconciliationError(
        f"The KPI item ({day}, {genre}) cannot be stored: {reason}. No item was written. {RUN_GLUE_AGAIN}"
    )


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
    """Make the changes while the totals' item is marked by this computation; a newer one marks it anew.

    An item's own version would not do: a genre that the newer computation has not has no item to tell.
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
        change_size = _size_in_bytes(change)
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
