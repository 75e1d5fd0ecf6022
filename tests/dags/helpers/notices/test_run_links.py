import urllib.request
from typing import Any

import boto3
import pytest
from pipeline_support import Pipeline

from helpers.aws.clients import s3_client
from helpers.notices.run_links import console_url, object_url, prefix_url


def client(region: str, endpoint_url: str | None = None) -> Any:
    return boto3.client(
        "s3", region, endpoint_url=endpoint_url, aws_access_key_id="a", aws_secret_access_key="b"
    )


@pytest.mark.parametrize(
    ("region", "console"),
    [
        ("us-east-1", "https://console.aws.amazon.com"),
        ("eu-central-1", "https://console.aws.amazon.com"),
        ("cn-north-1", "https://console.amazonaws.cn"),
        ("us-gov-west-1", "https://console.amazonaws-us-gov.com"),
    ],
)
def test_console_is_that_of_the_partition(region: str, console: str) -> None:
    s3 = client(region)

    assert console_url(s3) == console
    assert object_url(s3, "archive", "runs/a+b/report.json") == (
        f"{console}/s3/object/archive?region={region}&prefix=runs%2Fa%2Bb%2Freport.json"
    )
    assert prefix_url(s3, "archive", "quarantine/a/") == (
        f"{console}/s3/buckets/archive?region={region}&prefix=quarantine%2Fa%2F"
    )


@pytest.mark.parametrize("host", ["127.0.0.1:5555", "local-aws:5555", "amazonaws.com.example.org"])
def test_what_is_not_aws_is_linked_to_itself(host: str) -> None:
    s3 = client("us-east-1", f"http://{host}")

    assert console_url(s3) is None
    assert object_url(s3, "archive", "runs/a b/report.json").startswith(
        f"http://{host}/archive/runs/a%20b/report.json?"
    )
    assert prefix_url(s3, "archive", "q/").startswith(f"http://{host}/archive?list-type=2&prefix=q%2F&")


def test_link_to_what_is_not_aws_needs_no_sign_in(pipeline: Pipeline) -> None:
    bucket = pipeline.config.archive_bucket
    pipeline.s3.put_object(Bucket=bucket, Key="runs/a b/report.json", Body=b"the report")
    s3 = s3_client()

    with urllib.request.urlopen(object_url(s3, bucket, "runs/a b/report.json")) as answer:
        assert answer.read() == b"the report"
    with urllib.request.urlopen(prefix_url(s3, bucket, "runs/")) as answer:
        assert b"<Key>runs/a%20b/report.json</Key>" in answer.read()
