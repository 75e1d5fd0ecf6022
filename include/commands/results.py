"""Reads a run's results: its report in the archive and its days' KPIs in DynamoDB."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3 import S3Client


def read_report(s3: S3Client, archive_bucket: str, run_id: str) -> dict[str, Any] | None:
    """Return the report of the DAG run, or None if the run ended before it was written."""
    from helpers.contract.keys import report_key, run_key_of

    try:
        stored = s3.get_object(Bucket=archive_bucket, Key=report_key(run_key_of(run_id)))
    except s3.exceptions.NoSuchKey:
        return None
    report: dict[str, Any] = json.loads(stored["Body"].read())
    return report


def read_reason(s3: S3Client, archive_bucket: str, run_id: str) -> str | None:
    """Return why the DAG run failed and what to do, or None if that was not recorded."""
    from helpers.contract.keys import ending_key, run_key_of

    try:
        stored = s3.get_object(Bucket=archive_bucket, Key=ending_key(run_key_of(run_id)))
    except s3.exceptions.NoSuchKey:
        return None
    ending: dict[str, Any] = json.loads(stored["Body"].read())
    return f"{ending['reason']}\n{ending['next_step']}".rstrip()


def read_day(table: Table, day: str) -> list[dict[str, Any]]:
    """Return the KPI items of a day (`YYYY-MM-DD`)."""
    from boto3.dynamodb.conditions import Key

    condition = Key("date").eq(day)
    answer = table.query(KeyConditionExpression=condition)
    items = list(answer["Items"])
    while "LastEvaluatedKey" in answer:
        answer = table.query(KeyConditionExpression=condition, ExclusiveStartKey=answer["LastEvaluatedKey"])
        items += answer["Items"]
    return items
