from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest

from helpers.contract.kpis import COMMON_KPIS, KPIS, kpi_values
from local_aws_support import REPOSITORY
from tests.kpi_oracle import Listen, Song, User, kpi_items, parse_listen_time

ITEM: dict[str, Any] = {
    "date": "2024-06-25",
    "track_genre": "pop",
    "listen_count": Decimal(40),
    "unique_listeners": Decimal(36),
    "total_listening_time": Decimal("138.80"),
    "avg_listening_time_per_user": Decimal("3.86"),
}


def test_numbers_of_an_item_are_the_declared_kpis() -> None:
    values = kpi_values(ITEM | {"genre_rank": Decimal(2)})

    assert [*values] == [kpi.attribute for kpi in KPIS]
    assert (values["listen_count"], values["genre_rank"]) == (40, 2)
    assert isinstance(values["listen_count"], int)
    assert values["total_listening_time"] == Decimal("138.80")


def test_kpi_that_items_may_lack_is_none_and_any_other_must_be_there() -> None:
    assert kpi_values(ITEM)["genre_rank"] is None
    for kpi in COMMON_KPIS:
        with pytest.raises(KeyError, match=kpi.attribute):
            kpi_values({name: value for name, value in ITEM.items() if name != kpi.attribute})


def test_oracle_computes_each_declared_kpi_and_no_further_number_of_a_genre() -> None:
    listen_time = parse_listen_time("2024-06-25 10:00:00")
    assert listen_time
    items = kpi_items(
        [Listen("u", "t", listen_time)], [Song("t", "One", "A", "pop", 60_000)], [User("u", "Malta")]
    )

    numbers = {name for name, value in items["2024-06-25", "pop"].items() if isinstance(value, int | Decimal)}
    totals = items["2024-06-25", "ALL_GENRES"]

    assert numbers <= {kpi.attribute for kpi in KPIS}
    assert {kpi.attribute for kpi in COMMON_KPIS} <= numbers & totals.keys()


def test_readme_has_a_row_for_each_declared_kpi() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (REPOSITORY / "README.md").read_text(), re.MULTILINE)

    assert {kpi.attribute for kpi in KPIS} <= {*rows}
