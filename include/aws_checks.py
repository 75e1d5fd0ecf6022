"""Whether what the pipeline needs in AWS is there and may be used; nothing is changed by looking."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include.local_airflow.environment import ROOT

DEPLOY = "deploy include/stack.yaml (README, Deploying) or correct the variable"
SCRIPT = ROOT / "glue_script" / "glue_script.py"
INDEX = "track_genre-date-index"
DENIED = frozenset(
    {"403", "AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"}
)
MISSING = frozenset(
    {"404", "NoSuchBucket", "NoSuchKey", "ResourceNotFoundException", "NoSuchEntity", "NotFound"}
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: "not checked" when the identity may not look, where the pipeline itself need not look either.
        what: the thing and how it is.
        remedy: what to do; empty when it is fine.
    """

    state: Literal["fine", "wrong", "not checked"]
    what: str
    remedy: str = ""


Findings = Iterator[Finding]


def fine(what: str) -> Finding:
    """Return the finding that this is as it must be."""
    return Finding("fine", what)


def wrong(what: str, remedy: str) -> Finding:
    """Return the finding that this must be mended."""
    return Finding("wrong", what, remedy)


class Doctor:
    """Looks at one deployment, given by the settings and the AWS session of this process."""

    def __init__(self, config: Any) -> None:
        """Take the pipeline's settings, a `PipelineConfig`."""
        self._config = config
        self._session = boto3.Session()
        self._clients: dict[str, Any] = {}

    def findings(self) -> Findings:
        """Look at everything; what cannot be reached at all ends the look."""
        yield self._check_script()
        try:
            identity = self._client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            yield unreachable(error)
            return
        yield fine(f"AWS answers {identity['Arn']} in {self._session.region_name}")
        for variable, bucket in self._buckets().items():
            yield from self._guarded(f"bucket {bucket} ({variable})", self._check_bucket, bucket)
        for check, what in (
            (self._check_catalogs, "catalogs"),
            (self._check_table, f"table {self._config.kpi_table} (KPI_TABLE_NAME)"),
            (self._check_role, f"role {self._config.glue_role_name} (GLUE_ROLE_NAME)"),
            (self._check_topic, "topic (ALERT_SNS_TOPIC_ARN)"),
            (self._check_rights, "rights"),
        ):
            yield from self._guarded(what, check)

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            config = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})
            self._clients[service] = self._session.client(service, config=config)  # type: ignore[call-overload]
        return self._clients[service]

    def _buckets(self) -> dict[str, str]:
        return {
            "SOURCE_BUCKET_NAME": self._config.source_bucket,
            "INTERMEDIATE_BUCKET_NAME": self._config.intermediate_bucket,
            "ARCHIVE_BUCKET_NAME": self._config.archive_bucket,
        }

    def _guarded(self, what: str, check: Callable[..., Findings], *arguments: Any) -> Findings:
        try:
            yield from check(*arguments)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in MISSING:
                yield wrong(f"{what}: does not exist", DEPLOY)
            elif code in DENIED:
                yield wrong(
                    f"{what}: access denied ({error.operation_name})",
                    "use credentials of the role that the stack makes for Airflow, or of who deployed it",
                )
            else:
                yield wrong(f"{what}: {error}", "see AWS's message; run make doctor again")
        except BotoCoreError as error:
            yield wrong(f"{what}: {error}", "check the network and AWS_ENDPOINT_URL; run make doctor again")

    def _only_looked_at_here(self, what: str, look: Callable[[], Any]) -> Any:
        """Return what AWS answers, or a finding when this identity may not ask; the pipeline never does."""
        try:
            return look()
        except ClientError as error:
            if error.response["Error"]["Code"] not in DENIED:
                raise
            return Finding("not checked", f"{what}: these credentials may not look ({error.operation_name})")

    def _check_script(self) -> Finding:
        try:
            ast.parse(SCRIPT.read_text())
        except (OSError, SyntaxError) as error:
            return wrong(f"Glue script {SCRIPT}: {error}", "restore it, for example with git checkout")
        return fine(f"Glue script {SCRIPT.relative_to(ROOT)}")

    def _check_bucket(self, bucket: str) -> Findings:
        s3, region = self._client("s3"), self._session.region_name
        head = s3.head_bucket(Bucket=bucket)
        found = head["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)
        if found != region:
            yield wrong(f"bucket {bucket}: is in {found}, the pipeline in {region}", "set AWS_DEFAULT_REGION")
            return
        versioning = self._only_looked_at_here(
            f"versioning of {bucket}", lambda: s3.get_bucket_versioning(Bucket=bucket).get("Status", "off")
        )
        if isinstance(versioning, Finding):
            yield fine(f"bucket {bucket}")
            yield versioning
        elif versioning != "Enabled":
            yield wrong(
                f"bucket {bucket}: versioning is {versioning}; overwritten files could not be brought back",
                f"aws s3api put-bucket-versioning --bucket {bucket} "
                "--versioning-configuration Status=Enabled",
            )
        else:
            yield fine(f"bucket {bucket}, versioned")

    def _check_catalogs(self) -> Findings:
        bucket = self._config.source_bucket
        for prefix in ("songs/", "users/"):
            pages = self._client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            if any(key.endswith((".csv", ".csv.gz")) for key in keys):
                yield fine(f"catalog s3://{bucket}/{prefix}")
            else:
                yield wrong(f"catalog s3://{bucket}/{prefix}: no CSV file", "upload one: every run needs it")

    def _check_table(self) -> Findings:
        name = self._config.kpi_table
        table = self._client("dynamodb").describe_table(TableName=name)["Table"]
        keys = {"HASH": "date", "RANGE": "track_genre"}
        indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", [])}
        if _keys_of(table) != keys:
            yield wrong(f"table {name}: its key is {_keys_of(table)}, not {keys}", DEPLOY)
        elif _keys_of(indexes.get(INDEX, {})) != {"HASH": "track_genre", "RANGE": "date"}:
            yield wrong(f"table {name}: has no index {INDEX} by track_genre and date", DEPLOY)
        elif table["TableStatus"] not in {"ACTIVE", "UPDATING"}:
            yield wrong(f"table {name}: is {table['TableStatus']}", "wait until it is ACTIVE")
        else:
            yield fine(f"table {name} with its index")

    def _check_role(self) -> Findings:
        name = self._config.glue_role_name
        trust = self._client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
        if "glue.amazonaws.com" not in json.dumps(trust):
            yield wrong(f"role {name}: Glue may not assume it", f"let glue.amazonaws.com assume it: {DEPLOY}")
        else:
            yield fine(f"role {name}, which Glue may assume")

    def _check_topic(self) -> Findings:
        arn = os.environ.get("ALERT_SNS_TOPIC_ARN", "").strip()
        if not arn:
            yield fine("no ALERT_SNS_TOPIC_ARN: failures send no message")
            return
        answer = self._only_looked_at_here(
            f"topic {arn}", lambda: self._client("sns").get_topic_attributes(TopicArn=arn)["Attributes"]
        )
        if isinstance(answer, Finding):
            yield answer
        elif not int(answer.get("SubscriptionsConfirmed", 0)):
            yield Finding("fine", f"topic {arn}; nobody has subscribed to it yet")
        else:
            yield fine(f"topic {arn}")

    def _check_rights(self) -> Findings:
        config, s3 = self._config, self._client("s3")
        s3.list_object_versions(Bucket=config.source_bucket, Prefix="streams/", MaxKeys=1)
        for bucket, key in (
            (config.source_bucket, "streams/.doctor"),
            (config.intermediate_bucket, "runs/.doctor"),
            (config.archive_bucket, "runs/.doctor"),
        ):
            _expect({"404", "NoSuchKey"}, lambda: s3.head_object(Bucket=bucket, Key=key))  # noqa: B023
        yield fine("right to list and read the buckets")
        _expect(
            {"EntityNotFoundException"}, lambda: self._client("glue").get_job(JobName=config.glue_job_name)
        )
        yield fine("right to look at the Glue job")
        never = "attribute_exists(#date) AND attribute_not_exists(#date)"
        item = {"date": {"S": ".doctor"}, "track_genre": {"S": ".doctor"}}
        _expect(
            {"ConditionalCheckFailedException"},
            lambda: self._client("dynamodb").put_item(
                TableName=config.kpi_table,
                Item=item,
                ConditionExpression=never,
                ExpressionAttributeNames={"#date": "date"},
            ),
        )
        yield fine("right to write to the table (tried with a condition that never holds)")
        yield Finding(
            "not checked", "rights to write to S3, to run the Glue job, to send messages: only doing it tells"
        )


def _expect(codes: set[str], call: Callable[[], Any]) -> None:
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise


def _keys_of(table: dict[str, Any]) -> dict[str, str]:
    return {key["KeyType"]: key["AttributeName"] for key in table.get("KeySchema", [])}


def unreachable(error: Exception) -> Finding:
    """Return the finding that AWS cannot be asked anything, with what to do about this error."""
    if isinstance(error, ClientError):
        return wrong(f"AWS: {error}", "renew the credentials: they are wrong, or have expired")
    remedies = {
        "NoCredentialsError": "log in (aws sso login), or set AWS_PROFILE or keys; local AWS takes any keys",
        "PartialCredentialsError": "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "ProfileNotFound": "correct AWS_PROFILE, or make the profile with aws configure",
        "NoRegionError": "set AWS_DEFAULT_REGION, for example to us-east-1",
    }
    otherwise = (
        "check the network and AWS_ENDPOINT_URL: none for real AWS; local AWS, started by make run or astro "
        "dev start, is http://127.0.0.1:5555, and http://local-aws:5555 only inside of Docker"
    )
    return wrong(f"AWS: {error}", remedies.get(type(error).__name__, otherwise))
