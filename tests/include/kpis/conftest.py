from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from include.kpis.table import KpiTable, open_table
from kpi_table_support import FIRST, SECOND, THIRD, day_items, make_table, put_items
from local_aws_support import connect


@pytest.fixture
def environment(local_aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a user of local AWS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", local_aws)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def dynamodb(local_aws: str) -> Any:
    return connect("dynamodb", local_aws)


@pytest.fixture
def empty_table(dynamodb: Any, environment: None) -> Iterator[KpiTable]:
    name = make_table(dynamodb)
    yield open_table(name)
    dynamodb.delete_table(TableName=name)


@pytest.fixture
def table(dynamodb: Any, empty_table: KpiTable) -> KpiTable:
    """Three days; the middle one is being written, and the third has no rock."""
    put_items(dynamodb, empty_table.name, day_items(FIRST, {"pop": 40, "rock": 50, "Unknown": 60}))
    put_items(dynamodb, empty_table.name, day_items(SECOND, {"pop": 300, "rock": 5, "jazz": 5}, "updating"))
    put_items(dynamodb, empty_table.name, day_items(THIRD, {"pop": 120}))
    return empty_table
