"""A test's own buckets and table in local AWS."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from include.commands.environment import REGION, airflow_environment
from tests.e2e.delivered import Delivered, Upload
from tests.e2e.observed import Resources


@cache
def connect(service: str, endpoint_url: str) -> Any:
    """Return a client of local AWS that ignores all environment variables; tests share it."""
    client: Any = boto3.client  # not overloaded by service
    return client(
        service,
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(proxies={}, max_pool_connections=16),
    )


@dataclass
class Deployment:
    """A test's own buckets and table in local AWS, and everything that was delivered to it.

    Attributes:
        endpoint_url: address of local AWS.
        names: the pipeline's environment variables.
        airflow_home: folder for the files of an Airflow that runs the pipeline.
    """

    endpoint_url: str
    names: dict[str, str]
    airflow_home: Path
    delivered: Delivered = field(default_factory=Delivered)

    def __post_init__(self) -> None:
        self.resources = Resources(
            s3=connect("s3", self.endpoint_url),
            dynamodb=connect("dynamodb", self.endpoint_url),
            source_bucket=self.names["SOURCE_BUCKET_NAME"],
            intermediate_bucket=self.names["INTERMEDIATE_BUCKET_NAME"],
            archive_bucket=self.names["ARCHIVE_BUCKET_NAME"],
            kpi_table=self.names["KPI_TABLE_NAME"],
        )

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that runs the pipeline without waiting for files.

        No check stops a run, because most deliveries of these tests are broken or unknown on purpose.
        """
        port = urlsplit(self.endpoint_url).port or 0
        environment = airflow_environment(os.environ, port, self.names, self.airflow_home)
        limits = ("MAX_UNMATCHED_FRACTION", "MAX_QUARANTINED_FRACTION", "MAX_CATALOG_SHRINKAGE")
        return environment | {"SENSOR_TIMEOUT_MINUTES": "0"} | dict.fromkeys(limits, "1")

    def upload(self, key: str, content: bytes) -> None:
        """Upload an object to the source bucket and record it as delivered."""
        s3, bucket = self.resources.s3, self.resources.source_bucket
        if not key.startswith("streams/"):
            self.delivered.catalogs[key] = content
            s3.put_object(Bucket=bucket, Key=key, Body=content)
            return
        if (present := self._current_version(key)) is not None:
            self.delivered.uploads[:] = [
                replace(upload, superseded=True)
                if (upload.key, upload.version_id) == (key, present)
                else upload
                for upload in self.delivered.uploads
            ]
        version_id = s3.put_object(Bucket=bucket, Key=key, Body=content).get("VersionId")
        self.delivered.uploads.append(Upload(key, content, version_id))

    def _current_version(self, key: str) -> str | None:
        try:
            found = self.resources.s3.head_object(Bucket=self.resources.source_bucket, Key=key)
        except self.resources.s3.exceptions.ClientError:
            return None
        version_id: str | None = found.get("VersionId")
        return version_id

    def upload_all(self, files: Mapping[str, bytes]) -> None:
        """Put several objects into the source bucket."""
        for key, content in files.items():
            self.upload(key, content)


def deploy(
    endpoint_url: str, airflow_home: Path, stack_outputs: Mapping[str, str], versioning: bool = True
) -> Deployment:
    """Create new buckets and a new table; role and topic are those of the stack."""
    prefix = f"e2e-{uuid.uuid4().hex[:12]}"
    names = {
        **stack_outputs,
        "SOURCE_BUCKET_NAME": f"{prefix}-source",
        "INTERMEDIATE_BUCKET_NAME": f"{prefix}-intermediate",
        "ARCHIVE_BUCKET_NAME": f"{prefix}-archive",
        "KPI_TABLE_NAME": f"{prefix}-kpis",
        "GLUE_JOB_NAME": f"{prefix}-job",
    }
    deployment = Deployment(endpoint_url, names, airflow_home)
    resources = deployment.resources
    for bucket in (resources.source_bucket, resources.intermediate_bucket, resources.archive_bucket):
        resources.s3.create_bucket(Bucket=bucket)
        if versioning:
            resources.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    resources.dynamodb.create_table(
        TableName=resources.kpi_table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("date", "track_genre")
        ],
        KeySchema=[
            {"AttributeName": "date", "KeyType": "HASH"},
            {"AttributeName": "track_genre", "KeyType": "RANGE"},
        ],
    )
    return deployment
