"""Finds and removes everything with the suffix, including retained resources and logs of Glue runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from include.findings import MISSING
from include.smoke.account import Account

LOG_GROUPS = "/aws-glue/jobs"
ACTIVE_RUNS = frozenset({"STARTING", "RUNNING", "WAITING", "STOPPING"})
STOP_SECONDS = 300
# Some services still show deleted resources for a moment.
SETTLE_SECONDS = 60
_GONE = MISSING | {"EntityNotFoundException", "NotFoundException"}
_POLLING = {"Delay": 5, "MaxAttempts": 180}


@dataclass(frozen=True)
class Leftover:
    """A resource with the suffix that still exists, and the reason."""

    what: str
    why: str


def find_existing(account: Account) -> list[str]:
    """Return the existing resources of the smoke test.

    Raises:
        ClientError: the user may not read one of them.
    """
    names = account.names
    s3, iam = account.client("s3"), account.client("iam")
    looks: list[tuple[str, Callable[[], Any]]] = [
        (f"stack {names.stack}", lambda: stack_is_there(account)),
        *((f"bucket {name}", partial(_bucket_is_there, s3, name)) for name in names.buckets),
        (f"table {names.table}", lambda: account.client("dynamodb").describe_table(TableName=names.table)),
        *(
            (f"role {name}", partial(iam.get_role, RoleName=name))
            for name in (names.glue_role, names.airflow_role)
        ),
        (f"Glue job {names.job}", lambda: account.client("glue").get_job(JobName=names.job)),
        (
            f"topic {names.topic}",
            lambda: account.client("sns").get_topic_attributes(TopicArn=account.topic_arn),
        ),
        (
            f"alarms {names.stack}-*",
            lambda: account.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{names.stack}-")[
                "MetricAlarms"
            ],
        ),
    ]
    return [what for what, look in looks if _is_there(look)]


def list_log_groups(account: Account) -> frozenset[str]:
    """Return Glue's log groups, which all jobs of the account share."""
    pages = (
        account.client("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=LOG_GROUPS)
    )
    return frozenset(group["logGroupName"] for page in pages for group in page["logGroups"])


class Removal:
    """Removes one resource after the other; it records those it cannot remove and continues."""

    def __init__(
        self, account: Account, groups_before: frozenset[str] | None, say: Callable[[str], None]
    ) -> None:
        """Take the account and its resources.

        Args:
            account: the account, with the names.
            groups_before: log groups that existed before; if None (unknown), all are kept.
            say: prints a line of progress.
        """
        self._account = account
        self._names = account.names
        self._groups_before = groups_before
        self._say = say
        self.leftovers: list[Leftover] = []

    def remove(self) -> list[Leftover]:
        """Remove everything; return the leftovers."""
        names = self._names
        runs = self._try(f"Glue job {names.job}", self._remove_job) or []
        for bucket in names.buckets:
            self._try(f"bucket {bucket}", partial(self._empty, bucket))
        self._try(f"stack {names.stack}", self._delete_stack)
        for bucket in names.buckets:
            self._try(f"bucket {bucket}", partial(self._delete_bucket, bucket))
        self._try(f"table {names.table}", self._delete_table)
        self._try("log streams of the Glue job", lambda: self._delete_logs(runs))
        for what in self._try("what is left", self._find_left) or []:
            self._note(what, "it is still there")
        return self.leftovers

    def _find_left(self) -> list[str]:
        """Return the resources that still exist although their deletion succeeded."""
        deadline = time.monotonic() + SETTLE_SECONDS
        noted = {leftover.what for leftover in self.leftovers}
        while left := [what for what in find_existing(self._account) if what not in noted]:
            # If the stack was not deleted, its roles and topic still exist too.
            if f"stack {self._names.stack}" in noted or time.monotonic() > deadline:
                break
            time.sleep(5)
        return left

    def _try(self, what: str, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except ClientError as error:
            if error.response["Error"]["Code"] not in _GONE:
                self._note(what, str(error))
        except Exception as error:
            # After any error, the remaining resources must still be removed.
            self._note(what, "; ".join(map(str, error.args)) or type(error).__name__)
        return None

    def _note(self, what: str, why: str) -> None:
        if what not in {leftover.what for leftover in self.leftovers}:
            self.leftovers.append(Leftover(what, why))

    def _remove_job(self) -> list[str]:
        """Stop the job's runs, because they write, then delete the job; return the runs."""
        glue, job = self._account.client("glue"), self._names.job

        def runs() -> dict[str, str]:
            pages = glue.get_paginator("get_job_runs").paginate(JobName=job)
            return {run["Id"]: run["JobRunState"] for page in pages for run in page["JobRuns"]}

        found = runs()
        deadline = time.monotonic() + STOP_SECONDS
        while active := [run for run, state in runs().items() if state in ACTIVE_RUNS]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{', '.join(active)} did not stop within {STOP_SECONDS} seconds")
            self._say(f"stopping {', '.join(active)}")
            glue.batch_stop_job_run(JobName=job, JobRunIds=active)
            time.sleep(2)
        glue.delete_job(JobName=job)
        self._say(f"deleted Glue job {job}")
        return list(found)

    def _empty(self, bucket: str) -> None:
        s3 = self._account.client("s3")
        place = {"Bucket": bucket, "ExpectedBucketOwner": self._account.id}
        count = 0
        for page in s3.get_paginator("list_multipart_uploads").paginate(**place):
            for upload in page.get("Uploads", []):
                s3.abort_multipart_upload(**place, Key=upload["Key"], UploadId=upload["UploadId"])
        for page in s3.get_paginator("list_object_versions").paginate(**place):
            versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if not versions:
                continue
            objects = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in versions]
            answer = s3.delete_objects(**place, Delete={"Objects": objects, "Quiet": True})
            for error in answer.get("Errors", []):
                self._note(f"bucket {bucket}", f"{error['Key']}: {error['Code']}: {error['Message']}")
            count += len(objects)
        self._say(f"emptied bucket {bucket}: {count:,} object versions and delete markers")

    def _delete_stack(self) -> None:
        name = self._names.stack
        if not stack_is_there(self._account):
            return
        self._say(f"deleting stack {name}")
        delete_stack(self._account)

    def _delete_bucket(self, bucket: str) -> None:
        s3 = self._account.client("s3")
        s3.delete_bucket(Bucket=bucket, ExpectedBucketOwner=self._account.id)
        self._say(f"deleted bucket {bucket}")

    def _delete_table(self) -> None:
        dynamodb, table = self._account.client("dynamodb"), {"TableName": self._names.table}
        dynamodb.describe_table(**table)
        # A table that is being created cannot be deleted.
        dynamodb.get_waiter("table_exists").wait(**table, WaiterConfig=_POLLING)
        if dynamodb.describe_table(**table)["Table"].get("DeletionProtectionEnabled"):
            dynamodb.update_table(**table, DeletionProtectionEnabled=False)
            dynamodb.get_waiter("table_exists").wait(**table, WaiterConfig=_POLLING)
        try:
            dynamodb.update_continuous_backups(
                **table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
            )
        except ClientError as error:
            self._say(f"DynamoDB will keep a backup of the table for 35 days, at no cost: {error}")
        dynamodb.delete_table(**table)
        dynamodb.get_waiter("table_not_exists").wait(**table, WaiterConfig=_POLLING)
        self._say(f"deleted table {self._names.table}")

    def _delete_logs(self, runs: list[str]) -> None:
        if not runs:
            return
        logs = self._account.client("logs")
        for group in list_log_groups(self._account):
            for stream in [stream for run in runs for stream in self._streams(group, run)]:
                self._account.logs.add(stream)
                logs.delete_log_stream(logGroupName=group, logStreamName=stream)
                self._say(f"deleted log stream {stream} of {group}")
            # All jobs of the account share the group: another one may have begun to use it.
            is_new = self._groups_before is not None and group not in self._groups_before
            if is_new and next(self._streams(group), None) is None:
                self._account.logs.add(group)
                logs.delete_log_group(logGroupName=group)
                self._say(f"deleted log group {group}")

    def _streams(self, group: str, run: str = "") -> Iterator[str]:
        prefix = {"logStreamNamePrefix": run} if run else {}
        pages = self._account.client("logs").get_paginator("describe_log_streams")
        for page in pages.paginate(logGroupName=group, **prefix):
            yield from (stream["logStreamName"] for stream in page["logStreams"])


class StackError(Exception):
    """CloudFormation failed; each argument is a resource and its reason."""


def delete_stack(account: Account) -> None:
    """Delete the stack and wait until it is gone.

    Raises:
        StackError: a resource cannot be deleted.
    """
    cloudformation, name = account.client("cloudformation"), account.names.stack
    # Its id still works after the deletion.
    stack_id = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
    cloudformation.delete_stack(StackName=name)
    try:
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack_id, WaiterConfig=_POLLING)
    except WaiterError as error:
        raise StackError(*(failures_of_stack(account, stack_id) or [str(error)])) from error


def failures_of_stack(account: Account, stack: str) -> list[str]:
    """Return resource and reason of each failure in the stack's events, oldest first."""
    pages = account.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack)
    events = [event for page in pages for event in page["StackEvents"]]
    return [
        f"{event['LogicalResourceId']} ({event['ResourceType']}): {event.get('ResourceStatusReason', '')}"
        for event in reversed(events)
        if event["ResourceStatus"].endswith("_FAILED")
        and "cancelled" not in event.get("ResourceStatusReason", "")
    ]


def _is_there(look: Callable[[], Any]) -> bool:
    try:
        return bool(look())
    except ClientError as error:
        if error.response["Error"]["Code"] in _GONE:
            return False
        raise


def stack_is_there(account: Account) -> bool:
    """Return whether a stack of that name exists, in any state.

    Raises:
        ClientError: the user may not read it.
    """
    try:
        stacks = account.client("cloudformation").describe_stacks(StackName=account.names.stack)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return False
        raise
    return any(stack["StackStatus"] != "DELETE_COMPLETE" for stack in stacks)


def _bucket_is_there(s3: Any, bucket: str) -> bool:
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        # It belongs to another account or region.
        if error.response["Error"]["Code"] not in {"403", "301"}:
            raise
    return True
