"""Converts the Glue job's KPI records into items of the KPI table."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from helpers.aws.kpi_table import MAX_ITEM_BYTES, MAX_SORT_KEY_BYTES, serialize, size_in_bytes
from helpers.contract.names import ALL_GENRES
from helpers.contract.records import GlueSummary, Stamp
from helpers.errors import CatalogError, GlueOutputError
from helpers.run.glue_output import RUN_GLUE_AGAIN, history_copies


def day_versions(summary: GlueSummary) -> dict[str, int]:
    """Return each day's version: the number of objects in its history, including the run's own."""
    own = list(history_copies(summary))
    return {
        day: len(counts["history_objects"])
        + sum(name.startswith(f"listens/listen_date={day}/") for name in own)
        for day, counts in summary["days"].items()
    }


def to_items(
    records: list[dict[str, Any]], summary: GlueSummary, frozen_at: str, versions: dict[str, int]
) -> dict[str, list[dict[str, Any]]]:
    """Convert KPI records into table items by day, each with its stamp, the day's totals last.

    Nothing has been written when this function raises.

    Raises:
        CatalogError: an item exceeds DynamoDB's limits.
        GlueOutputError: DynamoDB would refuse an item, a key appears twice, or a day has no totals.
    """
    items: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for record in records:
        day, genre = record.get("date"), record.get("track_genre")
        if not day or not genre:
            raise _bad_item(day, genre, "its key is missing")
        if len(str(genre).encode()) > MAX_SORT_KEY_BYTES:
            raise _large_item(day, genre, "its key is longer than 1,024 bytes")
        if day not in versions or genre in items[day]:
            raise _bad_item(day, genre, "its key appears twice or its day is not in the summary")
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


def _storable(record: dict[str, Any], day: str, genre: str) -> dict[str, Any]:
    item = {name: _number_checked(value, day, genre) for name, value in record.items() if value is not None}
    if size_in_bytes(item) > MAX_ITEM_BYTES:
        raise _large_item(day, genre, "it is larger than 400 KB")
    try:
        serialize(item)
    except (ArithmeticError, TypeError) as error:
        raise _bad_item(day, genre, f"it has a number that DynamoDB cannot store: {error!r}") from error
    return item


def _number_checked(value: Any, day: str, genre: str) -> Any:
    if isinstance(value, float):
        value = Decimal(str(value))
    if isinstance(value, Decimal) and not value.is_finite():
        raise _bad_item(day, genre, f"{value} is not a number that DynamoDB can store")
    if isinstance(value, list):
        return [_number_checked(element, day, genre) for element in value]
    if isinstance(value, dict):
        return {name: _number_checked(element, day, genre) for name, element in value.items()}
    return value


def _large_item(day: str, genre: str, reason: str) -> CatalogError:
    return CatalogError(
        f"The KPI item ({day}, {genre[:100]}) exceeds DynamoDB's limits: {reason}. No item was written and "
        "nothing was archived. Shorten the names in the catalog and trigger a new run: this one keeps "
        "the catalogs that it listed."
    )


def _bad_item(day: Any, genre: Any, reason: str) -> GlueOutputError:
    return GlueOutputError(
        f"The KPI item ({day}, {genre}) cannot be stored: {reason}. No item was written. {RUN_GLUE_AGAIN}"
    )
