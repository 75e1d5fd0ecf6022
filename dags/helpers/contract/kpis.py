"""The KPIs: the numbers of one genre, or of all genres together, on a UTC day.

This is their only declaration. Readers, tables, charts and docs take names, types and meanings from here. The
Glue script computes the KPIs, and a test compares its items with this declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints


class Words(NamedTuple):
    """The label of a KPI, the unit of its numbers, and its definition."""

    label: str
    unit: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class KpiValues:
    """The KPIs of an item by attribute.

    A KPI that some items lack defaults to None. A new KPI is one of them: a stored day gets it when a run
    recomputes the day.
    """

    listen_count: Annotated[int, Words("Listens", "listens", "Distinct listens")]
    unique_listeners: Annotated[int, Words("Listeners", "listeners", "Distinct users who listened")]
    total_listening_time: Annotated[
        Decimal, Words("Listening time", "minutes", "Sum of the tracks' full lengths")
    ]
    avg_listening_time_per_user: Annotated[
        Decimal, Words("Time per listener", "minutes per listener", "Listening time / listeners")
    ]
    genre_rank: Annotated[int | None, Words("Rank", "rank by listens", "Place among the day's genres")] = None


class Kpi(NamedTuple):
    """A declared KPI.

    Attributes:
        attribute: its name in the KPI table.
        is_whole: whether its numbers are whole; others have two decimals.
        is_optional: whether items may lack it.
    """

    attribute: str
    label: str
    unit: str
    meaning: str
    is_whole: bool
    is_optional: bool


def _declared() -> tuple[Kpi, ...]:
    types = get_type_hints(KpiValues, include_extras=True)
    kpis = []
    for declared in fields(KpiValues):
        number, words = get_args(types[declared.name])
        is_whole, is_optional = number in (int, int | None), declared.default is None
        kpis.append(Kpi(declared.name, words.label, words.unit, words.meaning, is_whole, is_optional))
    return tuple(kpis)


KPIS = _declared()
# The KPIs that every item has.
COMMON_KPIS = tuple(kpi for kpi in KPIS if not kpi.is_optional)


def kpi_values(item: Mapping[str, Any]) -> dict[str, int | Decimal | None]:
    """Return the KPIs of an item of the table, whose numbers are decimals, by attribute.

    Raises:
        KeyError: the item lacks a KPI that every item has.
    """
    values: dict[str, int | Decimal | None] = {}
    for kpi in KPIS:
        value = item.get(kpi.attribute) if kpi.is_optional else item[kpi.attribute]
        values[kpi.attribute] = int(value) if kpi.is_whole and value is not None else value
    return values
