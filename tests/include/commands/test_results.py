from __future__ import annotations

import json
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from helpers.contract.keys import report_key, run_key_of
from include.commands.results import read_day, read_report

RUN_ID = "manual__2024-06-25T10:00:00+00:00"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        yield


def test_report_of_the_run_is_read_from_the_archive() -> None:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="archive")

    assert read_report(s3, "archive", RUN_ID) is None

    s3.put_object(
        Bucket="archive", Key=report_key(run_key_of(RUN_ID)), Body=json.dumps({"status": "complete"})
    )
    assert read_report(s3, "archive", RUN_ID) == {"status": "complete"}


def test_all_items_of_the_day_are_read_and_no_others() -> None:
    table = boto3.resource("dynamodb").create_table(
        TableName="kpis",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": "date", "KeyType": "HASH"},
            {"AttributeName": "track_genre", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "date", "AttributeType": "S"},
            {"AttributeName": "track_genre", "AttributeType": "S"},
        ],
    )
    # DynamoDB answers with at most 1 MB at a time.
    for number in range(5):
        table.put_item(
            Item={"date": "2024-06-25", "track_genre": f"genre {number}", "ballast": "x" * 300_000}
        )
    table.put_item(Item={"date": "2024-06-26", "track_genre": "another day"})

    genres = [item["track_genre"] for item in read_day(table, "2024-06-25")]

    assert genres == [f"genre {number}" for number in range(5)]
