"""Checks whether the pipeline's AWS resources exist and may be used; the checks change nothing."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from helpers.contract.keys import QUARANTINE_PREFIX
from helpers.contract.names import KPI_INDEX, SONGS_PREFIX, STREAMS_PREFIX, USERS_PREFIX, is_csv
from include.findings import DENIED, DEPLOY, Finding, Findings, failed, fine, unreachable, wrong

SOURCE_PREFIXES = (STREAMS_PREFIX, SONGS_PREFIX, USERS_PREFIX)
OTHER_TABLE = (
    "deploying cannot take over a table that the stack has not made: deploy with another name and set "
    "KPI_TABLE_NAME to it, or delete this table, or import it into the stack"
)


class Doctor:
    """Examines one deployment, defined by the settings, with the identity of the session."""

    def __init__(self, config: Any, session: boto3.Session) -> None:
        """Take the pipeline's settings (a `PipelineConfig`) and the session for AWS calls."""
        self._config = config
        self._session = session
        self._clients: dict[str, Any] = {}

    def findings(self) -> Findings:
        """Examine everything; stop early if AWS cannot be reached at all."""
        try:
            identity = self._client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            yield unreachable(error)
            return
        yield fine(f"AWS answers {identity['Arn']} in {self._session.region_name}")
        for variable, bucket in self._buckets().items():
            yield from self._guarded(f"bucket {bucket} ({variable})", self._check_bucket, bucket)
        for check, what in (
            (self._check_script, "Glue script"),
            (self._check_catalogs, "catalogs"),
            (self._check_table, f"table {self._config.kpi_table} (KPI_TABLE_NAME)"),
            (self._check_role, f"role {self._config.glue_role_name} (GLUE_ROLE_NAME)"),
            (self._check_topic, "topic (ALERT_SNS_TOPIC_ARN)"),
            (self._check_queue, "queue (STREAMS_QUEUE_URL)"),
        ):
            yield from self._guarded(what, check)
        yield from self._check_rights()

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
        except (BotoCoreError, ClientError) as error:
            yield failed(what, error)

    def _only_looked_at_here(self, what: str, look: Callable[[], Any]) -> Any:
        """Return AWS's answer to a call that only this check makes, or a finding if it is denied."""
        try:
            return look()
        except ClientError as error:
            if error.response["Error"]["Code"] not in DENIED:
                raise
            return Finding(
                "not checked", f"{what}: these credentials may not read it ({error.operation_name})"
            )

    def _check_script(self) -> Findings:
        # Imported late: these errors derive from Airflow's, whose import creates a home folder.
        from helpers.aws.job_script import read_script, script_location
        from helpers.errors import ConfigurationError

        location = script_location(self._config)
        try:
            ast.parse(read_script(self._client("s3"), self._config))
        except ConfigurationError as error:
            problem, _, remedy = str(error).partition(". ")
            yield wrong(problem, remedy)
        except SyntaxError as error:
            yield wrong(f"Glue script {location}: {error}", "restore it, for example with git checkout")
        else:
            yield fine(f"Glue script {location}")

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
            if any(map(is_csv, keys)):
                yield fine(f"catalog s3://{bucket}/{prefix}")
            else:
                yield wrong(f"catalog s3://{bucket}/{prefix}: no CSV file", "upload one: every run needs it")

    def _check_table(self) -> Findings:
        name = self._config.kpi_table
        table = self._client("dynamodb").describe_table(TableName=name)["Table"]
        keys = {"HASH": "date", "RANGE": "track_genre"}
        indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", [])}
        if _keys_of(table) != keys:
            yield wrong(f"table {name}: its key is {_keys_of(table)}, not {keys}", OTHER_TABLE)
        elif _keys_of(indexes.get(KPI_INDEX, {})) != {"HASH": "track_genre", "RANGE": "date"}:
            yield wrong(f"table {name}: has no index {KPI_INDEX} by track_genre and date", OTHER_TABLE)
        elif table["TableStatus"] not in {"ACTIVE", "UPDATING"}:
            yield wrong(f"table {name}: is {table['TableStatus']}", "wait until it is ACTIVE")
        else:
            yield fine(f"table {name} with its index")

    def _check_role(self) -> Findings:
        name = self._config.glue_role_name
        trust = self._client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
        if not any(_lets_glue_assume(statement) for statement in _as_list(trust["Statement"])):
            yield wrong(f"role {name}: Glue may not assume it", f"let glue.amazonaws.com assume it: {DEPLOY}")
        else:
            yield fine(f"role {name}, which Glue may assume")

    def _check_topic(self) -> Findings:
        arn = os.environ.get("ALERT_SNS_TOPIC_ARN", "").strip()
        if not arn:
            yield fine("no ALERT_SNS_TOPIC_ARN: failures send no message")
            return
        answer = self._only_looked_at_here(
            f"topic {arn}",
            lambda: self._client("sns").list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"],
        )
        if isinstance(answer, Finding):
            yield answer
        elif all(entry["SubscriptionArn"] == "PendingConfirmation" for entry in answer):
            yield Finding(
                "warning",
                f"topic {arn}: nobody gets its messages, because no subscription is confirmed",
                "open the link in the e-mail that AWS has sent, or subscribe: deploy with AlertEmail, or "
                f"aws sns subscribe --topic-arn {arn} --protocol email --notification-endpoint ADDRESS",
            )
        else:
            yield fine(f"topic {arn}")

    def _check_queue(self) -> Findings:
        # Imported late, as in `_check_script`.
        from helpers.run.schedule import runs_start_by_event

        url, bucket = self._config.streams_queue_url, self._config.source_bucket
        if not url:
            yield fine("no STREAMS_QUEUE_URL: runs start at the times of PIPELINE_SCHEDULE")
            return
        queue = self._client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        announced = self._only_looked_at_here(
            f"notifications of {bucket}",
            lambda: self._client("s3").get_bucket_notification_configuration(Bucket=bucket),
        )
        if isinstance(announced, Finding):
            yield announced
        elif queue["Attributes"]["QueueArn"] not in {
            configuration["QueueArn"] for configuration in announced.get("QueueConfigurations", [])
        }:
            yield wrong(
                f"queue {url}: S3 announces no files of {bucket} to it",
                "deploy include/stack.yaml with the queue's name as StreamsQueueParameter, or leave "
                "STREAMS_QUEUE_URL out",
            )
        else:
            yield fine(f"queue {url}, to which S3 announces the files of {bucket}")
        if not runs_start_by_event():
            yield Finding(
                "warning",
                f"queue {url}: nothing reads it, so files do not start runs",
                "use Airflow 3 (docs/airflow3.md) and a schedule with times such as @daily, or leave "
                "STREAMS_QUEUE_URL out",
            )
        elif not find_spec("aiobotocore"):
            yield wrong(
                f"queue {url}: the triggerer cannot read it without the package aiobotocore",
                "install the amazon provider with its extra: apache-airflow-providers-amazon[aiobotocore]",
            )

    def _check_rights(self) -> Findings:
        config, source, archive = self._config, self._config.source_bucket, self._config.archive_bucket
        yield from self._check_reading(source, SOURCE_PREFIXES, SOURCE_PREFIXES)
        yield from self._check_reading(config.intermediate_bucket, ("runs/",), ("runs/",))
        archived = (STREAMS_PREFIX, QUARANTINE_PREFIX)
        yield from self._check_reading(archive, (*archived, "listens/"), (*archived, "runs/"))
        yield from self._guarded("right to read the Glue job", self._check_job)
        yield from self._guarded("right to write to the table", self._check_writing_items)
        for what in (
            "rights to read versions, write, copy and delete in S3",
            "rights to run the Glue job under its role, to send messages and to count runs",
            "rights of the Glue role itself, and use of a KMS key by both roles",
        ):
            yield Finding("not checked", f"{what}: only a run can show it")

    def _check_reading(self, bucket: str, listed: tuple[str, ...], read: tuple[str, ...]) -> Findings:
        s3, problems = self._client("s3"), []

        def look(what: str, call: Callable[[], Any], *expected: str) -> None:
            try:
                _expect({"404", *expected}, call)
            except (BotoCoreError, ClientError) as error:
                problems.append(failed(f"right to {what}", error))

        for prefix in listed:
            target = {"Bucket": bucket, "Prefix": prefix}
            look(f"list s3://{bucket}/{prefix}", lambda: s3.list_objects_v2(**target, MaxKeys=1))  # noqa: B023
            if prefix in SOURCE_PREFIXES and bucket == self._config.source_bucket:
                look(
                    f"list versions in s3://{bucket}/{prefix}",
                    lambda: s3.list_object_versions(**target, MaxKeys=1),  # noqa: B023
                )
        for prefix in read:
            missing = {"Bucket": bucket, "Key": f"{prefix}.doctor"}
            look(f"read s3://{bucket}/{prefix}", lambda: s3.head_object(**missing), "NoSuchKey")  # noqa: B023
        yield from problems
        if not problems:
            yield fine(f"rights in bucket {bucket}: to list {', '.join(listed)}; to read {', '.join(read)}")

    def _check_job(self) -> Findings:
        name = self._config.glue_job_name
        _expect({"EntityNotFoundException"}, lambda: self._client("glue").get_job(JobName=name))
        yield fine("right to read the Glue job")

    def _check_writing_items(self) -> Findings:
        _expect(
            {"ConditionalCheckFailedException"},
            lambda: self._client("dynamodb").put_item(
                TableName=self._config.kpi_table,
                Item={"date": {"S": ".doctor"}, "track_genre": {"S": ".doctor"}},
                ConditionExpression="attribute_exists(#date) AND attribute_not_exists(#date)",
                ExpressionAttributeNames={"#date": "date"},
            ),
        )
        yield fine("right to write to the table (tried with a condition that never holds)")


def _expect(codes: set[str], call: Callable[[], Any]) -> None:
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise


def _keys_of(table: dict[str, Any]) -> dict[str, str]:
    return {key["KeyType"]: key["AttributeName"] for key in table.get("KeySchema", [])}


def _lets_glue_assume(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal", {})
    services = _as_list(principal.get("Service", [])) if isinstance(principal, dict) else []
    return (
        statement["Effect"] == "Allow"
        and "glue.amazonaws.com" in services
        and not {"sts:AssumeRole", "sts:*", "*"}.isdisjoint(_as_list(statement.get("Action", [])))
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
