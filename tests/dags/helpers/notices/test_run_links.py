from dataclasses import replace
from typing import Any

import boto3
import pytest

from helpers.contract.settings import PipelineConfig
from helpers.notices.run_links import console_url, dashboard_page, quarantine_page, report_page


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> PipelineConfig:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for kind in ("source", "intermediate", "archive"):
        monkeypatch.setenv(f"{kind.upper()}_BUCKET_NAME", kind)
    return PipelineConfig.from_env()


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
def test_console_is_that_of_the_partition(config: PipelineConfig, region: str, console: str) -> None:
    s3 = client(region)

    assert console_url(s3) == console
    assert report_page(s3, config, "a+b") == (
        f"{console}/s3/object/archive?region={region}&prefix=runs%2Fa%2Bb%2Freport.json"
    )
    assert quarantine_page(s3, config, "a") == (
        f"{console}/s3/buckets/archive?region={region}&prefix=quarantine%2Fa%2F"
    )


@pytest.mark.parametrize("host", ["127.0.0.1:5555", "local-aws:5555", "amazonaws.com.example.org"])
def test_what_is_not_aws_has_no_page_of_its_own(config: PipelineConfig, host: str) -> None:
    s3 = client("us-east-1", f"http://{host}")

    assert console_url(s3) is None
    assert report_page(s3, config, "a") is None
    assert quarantine_page(s3, config, "a") is None


@pytest.mark.parametrize("endpoint_url", [None, "http://127.0.0.1:5555"], ids=["AWS", "local AWS"])
def test_dashboard_is_the_page_of_a_run_wherever_there_is_one(
    config: PipelineConfig, endpoint_url: str | None
) -> None:
    with_dashboard = replace(config, dashboard_url="https://kpis.example.com")

    page = "https://kpis.example.com/pipeline?run=a%2Bb"
    assert report_page(client("us-east-1", endpoint_url), with_dashboard, "a+b") == page
    assert dashboard_page(with_dashboard, "a+b") == page
    assert dashboard_page(config, "a+b") is None
