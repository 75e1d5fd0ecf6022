"""Local AWS for the dashboard's tests, from the project's environment, since the dashboard's has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import streamlit as st

from kpi_table_support import make_table
from local_aws_support import PYTHON, REPOSITORY, connect, running_server


@pytest.fixture(scope="session")
def local_aws() -> Iterator[str]:
    """The address of local AWS."""
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing, in which local AWS runs. `make test` makes it.")
    with running_server(python=PYTHON, PYTHONPATH=str(REPOSITORY)) as (endpoint_url, _):
        yield endpoint_url


@pytest.fixture
def environment(local_aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the variables of a user of local AWS; no page was shown before."""
    for name, value in {
        "AWS_ENDPOINT_URL": local_aws,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("SOURCE_BUCKET_NAME", "DASHBOARD_MAKE_OPTIONS"):
        monkeypatch.delenv(name, raising=False)
    st.cache_resource.clear()


@pytest.fixture
def dynamodb(local_aws: str) -> Any:
    return connect("dynamodb", local_aws)


@pytest.fixture
def s3(local_aws: str) -> Any:
    return connect("s3", local_aws)


@pytest.fixture
def table_name(dynamodb: Any, environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty table, which the pages read."""
    name = make_table(dynamodb)
    monkeypatch.setenv("KPI_TABLE_NAME", name)
    yield name
    dynamodb.delete_table(TableName=name)
