"""Messages of the pages if there is no data, and the amount that they read if there is."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import botocore.client
import pytest
from pages import open_page

from kpi_table_support import FIRST, day_items, put_items
from local_aws_support import PYTHON, REPOSITORY, running_server

PAGES = ("day", "trends", "pipeline")
MAX_SECONDS = 1.0

# A local AWS with a year of days of 114 genres, which would take minutes to write through its API.
SERVER_WITH_A_YEAR = """
import os
from datetime import timedelta

import boto3
from boto3.dynamodb.types import TypeSerializer
from moto import mock_aws
from moto.dynamodb.models import dynamodb_backends

from include.local_aws.server import serve
from kpi_table_support import FIRST, day_items, make_table

os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
del os.environ["AWS_ENDPOINT_URL"]
serialize = TypeSerializer().serialize
genres = {f"genre {number:03d}": 1_000 - 7 * number for number in range(114)}
with mock_aws():
    make_table(boto3.client("dynamodb"), "year")
    table = dynamodb_backends["123456789012"]["us-east-1"].tables["year"]
    for number in range(366):
        for item in day_items(FIRST + timedelta(days=number), genres):
            table.put_item({name: serialize(value) for name, value in item.items()})
    serve("127.0.0.1", 0)
"""


@contextmanager
def counted_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    calls: list[str] = []
    make_call = botocore.client.BaseClient._make_api_call

    def count(self: Any, operation: str, arguments: Any) -> Any:
        calls.append(operation)
        return make_call(self, operation, arguments)

    with monkeypatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", count)
        yield calls


@pytest.fixture
def archive(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.create_bucket(Bucket="archive-of-access")
    monkeypatch.setenv("ARCHIVE_BUCKET_NAME", "archive-of-access")


@pytest.mark.parametrize("page", ["day", "trends"])
def test_empty_table_says_what_fills_it(page: str, table_name: str) -> None:
    (sentence,) = open_page(page).sentences

    assert "is empty: no run has stored KPIs yet. On local AWS `make run` fills it; on AWS" in sentence


@pytest.mark.parametrize("page", ["day", "trends"])
def test_missing_table_is_named(page: str, environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPI_TABLE_NAME", "no-such-table")

    assert "The table no-such-table does not exist. For local AWS, `make run`" in open_page(page).sentences[0]


@pytest.mark.parametrize("page", PAGES)
def test_missing_credentials_are_named(
    page: str, table_name: str, archive: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    assert open_page(page).sentences[0].startswith("No AWS credentials were found. For AWS sign in again")


@pytest.mark.parametrize("page", PAGES)
def test_endpoint_that_does_not_answer_is_named(
    page: str, table_name: str, archive: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)

    sentence = open_page(page).sentences[0]

    assert sentence.startswith("AWS does not answer: Could not connect to the endpoint URL")
    assert address in sentence
    assert "Local AWS is started by `make run`" in sentence


def test_number_of_reads_does_not_grow_with_the_table(
    table_name: str, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for days in (range(3), range(3, 60)):
        for number in days:
            put_items(dynamodb, table_name, day_items(FIRST + timedelta(days=number), {"pop": 40, "rock": 5}))
        with counted_calls(monkeypatch) as calls:
            open_page("day")
        day = sorted(calls)
        with counted_calls(monkeypatch) as calls:
            open_page("trends").set("multiselect", "genres", ["pop", "rock"])
        counts.append((day, sorted(calls)))

    assert counts[0] == counts[1]
    assert counts[0][0] == ["Query"] * 4
    assert "Scan" not in counts[0][1]


def test_page_takes_a_second_for_a_year_of_days_and_114_genres(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    python_path = f"{REPOSITORY}:{REPOSITORY / 'tests'}"
    with running_server(["-c", SERVER_WITH_A_YEAR], python=PYTHON, PYTHONPATH=python_path) as (address, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("KPI_TABLE_NAME", "year")
        # A first page makes the imports and clients, which a visitor of a running server does not wait for.
        pages = {name: open_page(name) for name in ("day", "trends")}
        seconds = {name: min(_seconds(page.app.run) for _ in range(3)) for name, page in pages.items()}

    assert len(pages["trends"].frame()) == 30
    assert max(seconds.values()) < MAX_SECONDS, seconds


def _seconds(run: Callable[[], object]) -> float:
    """Return the page's own seconds, since local AWS walks through the whole table at each query."""
    start = time.process_time()
    run()
    return time.process_time() - start
