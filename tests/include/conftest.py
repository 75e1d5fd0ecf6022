"""Fixtures of the stack's tests: the stack with every option, in its own local AWS."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import Request, urlopen

import pytest

from include.local_aws.provision import provision
from local_aws_support import running_server

ACCOUNT = "123456789012"
KEY_ARN = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
ASTRO_ARN = "arn:aws:iam::999999999999:role/workload-identity-of-a-deployment"
EXTERNAL_ID = "agreed-upon"
STACK_PARAMETERS = {
    "KmsKeyArn": KEY_ARN,
    "AirflowPrincipalArn": ASTRO_ARN,
    "AirflowExternalId": EXTERNAL_ID,
    "AlertEmail": "on-call@example.com",
    "StreamsQueueParameter": "music-streaming-files",
    "OldVersionDays": "30",
    "ArchivedFileDays": "400",
    "QuarantineDays": "100",
    "HistoryDays": "800",
}


@dataclass(frozen=True)
class DeployedStack:
    """A stack in local AWS: its address and the lines for .env."""

    endpoint_url: str
    environment: dict[str, str]


@pytest.fixture(scope="session")
def full_stack() -> Iterator[DeployedStack]:
    """The stack with every option: a key, a role for Airflow, an e-mail address, a queue, retention."""
    with running_server() as (endpoint_url, _):
        yield DeployedStack(endpoint_url, provision(endpoint_url, STACK_PARAMETERS))


@contextmanager
def enforced_policies(endpoint_url: str) -> Iterator[None]:
    """Make local AWS check every request against the caller's policies."""

    def let_pass_unchecked(requests: bytes) -> None:
        headers = {"Content-Type": "text/plain"}
        urlopen(Request(f"{endpoint_url}/moto-api/reset-auth", method="POST", data=requests, headers=headers))

    let_pass_unchecked(b"0")
    try:
        yield
    finally:
        let_pass_unchecked(b"inf")
