"""Fixtures of the helpers' tests: each test has its own pipeline in the shared local AWS."""

import os
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from pipeline_support import Pipeline, Topic, Wire

from helpers.contract.settings import PipelineConfig
from include.commands.environment import airflow_environment
from local_aws_support import REPOSITORY, connect
from tests.quick_clients import share_sessions_of_hooks

OPTIONAL_SETTINGS = (
    "GLUE_WORKER_TYPE",
    "GLUE_NUMBER_OF_WORKERS",
    "GLUE_SCRIPT_LOCATION",
    "PIPELINE_SCHEDULE",
    "QUIET_MINUTES",
    "SENSOR_TIMEOUT_MINUTES",
    "STREAMS_QUEUE_URL",
    "MAX_REJECTED_FRACTION",
    "MAX_UNMATCHED_FRACTION",
    "MAX_CATALOG_SHRINKAGE",
    "MAX_CATALOG_AGE_DAYS",
    "ARCHIVE_STORAGE_CLASS",
    "ALERT_SNS_TOPIC_ARN",
)
MakePipeline = Callable[..., Pipeline]


class _TableLoader(yaml.SafeLoader):
    """Reads files without tags; moto's reader of tags such as `!Ref` takes a second to load."""


_TableLoader.add_multi_constructor("", lambda *_: None)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session", autouse=True)
def _clients_are_made_quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        share_sessions_of_hooks(patch)
        yield


@pytest.fixture
def make_pipeline(local_aws: str, monkeypatch: pytest.MonkeyPatch) -> MakePipeline:
    """Creates new buckets and a new table, and sets the environment to them."""

    def make(versioned: bool = True) -> Pipeline:
        name = f"t{uuid.uuid4().hex[:10]}"
        names = {
            "SOURCE_BUCKET_NAME": f"{name}-source",
            "INTERMEDIATE_BUCKET_NAME": f"{name}-intermediate",
            "ARCHIVE_BUCKET_NAME": f"{name}-archive",
            "KPI_TABLE_NAME": name,
            "GLUE_JOB_NAME": name,
            "GLUE_ROLE_NAME": f"{name}-role",
        }
        port = int(local_aws.rpartition(":")[2])
        environment = airflow_environment({}, port, names, Path(os.environ["AIRFLOW_HOME"]))
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        for variable in OPTIONAL_SETTINGS:
            monkeypatch.delenv(variable, raising=False)
        # A bad file is often the larger of a small test's two files.
        monkeypatch.setenv("MAX_QUARANTINED_FRACTION", "1")
        pipeline = Pipeline(local_aws, PipelineConfig.from_env())
        for variable, bucket in names.items():
            if variable.endswith("BUCKET_NAME"):
                pipeline.s3.create_bucket(Bucket=bucket)
                if versioned:
                    pipeline.s3.put_bucket_versioning(
                        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
                    )
        pipeline.dynamodb.create_table(TableName=name, **table_shape())
        return pipeline

    return make


@cache
def table_shape() -> dict[str, Any]:
    template = yaml.load((REPOSITORY / "include" / "stack.yaml").read_text(), Loader=_TableLoader)
    table = template["Resources"]["KpiTable"]["Properties"]
    parts = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    return {part: table[part] for part in parts}


@pytest.fixture
def pipeline(make_pipeline: MakePipeline) -> Pipeline:
    """A pipeline with versioned buckets, as `include/stack.yaml` makes them."""
    return make_pipeline()


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """The requests of all AWS clients; every prepared response must be used."""
    wire = Wire()
    send = URLLib3Session.send

    def observed(session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        return wire.handle(request, lambda request: send(session, request))

    monkeypatch.setattr(URLLib3Session, "send", observed)
    yield wire
    assert wire.never_asked_for() == set()


@pytest.fixture
def topic(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[Topic]:
    """A topic with a subscriber, named by the variable."""
    sns, sqs = (connect(service, pipeline.endpoint_url) for service in ("sns", "sqs"))
    name = pipeline.config.kpi_table
    arn = sns.create_topic(Name=name)["TopicArn"]
    queue_url = sqs.create_queue(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=attributes["QueueArn"])
    monkeypatch.setenv("ALERT_SNS_TOPIC_ARN", arn)
    yield Topic(arn, sqs, queue_url)
    sqs.delete_queue(QueueUrl=queue_url)
    sns.delete_topic(TopicArn=arn)
