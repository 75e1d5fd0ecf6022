"""Creates AWS clients from Airflow's connection while a task runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from helpers.contract.settings import AWS_CONN_ID

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

MAX_CONNECTIONS = 16
# For each client Airflow logs two lines about the connection, always the same. The upload of the Glue script
# warns that nothing reads data lineage. These lines would hide what the task says.
LOG_LEVELS = {
    "airflow.hooks.base": logging.WARNING,
    "airflow.providers.amazon.aws.utils.connection_wrapper": logging.WARNING,
    "airflow.lineage.hook": logging.ERROR,
}


def s3_client() -> S3Client:
    """Return an S3 client with bounded retries."""
    client: S3Client = _client("s3")
    return client


def dynamodb_client() -> DynamoDBClient:
    """Return a DynamoDB client with bounded retries."""
    client: DynamoDBClient = _client("dynamodb")
    return client


def sqs_client() -> Any:
    """Return an SQS client with bounded retries."""
    return _client("sqs")


def cloudwatch_client() -> Any:
    """Return a CloudWatch client with bounded retries."""
    return _client("cloudwatch")


def glue_client() -> Any:
    """Return a Glue client with bounded retries."""
    return _client("glue")


def _client(service: str) -> Any:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.config import Config

    for name, level in LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5}, max_pool_connections=MAX_CONNECTIONS
    )
    return AwsBaseHook(aws_conn_id=AWS_CONN_ID, client_type=service, config=config).get_conn()
