"""Put archived files back into the source, where the next run takes them like new ones.

``python -m include.replay --dates 2024-06-25`` with the pipeline's variables and AWS credentials in the
environment, or ``make replay DATES=2024-06-25`` for local AWS; ``--run`` names a run instead. Listens that
the history still has are only repeats. Those that it lost come back.

Each file gets a key of its own, named after the archived version: it replaces no waiting file, and a further
call finds it. Where the history of a day has fewer objects than the table counts, a run's items would look
older than those in the table. The day is therefore marked as being updated first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError
from rich.filesize import decimal

from helpers.contract.days import DaysError, NamedDays, UnknownDaysError, parse_days
from helpers.contract.keys import RUNS_PREFIX, history_prefix, kpis_key, report_key, versioned_name
from helpers.contract.names import ALL_GENRES, STREAMS_PREFIX
from helpers.contract.wording import counted
from include.aws_command import run_on_aws
from include.commands.errors import UserError
from include.commands.terminal import ask
from include.kpis.reports import list_objects

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

    from helpers.contract.records import ReportedFile, RunReport

VARIABLES = ("SOURCE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME", "KPI_TABLE_NAME")
REPLAYED_PREFIX = f"{STREAMS_PREFIX}replayed/"
WORKERS = 8
SHOWN = 10
# S3's errors for a copy, and for a copy in parts.
_NOT_RESTORED = frozenset({"ObjectNotInActiveTierError", "InvalidObjectState"})


class ReplayError(UserError):
    """The files cannot be put back; the message gives the reason and the remedy."""


class Places(NamedTuple):
    """The pipeline's buckets that hold stream files, and its table."""

    source: str
    archive: str
    table: str


@dataclass
class Plan:
    """The work of a replay, for the user's consent.

    Attributes:
        copies: archive key by key in the source bucket, for each file that has to be copied.
        bytes: the size of these files.
        waiting: number of files that an earlier call put back and no run has taken yet.
        problems: a line for each file that cannot be put back.
        lost: the table's number of history objects and the present one, by day that lost some.
    """

    copies: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    waiting: int = 0
    problems: list[str] = field(default_factory=list)
    lost: dict[str, tuple[int, int]] = field(default_factory=dict)


def replay(
    s3: S3Client,
    dynamodb: DynamoDBClient,
    places: Places,
    chosen: NamedDays | str,
    agrees: Callable[[str], bool],
    say: Callable[[str], None],
) -> int:
    """Show what a replay would do, ask, and put the files back; return how many wait for the next run.

    Args:
        s3: the client of S3.
        dynamodb: the client of DynamoDB.
        places: the pipeline's buckets and its table.
        chosen: a run key; or listen days, which mean the files of every run that had listens of them.
        agrees: asks the question that it is given.
        say: prints a line.

    Raises:
        ReplayError: no run fits, the answer is not yes, or a file cannot be put back; the others are.
    """
    reports = _choose(_read_reports(s3, places.archive), chosen, places.archive)
    files = [file for report in reports for file in report["files"] if file["disposition"] == "archive"]
    days = sorted({day for report in reports for day in report["days"]})
    plan = _plan(s3, dynamodb, places, files, days)
    say(f"{counted(len(reports), 'run')}, with listens of {_some(days)}:")
    for report in reports[-SHOWN:]:
        archived = sum(file["disposition"] == "archive" for file in report["files"])
        say(f"  {report['run_key']}: {counted(archived, 'archived file')}")
    if len(reports) > SHOWN:
        say(f"  and {len(reports) - SHOWN} earlier ones")
    if plan.waiting:
        say(f"{counted(plan.waiting, 'file')} already in s3://{places.source}/{REPLAYED_PREFIX}")
    for day, (in_table, present) in plan.lost.items():
        say(
            f"The history of {day} lost objects: the table counts {in_table}, {present} exist. The day will "
            "be marked as updating, and its Parquet file for SQL deleted, until the next run writes both."
        )
    if not plan.lost:
        say("The history has every object that the table counts, so intact files give only repeats.")
    if plan.copies or plan.lost:
        what = f"{counted(len(plan.copies), 'file')}, {decimal(plan.bytes)},"
        if not agrees(f"Put {what} back into s3://{places.source}/{REPLAYED_PREFIX}?"):
            raise ReplayError("Nothing was put back: the answer was not yes. --yes answers it.")
        for day, (in_table, _) in plan.lost.items():
            _mark_as_updating(s3, dynamodb, places, day, in_table)
        with ThreadPoolExecutor(WORKERS) as pool:
            copied = pool.map(lambda copy: _copy(s3, places, copy[1], copy[0]), plan.copies.items())
        plan.problems += filter(None, copied)
    if plan.problems:
        raise ReplayError("\n".join([f"{counted(len(plan.problems), 'file')} not put back:", *plan.problems]))
    return len(plan.copies) + plan.waiting


def _read_reports(s3: S3Client, archive_bucket: str) -> list[RunReport]:
    """Return the reports of all runs that archived files, in the order in which the runs listed them."""
    keys = [entry["Key"] for entry in list_objects(s3, archive_bucket, RUNS_PREFIX)]
    keys = [key for key in keys if key == report_key(key.split("/")[1])]

    def read(key: str) -> RunReport:
        report: RunReport = json.loads(s3.get_object(Bucket=archive_bucket, Key=key)["Body"].read())
        return report

    with ThreadPoolExecutor(WORKERS) as pool:
        reports = [report for report in pool.map(read, keys) if report["totals"]["archived"]]
    return sorted(reports, key=lambda report: report["frozen_at"])


def _choose(reports: list[RunReport], chosen: NamedDays | str, archive_bucket: str) -> list[RunReport]:
    if not reports:
        raise ReplayError(
            f"No run report in s3://{archive_bucket}/{RUNS_PREFIX} names an archived file. If reports were "
            "lost: docs/recovery.md."
        )
    if isinstance(chosen, str):
        if found := [report for report in reports if report["run_key"] == chosen]:
            return found
        known = "".join(f"\n  {report['run_key']}" for report in reports[-SHOWN:])
        raise ReplayError(f"No run {chosen!r} archived a file. The last runs that did:{known}")
    known_days = {day for report in reports for day in report["days"]}
    try:
        days = set(chosen.among(known_days))
    except UnknownDaysError as error:
        raise ReplayError(
            f"No archived file has listens of {error}. There are some of {min(known_days)} to "
            f"{max(known_days)}."
            if known_days
            else "No archived file has listens."
        ) from error
    return [report for report in reports if days & report["days"].keys()]


def _plan(
    s3: S3Client,
    dynamodb: DynamoDBClient,
    places: Places,
    files: Iterable[ReportedFile],
    days: Collection[str],
) -> Plan:
    """Compare archive, source, history and table; a file that was replayed before has several copies."""
    archived: dict[str, list[str]] = {}
    for file in files:
        archived.setdefault(_target_key(file), []).append(str(file["destination"]))
    plan = Plan()
    with ThreadPoolExecutor(WORKERS) as pool:
        found = pool.map(lambda entry: _examine(s3, places, *entry), archived.items())
        for target, (key, size, problem) in zip(archived, found, strict=True):
            if problem:
                plan.problems.append(problem)
            elif key is None:
                plan.waiting += 1
            else:
                plan.copies[target] = key
                plan.bytes += size
        counts = pool.map(lambda day: (day, _count(s3, dynamodb, places, day)), days)
        plan.lost = {day: (in_table, present) for day, (in_table, present) in counts if in_table > present}
    return plan


def _target_key(file: ReportedFile) -> str:
    """Return the key in the source bucket: that of the first replay, if the file is the copy of one."""
    if file["key"].startswith(REPLAYED_PREFIX):
        return file["key"]
    return REPLAYED_PREFIX + versioned_name(file)


def _examine(
    s3: S3Client, places: Places, target: str, candidates: Iterable[str]
) -> tuple[str | None, int, str | None]:
    """Return the archived object to copy (None if the file waits already), its size, and any problem."""
    heads = {key: _head(s3, places.archive, key) for key in dict.fromkeys(candidates)}
    key, archived = next(((key, head) for key, head in heads.items() if head), (None, None))
    if key is None or archived is None:
        return None, 0, f"s3://{places.archive}/{next(iter(heads))} is gone: restore its earlier version."
    waiting = _head(s3, places.source, target)
    if waiting is None:
        return key, archived["ContentLength"], None
    if _is_same(s3, (places.archive, key, archived), (places.source, target, waiting)):
        return None, 0, None
    return None, 0, f"s3://{places.source}/{target} has other content: let a run take it first."


def _count(s3: S3Client, dynamodb: DynamoDBClient, places: Places, day: str) -> tuple[int, int]:
    """Return the day's number of history objects, as the table has it and as it is."""
    item: Any = dynamodb.get_item(TableName=places.table, Key=_totals_key(day), ConsistentRead=True)
    present = [entry["Key"] for entry in list_objects(s3, places.archive, history_prefix(day))]
    in_table = int(item.get("Item", {}).get("version", {}).get("N", 0))
    return in_table, sum(key.endswith(".parquet") for key in present)


def _mark_as_updating(s3: S3Client, dynamodb: DynamoDBClient, places: Places, day: str, version: int) -> None:
    """Let any run replace the day's items and its Parquet file, which stand for more than the history has.

    A newer item or file, which a run has written from the present history meanwhile, is left unchanged. The
    item comes last, because a further call recognizes the day by it.
    """
    copy = _head(s3, places.archive, kpis_key(day))
    if copy and copy["Metadata"].get("version") == str(version):
        with _ignored("PreconditionFailed", "412"):
            s3.delete_object(Bucket=places.archive, Key=kpis_key(day), IfMatch=copy["ETag"])
    with _ignored("ConditionalCheckFailedException"):
        dynamodb.update_item(
            TableName=places.table,
            Key=_totals_key(day),
            UpdateExpression="SET #status = :updating, #version = :none",
            ConditionExpression="#version = :version",
            ExpressionAttributeNames={"#status": "status", "#version": "version"},
            ExpressionAttributeValues={
                ":updating": {"S": "updating"},
                ":none": {"N": "0"},
                ":version": {"N": str(version)},
            },
        )


@contextmanager
def _ignored(*codes: str) -> Iterator[None]:
    """Ignore errors of AWS with these codes."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise


def _totals_key(day: str) -> dict[str, Any]:
    return {"date": {"S": day}, "track_genre": {"S": ALL_GENRES}}


def _copy(s3: S3Client, places: Places, key: str, target: str) -> str | None:
    """Copy the archived object and compare it with its copy; return any problem."""
    try:
        s3.copy({"Bucket": places.archive, "Key": key}, places.source, target)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_RESTORED:
            raise
        return (
            f"s3://{places.archive}/{key} is in an archive class: restore it (aws s3api restore-object), "
            "then give the same command again."
        )
    archived, copy = _head(s3, places.archive, key), _head(s3, places.source, target)
    # A run may have taken the file in this moment; it compares the bytes too.
    if archived and copy and not _is_same(s3, (places.archive, key, archived), (places.source, target, copy)):
        return f"s3://{places.source}/{target} differs from s3://{places.archive}/{key}: delete it."
    return None


def _head(s3: S3Client, bucket: str, key: str) -> Any:
    try:
        return s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
            return None
        raise


def _is_same(s3: S3Client, one: tuple[str, str, Any], other: tuple[str, str, Any]) -> bool:
    """Compare two objects, each given by bucket, key and metadata."""
    if one[2]["ContentLength"] != other[2]["ContentLength"]:
        return False
    # Under KMS, and for uploads in parts, equal bytes may have different ETags.
    return one[2]["ETag"] == other[2]["ETag"] or _sha256(s3, *one[:2]) == _sha256(s3, *other[:2])


def _sha256(s3: S3Client, bucket: str, key: str) -> str:
    digest = hashlib.sha256()
    for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1024**2):
        digest.update(chunk)
    return digest.hexdigest()


def _some(days: Collection[str]) -> str:
    return f"{min(days)} to {max(days)}" if len(days) > 1 else "".join(days) or "no day"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m include.replay",
        description="Put archived files back into the source, where the next run takes them.",
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--dates", metavar="DATES", help="listen days such as 2024-06-25,2024-07-01..2024-07-31"
    )
    which.add_argument("--run", metavar="RUN_KEY", help="run key, as below runs/ of the archive bucket")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(argv)

    def work(s3: S3Client, dynamodb: DynamoDBClient, *names: str) -> None:
        try:
            chosen = options.run or parse_days(options.dates or "")
        except DaysError as error:
            raise UserError(f"--dates {error}") from error
        places, agrees = Places(*names), lambda question: options.yes or ask(question)
        files = replay(s3, dynamodb, places, chosen, agrees, print)
        print(f"The next run takes {counted(files, 'file')}.")

    return run_on_aws(VARIABLES, "REPLAY_POLICY_ARN", work)


if __name__ == "__main__":
    sys.exit(main())
