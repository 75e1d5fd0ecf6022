"""Items per second into DynamoDB: the pipeline's writer compared with boto3's plain `batch_writer`.

Both write the same days of 115 items each to local AWS. The plain one does not protect a newer computation
and does not delete stale items, and readers see its days half written. Local AWS answers one request at a
time, so this compares the cost for client and server, not DynamoDB's capacity.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3

from include.commands.environment import ROOT
from tests.benchmarks.harness import Contender, Measurement, alternate
from tests.e2e.deployment import connect

PART = "kpi_writer"
SIZES = ("7", "366")
ITEMS_PER_DAY = 115


def check_size(size: str) -> None:
    """Check that the size is a number of days.

    Raises:
        ValueError: it is not.
    """
    if not size.isdecimal() or int(size) < 1:
        raise ValueError(f"{size} is not a number of days")


def measure(size: str, repeat: int, folder: Path) -> list[Measurement]:
    """Measure writing `size` days, into new tables of a separate local AWS."""
    command = [sys.executable, "-m", "include.local_aws", "serve", "--port", "0"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = server.stdout.readline().split()[-1]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "dags")))}
        environment |= {"AIRFLOW_HOME": str(folder / "airflow"), "AWS_ENDPOINT_URL": address}
        contenders = [
            Contender(
                name, [sys.executable, "-m", "tests.benchmarks.kpi_writer", name, address, size], environment
            )
            for name in WRITERS
        ]
        return alternate(PART, f"{size} days", contenders, repeat)
    finally:
        server.terminate()
        server.wait(timeout=60)


def items_of(day: str) -> list[dict[str, Any]]:
    """Return a day's items as the pipeline writes them, the totals last."""
    songs = [
        {
            "rank": rank,
            "track_id": f"{rank:022}",
            "track_name": f"A song of {rank}",
            "artists": "Some artist",
            "listen_count": 1000 - rank,
        }
        for rank in (1, 2, 3)
    ]
    stamp = {
        "run_key": f"run-of-{day}",
        "computed_at": f"{day}T23:59:59+00:00",
        "version": 1,
        "catalogs_frozen_at": f"{day}T23:00:00+00:00",
    }
    common = {
        "date": day,
        "listen_count": 4711,
        "unique_listeners": 815,
        "total_listening_time": Decimal("15703.33"),
        "avg_listening_time_per_user": Decimal("19.27"),
        **stamp,
    }
    genres = [
        {**common, "track_genre": f"genre {number:03}", "genre_rank": number, "top_3_songs_per_genre": songs}
        for number in range(1, ITEMS_PER_DAY)
    ]
    top = [{"rank": rank, "track_genre": f"genre {rank:03}", "listen_count": 4711} for rank in range(1, 6)]
    return [
        *genres,
        {**common, "track_genre": "ALL_GENRES", "top_5_genres_per_day": top, "status": "complete"},
    ]


def write_as_the_pipeline(table: str, address: str, days: dict[str, list[dict[str, Any]]]) -> None:
    """Write the days with the pipeline's own function."""
    from helpers.aws.kpi_table import write_day

    dynamodb = connect("dynamodb", address)
    for day, items in days.items():
        write_day(dynamodb, table, day, items)


def write_in_batches(table: str, address: str, days: dict[str, list[dict[str, Any]]]) -> None:
    """Write the days with boto3's `batch_writer`."""
    resource: Any = boto3.resource
    dynamodb = resource(
        "dynamodb",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    with dynamodb.Table(table).batch_writer() as writer:
        for items in days.values():
            for item in items:
                writer.put_item(Item=item)


WRITERS = {"write_day": write_as_the_pipeline, "batch_writer": write_in_batches}


def main() -> None:
    """Write a number of days into a new table and print the seconds; arguments: writer, address, days."""
    name, address, number = sys.argv[1:]
    days = {day: items_of(day) for day in (f"day-{index:05}" for index in range(int(number)))}
    dynamodb = connect("dynamodb", address)
    table = f"kpis-{time.time_ns()}"
    keys = ("date", "track_genre")
    dynamodb.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        KeySchema=[
            {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=True)
        ],
    )
    started = time.monotonic()
    WRITERS[name](table, address, days)
    seconds = time.monotonic() - started
    written = sum(
        page["Count"] for page in dynamodb.get_paginator("scan").paginate(TableName=table, Select="COUNT")
    )
    assert written == ITEMS_PER_DAY * len(days), f"{written} items are in the table"
    dynamodb.delete_table(TableName=table)
    print(json.dumps({"seconds": seconds, "items": written, "items per second": round(written / seconds)}))


if __name__ == "__main__":
    main()
