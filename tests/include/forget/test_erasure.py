"""Users are forgotten in local AWS: killed at any call, refused without rights, in buckets of any kind."""

from __future__ import annotations

import gzip
import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from pyarrow import parquet as pq

from helpers.contract.keys import ERASURES_PREFIX, REFUSED_USERS_KEY
from helpers.ingest.refused_users import digest_of
from include.forget import __main__ as command_line
from include.forget import erasure
from include.forget.command import forget, read_ids
from include.forget.erasure import ForgetError, Places, days_to_reprocess, read_unfinished
from local_aws_support import connect
from tests.include.conftest import ACCOUNT, DeployedStack, enforced_policies
from tests.include.killed_commands import Killed, calls_of, changes_among
from tests.include.stack_policies.policies import AIRFLOW_ROLE, client_of

USER, OTHER = "zoe-1", "u2"
DAY = "2024-06-25"
HEADER = "user_id,track_id,listen_time\n"
BOTH = f"{HEADER}{USER},t,{DAY} 10:00:00\n{OTHER},t,{DAY} 10:00:00\n"
OF_OTHER = f"{HEADER}{OTHER},t,{DAY} 10:00:00\n"
RECORD = {"run_key": "r", "files": [{"reason": f"bad, such as '{USER};x' in line 2"}]}
HISTORY = f"listens/listen_date={DAY}/r__part-00000.parquet"


@cache
def clients(endpoint_url: str) -> tuple[Any, Any]:
    """Creating clients takes longer than a test's calls."""
    return connect("s3", endpoint_url), connect("dynamodb", endpoint_url)


@dataclass
class Kept:
    """Buckets with a user in each kind of object, and a table with the day's totals."""

    endpoint_url: str
    versioned: bool = True
    names: Places = field(init=False)

    def __post_init__(self) -> None:
        name = f"forget-{uuid.uuid4().hex[:12]}"
        self.names = Places(f"{name}-source", f"{name}-intermediate", f"{name}-archive", name)
        self.s3, self.dynamodb = clients(self.endpoint_url)
        for bucket in (self.names.source, self.names.intermediate, self.names.archive):
            self.s3.create_bucket(Bucket=bucket)
            if self.versioned:
                self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        self.dynamodb.create_table(
            TableName=self.names.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": n, "AttributeType": "S"} for n in ("date", "track_genre")
            ],
            KeySchema=[
                {"AttributeName": "date", "KeyType": "HASH"},
                {"AttributeName": "track_genre", "KeyType": "RANGE"},
            ],
        )
        self.fill()

    def fill(self) -> None:
        put(self, self.names.archive, HISTORY, history(USER, OTHER))
        put(self, self.names.archive, f"streams/{DAY}/a__1.csv.gz", gzip.compress(BOTH.encode()))
        put(self, self.names.archive, "quarantine/r/b__1.csv", BOTH)
        put(self, self.names.archive, "quarantine/r/b__1.csv.reason.json", json.dumps(RECORD))
        put(self, self.names.source, "streams/waiting.csv", BOTH)
        put(self, self.names.source, "streams/taken.csv", BOTH)
        self.s3.delete_object(Bucket=self.names.source, Key="streams/taken.csv")
        put(self, self.names.source, "users/users.csv", f"user_id,user_name\n{USER},Zoe\n")
        put(self, self.names.source, "users/users.csv", "user_id,user_name\nu2,Bob\n")
        put(self, self.names.intermediate, "runs/r/combined/part-00000.json", f'["{USER}"]')
        put(self, self.names.intermediate, "snapshots/tables/t/users/part-00000.parquet", USER)
        item = {"date": DAY, "track_genre": "ALL_GENRES", "status": "complete"}
        item |= {"catalogs_frozen_at": "2024-06-26T00:00:00+00:00"}
        self.dynamodb.put_item(TableName=self.names.table, Item={k: {"S": v} for k, v in item.items()})

    def forget(
        self, *users: str, said: list[str] | None = None, agrees: bool = True, refuse: bool = False
    ) -> list[str]:
        say = (said if said is not None else []).append
        return forget(self.s3, self.dynamodb, self.names, users, lambda question: agrees, say, refuse)

    def contents(self) -> dict[str, list[bytes | None]]:
        """Every version of every object by address, the newest first; None for a delete marker."""
        found: dict[str, list[bytes | None]] = {}
        for bucket in (self.names.source, self.names.intermediate, self.names.archive):
            listed = self.s3.list_object_versions(Bucket=bucket)
            entries = listed.get("Versions", []) + listed.get("DeleteMarkers", [])
            for entry in sorted(entries, key=lambda entry: not entry["IsLatest"]):
                pin = {"VersionId": entry["VersionId"]} if self.versioned else {}
                is_marker = "ETag" not in entry
                content = None if is_marker else self.s3.get_object(Bucket=bucket, Key=entry["Key"], **pin)
                address = f"{bucket.rpartition('-')[2]}/{entry['Key']}"
                found.setdefault(address, []).append(content and plain(content["Body"].read()))
        return found


def put(kept: Kept, bucket: str, key: str, body: str | bytes) -> None:
    kept.s3.put_object(Bucket=bucket, Key=key, Body=body.encode() if isinstance(body, str) else body)


def history(*users: str) -> bytes:
    row = {"track_id": "t", "listen_time": datetime.fromisoformat(f"{DAY}T10:00:00+00:00")}
    table = pa.Table.from_pylist([{"user_id": user_id} | row for user_id in users])
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def plain(content: bytes) -> bytes:
    content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    if content.startswith(b"PAR1"):
        return ",".join(pq.read_table(io.BytesIO(content))["user_id"].to_pylist()).encode()
    return content


def assert_forgotten(kept: Kept) -> None:
    contents = kept.contents()
    contents.pop(f"archive/{REFUSED_USERS_KEY}", None)
    [record] = [key for key in contents if key.startswith(f"archive/{ERASURES_PREFIX}")]
    [finished] = contents.pop(record)
    assert finished is not None
    assert json.loads(finished)["finished_at"]
    assert json.loads(finished)["days"] == {DAY: 1}
    assert "user_ids" not in json.loads(finished)
    cleaned = {"run_key": "r", "files": [{"reason": "bad, such as '(forgotten);x' in line 2"}]}
    other = OF_OTHER.encode()
    assert contents == {
        f"archive/{HISTORY}": [OTHER.encode()],
        f"archive/streams/{DAY}/a__1.csv.gz": [other],
        "archive/quarantine/r/b__1.csv": [other],
        "archive/quarantine/r/b__1.csv.reason.json": [json.dumps(cleaned, indent=1).encode()],
        "source/streams/waiting.csv": [other],
        "source/users/users.csv": [b"user_id,user_name\nu2,Bob\n"],
    }


@pytest.fixture
def kept(local_aws: str, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(erasure, "WORKERS", 1)
    return Kept(local_aws)


def test_every_version_of_every_object_loses_the_user(kept: Kept) -> None:
    assert kept.forget(USER) == [DAY]

    assert_forgotten(kept)
    said: list[str] = []
    assert kept.forget(USER, said=said) == [DAY]
    assert any("No copy that the pipeline keeps holds these users" in line for line in said)
    assert_forgotten(kept)


def test_erasure_killed_after_any_change_is_finished_by_the_next(
    kept: Kept, local_aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that only reads leaves the state of the change before it, and the command keeps none itself."""
    changes = changes_among(calls_of(lambda: kept.forget(USER), monkeypatch))
    assert_forgotten(kept)
    assert len(changes) > 10

    for number in changes:
        kill_and_forget_again(Kept(local_aws), monkeypatch, number, after=True)


@pytest.mark.slow
@pytest.mark.scenarios
def test_erasure_killed_before_any_call_is_finished_by_the_next(
    kept: Kept, local_aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, len(calls_of(lambda: kept.forget(USER), monkeypatch)) + 1):
        kill_and_forget_again(Kept(local_aws), monkeypatch, number, after=False)


def kill_and_forget_again(kept: Kept, monkeypatch: pytest.MonkeyPatch, number: int, after: bool) -> None:
    calls_of(lambda: kept.forget(USER), monkeypatch, number, after)
    is_unfinished = read_unfinished(kept.s3, kept.names) is not None
    assert kept.forget(*[] if is_unfinished else [USER]) == [DAY], number
    assert_forgotten(kept)


def test_interrupted_erasure_is_joined_with_further_users(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure.Eraser, "_finish", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        kept.forget(USER)
    monkeypatch.undo()
    said: list[str] = []

    kept.forget(OTHER, said=said)

    assert any("An erasure of 1 user" in line and "was interrupted" in line for line in said)
    [record] = [content for key, content in kept.contents().items() if ERASURES_PREFIX in key]
    assert json.loads(record[0] or b"")["days"] == {DAY: 2}
    assert json.loads(record[0] or b"")["users"] == 2


def test_bucket_that_keeps_no_versions_loses_the_user_and_nothing_else(local_aws: str) -> None:
    kept = Kept(local_aws, versioned=False)

    kept.forget(USER)

    assert_forgotten(kept)


def test_without_consent_nothing_changes(kept: Kept) -> None:
    before = kept.contents()

    with pytest.raises(ForgetError, match="Nothing was removed"):
        kept.forget(USER, agrees=False)

    assert kept.contents() == before


def test_current_catalog_and_what_cannot_be_searched_are_named(kept: Kept) -> None:
    put(kept, kept.names.source, "users/users.csv", f"user_id,user_name\n{USER},Zoe\n")
    put(kept, kept.names.archive, "quarantine/r/c__1.csv", b"PK\x03\x04\x00\x00")
    put(kept, kept.names.archive, "quarantine/r/d__1.csv.gz", gzip.compress(BOTH.encode())[:-9])
    put(kept, kept.names.archive, f"streams/{DAY}/cold__1.csv", BOTH)
    copy = {"Bucket": kept.names.archive, "Key": f"streams/{DAY}/cold__1.csv"}
    kept.s3.copy_object(**copy, CopySource=copy, StorageClass="DEEP_ARCHIVE")
    said: list[str] = []

    kept.forget(USER, said=said)

    text = "\n".join(said)
    assert f"s3://{kept.names.source}/users/users.csv names these users" in text
    assert "c__1.csv: the file looks like a ZIP archive" in text
    assert "d__1.csv.gz: its gzip data is damaged" in text
    assert "cold__1.csv: it is in storage class DEEP_ARCHIVE: restore it" in text
    present, *others = kept.s3.list_object_versions(Bucket=kept.names.source, Prefix="users/")["Versions"]
    assert present["IsLatest"]
    assert [other["Size"] for other in others] == [len(b"user_id,user_name\nu2,Bob\n")]


def test_run_that_has_not_ended_is_named(kept: Kept) -> None:
    said: list[str] = []
    put(kept, kept.names.intermediate, "runs/ended/a.json", "[]")
    put(kept, kept.names.archive, "runs/ended/ending.json", "{}")

    kept.forget(USER, said=said)

    assert [line for line in said if "has not ended" in line and " Run r " in line]
    assert not [line for line in said if "Run ended " in line]


def test_day_that_was_reprocessed_since_is_not_asked_for(kept: Kept) -> None:
    kept.forget(USER)
    kept.dynamodb.update_item(
        TableName=kept.names.table,
        Key={"date": {"S": DAY}, "track_genre": {"S": "ALL_GENRES"}},
        UpdateExpression="SET catalogs_frozen_at = :now",
        ExpressionAttributeValues={":now": {"S": datetime.now(UTC).isoformat()}},
    )

    assert days_to_reprocess(kept.s3, kept.dynamodb, kept.names) == []


def test_users_are_refused_by_digests_only_on_request(kept: Kept) -> None:
    kept.forget(USER)
    assert f"archive/{REFUSED_USERS_KEY}" not in kept.contents()

    for users in ([USER], ["further"], [USER]):
        kept.forget(*users, refuse=True)

    # The third call changes nothing.
    newest, older = kept.contents()[f"archive/{REFUSED_USERS_KEY}"]
    assert newest is not None
    assert older is not None
    refused = json.loads(newest)
    assert set(refused["sha256"]) == {digest_of(user_id, refused["salt"]) for user_id in (USER, "further")}
    assert json.loads(older) == {
        "salt": refused["salt"],
        "sha256": [digest_of(USER, refused["salt"])],
    }


def test_call_that_finishes_an_erasure_can_refuse_its_users(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(erasure.Eraser, "_finish", lambda self, record: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            kept.forget(USER)
    said: list[str] = []

    kept.forget(refuse=True, said=said)

    assert "From now on, a file with a row of 1 user goes to quarantine." in said
    refused = json.loads(kept.contents()[f"archive/{REFUSED_USERS_KEY}"][0] or b"")
    assert refused["sha256"] == [digest_of(USER, refused["salt"])]


def test_nobody_is_refused_without_consent(kept: Kept) -> None:
    with pytest.raises(ForgetError):
        kept.forget(USER, refuse=True, agrees=False)

    assert f"archive/{REFUSED_USERS_KEY}" not in kept.contents()


def test_ids_come_from_arguments_and_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("\ufeffa,b\n\n c \n")

    assert read_ids(["x, y", "x"], file) == ["x", "y", "a,b", "c"]
    file.write_text("\n")
    with pytest.raises(ForgetError, match="names no user: write one id per line"):
        read_ids([], file)
    with pytest.raises(ForgetError, match="cannot be read"):
        read_ids([], tmp_path / "missing")


def test_command_line_forgets_and_prints_how_to_reprocess(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in command_line.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert command_line.main([USER]) == 1
    assert "set SOURCE_BUCKET_NAME, INTERMEDIATE_BUCKET_NAME" in capsys.readouterr().err
    names = kept.names
    values = (names.source, names.intermediate, names.archive, names.table)
    for name, value in zip(command_line.VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("boto3.client", lambda service: getattr(kept, service))
    assert command_line.main([]) == 1
    assert "Name the users to forget" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    assert command_line.main([USER]) == 1
    assert "the answer was not yes. --yes answers it." in capsys.readouterr().err

    assert command_line.main([USER, "--yes"]) == 0

    output = capsys.readouterr().out
    assert (
        f'airflow dags trigger music_streaming_pipeline --conf \'{{"reprocess_dates": "{DAY}"}}\'' in output
    )
    assert_forgotten(kept)


class TestRights:
    """The stack's policy suffices, and the pipeline's role does not have these rights."""

    @pytest.fixture
    def stacked(self, full_stack: DeployedStack) -> Iterator[Kept]:
        environment = full_stack.environment
        kept = object.__new__(Kept)
        kept.endpoint_url, kept.versioned = full_stack.endpoint_url, True
        kept.names = Places(*(environment[name] for name in command_line.VARIABLES))
        kept.s3, kept.dynamodb = clients(full_stack.endpoint_url)
        # Other tests share the stack.
        self._empty(kept)
        kept.fill()
        yield kept
        self._empty(kept)

    @staticmethod
    def _empty(kept: Kept) -> None:
        for bucket in (kept.names.source, kept.names.intermediate, kept.names.archive):
            listed = kept.s3.list_object_versions(Bucket=bucket)
            for entry in listed.get("Versions", []) + listed.get("DeleteMarkers", []):
                kept.s3.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
        key = {"date": {"S": DAY}, "track_genre": {"S": "ALL_GENRES"}}
        kept.dynamodb.delete_item(TableName=kept.names.table, Key=key)

    def test_policy_suffices(self, full_stack: DeployedStack, stacked: Kept) -> None:
        iam = connect("iam", full_stack.endpoint_url)
        trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}}
        document = {"Version": "2012-10-17", "Statement": [trust | {"Action": "sts:AssumeRole"}]}
        iam.create_role(RoleName="privacy", AssumeRolePolicyDocument=json.dumps(document))
        iam.attach_role_policy(
            RoleName="privacy", PolicyArn=full_stack.environment["FORGET_USERS_POLICY_ARN"]
        )
        s3, dynamodb = (client_of(full_stack.endpoint_url, "privacy", name) for name in ("s3", "dynamodb"))

        with enforced_policies(full_stack.endpoint_url):
            days = forget(s3, dynamodb, stacked.names, [USER], lambda _: True, lambda _: None, refuse=True)
            with pytest.raises(ClientError, match="AccessDenied"):
                s3.delete_object(Bucket=stacked.names.source, Key="users/users.csv")
            with pytest.raises(ClientError, match="AccessDenied"):
                s3.get_object(Bucket=stacked.names.source, Key="songs/songs.csv")

        assert days == [DAY]
        assert_forgotten(stacked)

    def test_role_of_the_pipeline_cannot_forget(self, full_stack: DeployedStack, stacked: Kept) -> None:
        s3, dynamodb = (client_of(full_stack.endpoint_url, AIRFLOW_ROLE, name) for name in ("s3", "dynamodb"))
        before = stacked.contents()

        with enforced_policies(full_stack.endpoint_url), pytest.raises(ClientError, match="AccessDenied"):
            forget(s3, dynamodb, stacked.names, [USER], lambda _: True, lambda _: None)

        assert stacked.contents() == before

    @pytest.mark.parametrize("key", [HISTORY, "quarantine/r/b__1.csv", f"streams/{DAY}/a__1.csv.gz"])
    def test_role_of_the_pipeline_deletes_no_version(
        self, full_stack: DeployedStack, stacked: Kept, key: str
    ) -> None:
        s3: Any = client_of(full_stack.endpoint_url, AIRFLOW_ROLE, "s3")
        version_id = stacked.s3.head_object(Bucket=stacked.names.archive, Key=key)["VersionId"]

        with enforced_policies(full_stack.endpoint_url), pytest.raises(ClientError, match="AccessDenied"):
            s3.delete_object(Bucket=stacked.names.archive, Key=key, VersionId=version_id)
