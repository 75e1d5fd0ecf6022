"""The stack's policies in local AWS, with every reference resolved."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from local_aws_support import connect
from tests.include.conftest import ACCOUNT

AIRFLOW_ROLE = "music-streaming-airflow-role"
GLUE_ROLE = "music-streaming-glue-role"


def role_statements(endpoint_url: str, role: str) -> list[dict[str, Any]]:
    """Return the statements of all inline policies of the role."""
    iam = connect("iam", endpoint_url)
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    documents = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
    return [statement for document in documents for statement in document["Statement"]]


def client_of(endpoint_url: str, role: str, service: str, region: str = "us-east-1") -> Any:
    """Return a client that acts as the role; create it while local AWS checks nothing."""
    sts = connect("sts", endpoint_url)
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    credentials = sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    client: Any = boto3.client  # not overloaded by service
    return client(
        service,
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=Config(retries={"total_max_attempts": 1}),
    )
