"""Archived files are put back in local AWS: killed at any call, refused without rights, never over others."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from helpers.contract.days import parse_days
from include import replay as replay_module
from include.replay import Places, ReplayError, main, replay
from kpi_table_support import make_table
from local_aws_support import connect
from tests.include.conftest import ACCOUNT, DeployedStack, enforced_policies
from tests.include.killed_commands import calls_of, changes_among
from tests.include.stack_policies.policies import AIRFLOW_ROLE, client_of

DAY, NEXT_DAY, OTHER_DAY = "2024-06-25", "2024-06-26", "2024-06-27"
ROWS = {name: f"user_id,track_id,listen_time\nu{name},t,{DAY} 10:00:00\n" for name in "abc"}
# Run key: its files with their archive keys, and its days.
RUNS = {
    "run-1": ({"streams/a.csv": f"streams/{NEXT_DAY}/a__1.csv"}, [DAY]),
    "run-2": (
        {
            "streams/b.csv": f"streams/{OTHER_DAY}/b__1.csv",
            "streams/in/c.csv": f"streams/{OTHER_DAY}/in/c__1.csv",
        },
        [DAY, NEXT_DAY],
    ),
    "run-3": ({"streams/a.csv": f"streams/{OTHER_DAY}/a__2.csv"}, [OTHER_DAY]),
}
TARGETS = {
    "run-1": ["streams/replayed/a__1.csv"],
    "run-2": ["streams/replayed/b__1.csv", "streams/replayed/in/c__1.csv"],
    "run-3": ["streams/replayed/a__2.csv"],
}


@cache
def clients(endpoint_url: str) -> tuple[Any, Any]:
    """Creating clients takes longer than a test's calls."""
    return connect("s3", endpoint_url), connect("dynamodb", endpoint_url)


class Archive:
    """Buckets and a table after three runs; the history of `DAY` has both objects that the table counts."""

    def __init__(self, endpoint_url: str, places: Places | None = None) -> None:
        self.s3, self.dynamodb = clients(endpoint_url)
        name = f"replay-{uuid.uuid4().hex[:12]}"
        self.places = places or Places(f"{name}-source", f"{name}-archive", name)
        if places is None:
            for bucket in (self.places.source, self.places.archive):
                self.s3.create_bucket(Bucket=bucket)
                self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
            make_table(self.dynamodb, name)
        for run_key in RUNS:
            self.add_run(run_key, *RUNS[run_key])
        for run_key in ("run-1", "run-2"):
            self.put(f"listens/listen_date={DAY}/{run_key}__part-0.parquet", "")
        self.put(f"kpis/listen_date={DAY}/items.parquet", "items", Metadata={"version": "2"})
        item = {"date": DAY, "track_genre": "ALL_GENRES", "status": "complete"}
        self.dynamodb.put_item(
            TableName=self.places.table,
            Item={**{name: {"S": value} for name, value in item.items()}, "version": {"N": "2"}},
        )

    def add_run(self, run_key: str, files: dict[str, str], days: list[str]) -> None:
        reported = [
            {
                "key": key,
                "version_id": destination.rpartition("__")[2].removesuffix(".csv"),
                "etag": '"e"',
                "disposition": "archive",
                "destination": destination,
            }
            for key, destination in files.items()
        ]
        rejected = {
            "key": "streams/bad.csv",
            "disposition": "quarantine",
            "destination": "quarantine/bad.csv",
        }
        report = {
            "run_key": run_key,
            "frozen_at": f"2024-07-0{run_key[-1]}T00:00:00+00:00",
            "totals": {"archived": len(files)},
            "days": {day: {} for day in days},
            "files": [*reported, rejected],
        }
        self.put(f"runs/{run_key}/report.json", json.dumps(report))
        self.put(f"runs/{run_key}/manifest.json", "{}")
        for destination in files.values():
            name = destination.rpartition("/")[2][0]
            self.put(destination, ROWS[name], StorageClass="GLACIER_IR")

    def put(self, key: str, text: str, **options: Any) -> None:
        self.s3.put_object(Bucket=self.places.archive, Key=key, Body=text.encode(), **options)

    def lose(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.places.archive, Key=key)

    def replay(self, chosen: str, said: list[str] | None = None, agrees: bool = True) -> int:
        say = (said if said is not None else []).append
        which = chosen if chosen.startswith("run-") else parse_days(chosen)
        return replay(self.s3, self.dynamodb, self.places, which, lambda _: agrees, say)

    def source(self) -> dict[str, str]:
        listed = self.s3.list_objects_v2(Bucket=self.places.source).get("Contents", [])
        return {entry["Key"]: self._read(entry["Key"]) for entry in listed}

    def _read(self, key: str) -> str:
        content: bytes = self.s3.get_object(Bucket=self.places.source, Key=key)["Body"].read()
        return content.decode()

    def totals(self) -> tuple[str, str]:
        key = {"date": {"S": DAY}, "track_genre": {"S": "ALL_GENRES"}}
        item = self.dynamodb.get_item(TableName=self.places.table, Key=key)["Item"]
        return item["status"]["S"], item["version"]["N"]

    def archived_keys(self) -> list[str]:
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.places.archive)["Contents"]]


def rows_of(*run_keys: str) -> dict[str, str]:
    targets = [target for run_key in run_keys for target in TARGETS[run_key]]
    return {target: ROWS[target.rpartition("/")[2][0]] for target in sorted(targets)}


@pytest.fixture
def archive(local_aws: str, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setattr(replay_module, "WORKERS", 1)
    return Archive(local_aws)


@pytest.mark.parametrize(
    ("chosen", "run_keys"),
    [
        (DAY, ["run-1", "run-2"]),
        (NEXT_DAY, ["run-2"]),
        (f"2024-01-01..{DAY}", ["run-1", "run-2"]),
        (f"{NEXT_DAY}..2024-12-31", ["run-2", "run-3"]),
        ("run-3", ["run-3"]),
    ],
)
def test_files_of_the_runs_come_back_under_keys_of_their_own(
    archive: Archive, chosen: str, run_keys: list[str]
) -> None:
    before = archive.archived_keys()

    assert archive.replay(chosen) == len(rows_of(*run_keys))

    assert archive.source() == rows_of(*run_keys)
    assert archive.archived_keys() == before
    assert archive.totals() == ("complete", "2")


def test_plan_is_shown_first_and_without_consent_nothing_changes(archive: Archive) -> None:
    archive.lose(f"listens/listen_date={DAY}/run-1__part-0.parquet")
    said: list[str] = []

    with pytest.raises(ReplayError, match="Nothing was put back"):
        archive.replay(DAY, said, agrees=False)

    assert said[:3] == [
        f"2 runs, with listens of {DAY} to {NEXT_DAY}:",
        "  run-1: 1 archived file",
        "  run-2: 2 archived files",
    ]
    assert said[3].startswith(f"The history of {DAY} lost objects: the table counts 2, 1 exist.")
    assert archive.source() == {}
    assert archive.totals() == ("complete", "2")


def test_further_call_changes_nothing_while_the_files_wait(archive: Archive) -> None:
    archive.replay(DAY)
    archive.s3.delete_object(Bucket=archive.places.source, Key=TARGETS["run-1"][0])
    waiting = archive.s3.head_object(Bucket=archive.places.source, Key=TARGETS["run-2"][0])
    said: list[str] = []

    assert archive.replay(DAY, said) == 3

    assert f"2 files already in s3://{archive.places.source}/streams/replayed/" in said
    again = archive.s3.head_object(Bucket=archive.places.source, Key=TARGETS["run-2"][0])
    assert again["VersionId"] == waiting["VersionId"]
    assert archive.replay(DAY, agrees=False) == 3


def test_copy_of_a_replay_is_the_same_file_and_serves_if_the_first_is_lost(archive: Archive) -> None:
    replayed = "streams/2024-07-01/replayed/a__1__9.csv"
    archive.add_run("run-4", {TARGETS["run-1"][0]: replayed}, [DAY])
    archive.lose(f"streams/{NEXT_DAY}/a__1.csv")

    assert archive.replay(DAY) == 3

    assert archive.source() == rows_of("run-1", "run-2")


def test_waiting_file_of_the_same_name_is_not_replaced(archive: Archive) -> None:
    own = {"Bucket": archive.places.source, "Key": TARGETS["run-1"][0]}
    archive.s3.put_object(**own, Body=b"of the sender")

    with pytest.raises(ReplayError, match=r"1 file not put back:\n.*has other content: let a run"):
        archive.replay(DAY)

    assert archive.source() == rows_of("run-2") | {own["Key"]: "of the sender"}


def test_lost_and_frozen_files_are_named_and_the_others_come_back(archive: Archive) -> None:
    archive.lose(f"streams/{NEXT_DAY}/a__1.csv")
    archive.put(f"streams/{OTHER_DAY}/b__1.csv", ROWS["b"], StorageClass="DEEP_ARCHIVE")

    with pytest.raises(ReplayError) as error:
        archive.replay(DAY)

    lines = str(error.value).splitlines()
    assert lines[0] == "2 files not put back:"
    assert lines[1].endswith("/a__1.csv is gone: restore its earlier version.")
    assert "b__1.csv is in an archive class: restore it" in lines[2]
    assert archive.source() == {TARGETS["run-2"][1]: ROWS["c"]}


def test_day_whose_history_lost_objects_is_marked_so_that_a_run_may_replace_it(archive: Archive) -> None:
    archive.lose(f"listens/listen_date={DAY}/run-1__part-0.parquet")

    assert archive.replay(DAY) == 3

    assert archive.totals() == ("updating", "0")
    assert f"kpis/listen_date={DAY}/items.parquet" not in archive.archived_keys()


def test_day_that_a_run_wrote_since_is_not_marked(archive: Archive) -> None:
    archive.lose(f"listens/listen_date={DAY}/run-1__part-0.parquet")

    def let_a_run_write_first(question: str) -> bool:
        archive.put(f"kpis/listen_date={DAY}/items.parquet", "new", Metadata={"version": "1"})
        archive.dynamodb.update_item(
            TableName=archive.places.table,
            Key={"date": {"S": DAY}, "track_genre": {"S": "ALL_GENRES"}},
            UpdateExpression="SET version = :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        return True

    replay(archive.s3, archive.dynamodb, archive.places, "run-1", let_a_run_write_first, lambda _: None)

    assert archive.totals() == ("complete", "1")
    assert f"kpis/listen_date={DAY}/items.parquet" in archive.archived_keys()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            "2024-06-24",
            "No archived file has listens of 2024-06-24. There are some of 2024-06-25 to 2024-06-27",
        ),
        ("2024-07-01..2024-07-31", r"listens of 2024-07-01\.\.2024-07-31"),
        ("run-9", "No run 'run-9' archived a file. The last runs that did:\n  run-1\n  run-2\n  run-3"),
    ],
)
def test_unknown_days_and_runs_are_named(archive: Archive, chosen: str, message: str) -> None:
    with pytest.raises(ReplayError, match=message):
        archive.replay(chosen)

    assert archive.source() == {}


def test_replay_killed_after_any_change_is_finished_by_the_next(
    archive: Archive, local_aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that only reads leaves the state of the change before it, and the command keeps none itself."""
    monkeypatch.setattr(replay_module, "WORKERS", 1)
    lost = f"listens/listen_date={DAY}/run-1__part-0.parquet"
    archive.lose(lost)
    changes = changes_among(calls_of(lambda: archive.replay(DAY), monkeypatch))
    assert len(changes) == 5

    for number in changes:
        killed = Archive(local_aws)
        killed.lose(lost)
        calls_of(partial(killed.replay, DAY), monkeypatch, number, after=True)
        assert killed.replay(DAY) == 3, number
        assert killed.source() == rows_of("run-1", "run-2"), number
        assert killed.totals() == ("updating", "0"), number
        assert f"kpis/listen_date={DAY}/items.parquet" not in killed.archived_keys(), number


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def environment(self, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in zip(replay_module.VARIABLES, archive.places, strict=True):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("boto3.client", lambda service: getattr(archive, service))

    def test_asks_and_says_what_the_next_run_takes(
        self, archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
        assert main(["--dates", DAY]) == 1
        asked = capsys.readouterr()
        assert (
            f"Put 3 files, 162 bytes, back into s3://{archive.places.source}/streams/replayed/?" in asked.out
        )
        assert "the answer was not yes. --yes answers it." in asked.err

        assert main(["--run", "run-2", "--yes"]) == 0
        assert "The next run takes 2 files." in capsys.readouterr().out
        assert archive.source() == rows_of("run-2")

    def test_names_what_is_wrong(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--dates", f"{NEXT_DAY}..{DAY}"]) == 1
        assert f"--dates has '{NEXT_DAY}..{DAY}', which ends before it begins" in capsys.readouterr().err
        monkeypatch.delenv("KPI_TABLE_NAME")
        assert main(["--dates", DAY]) == 1
        assert "Error: set KPI_TABLE_NAME as in .env.example" in capsys.readouterr().err


class TestRights:
    """The stack's policy suffices, and the pipeline's role does not have these rights."""

    @pytest.fixture
    def stacked(self, full_stack: DeployedStack) -> Iterator[Archive]:
        places = Places(*(full_stack.environment[name] for name in replay_module.VARIABLES))
        archive = Archive(full_stack.endpoint_url, places)
        archive.lose(f"listens/listen_date={DAY}/run-1__part-0.parquet")
        yield archive
        # Other tests share the stack.
        for bucket in (places.source, places.archive):
            listed = archive.s3.list_object_versions(Bucket=bucket)
            for entry in listed.get("Versions", []) + listed.get("DeleteMarkers", []):
                archive.s3.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
        key = {"date": {"S": DAY}, "track_genre": {"S": "ALL_GENRES"}}
        archive.dynamodb.delete_item(TableName=places.table, Key=key)

    def test_policy_suffices(self, full_stack: DeployedStack, stacked: Archive) -> None:
        stacked.s3.put_object_tagging(
            Bucket=stacked.places.archive,
            Key=f"streams/{NEXT_DAY}/a__1.csv",
            Tagging={"TagSet": [{"Key": "of", "Value": "the sender"}]},
        )
        iam = connect("iam", full_stack.endpoint_url)
        trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}}
        document = {"Version": "2012-10-17", "Statement": [trust | {"Action": "sts:AssumeRole"}]}
        iam.create_role(RoleName="replays", AssumeRolePolicyDocument=json.dumps(document))
        iam.attach_role_policy(RoleName="replays", PolicyArn=full_stack.environment["REPLAY_POLICY_ARN"])
        s3, dynamodb = (client_of(full_stack.endpoint_url, "replays", name) for name in ("s3", "dynamodb"))

        with enforced_policies(full_stack.endpoint_url):
            replay(s3, dynamodb, stacked.places, parse_days(DAY), lambda _: True, lambda _: None)
            for bucket, key in (
                (stacked.places.source, "streams/a.csv"),
                (stacked.places.archive, f"listens/listen_date={DAY}/x.parquet"),
            ):
                with pytest.raises(ClientError, match="AccessDenied"):
                    s3.put_object(Bucket=bucket, Key=key, Body=b"")
            with pytest.raises(ClientError, match="AccessDenied"):
                s3.delete_object(Bucket=stacked.places.archive, Key=f"streams/{NEXT_DAY}/a__1.csv")

        assert stacked.source() == rows_of("run-1", "run-2")
        assert stacked.totals() == ("updating", "0")

    def test_role_of_the_pipeline_cannot_replay(self, full_stack: DeployedStack, stacked: Archive) -> None:
        s3, dynamodb = (client_of(full_stack.endpoint_url, AIRFLOW_ROLE, name) for name in ("s3", "dynamodb"))

        with enforced_policies(full_stack.endpoint_url), pytest.raises(ClientError, match="AccessDenied"):
            replay(s3, dynamodb, stacked.places, "run-3", lambda _: True, lambda _: None)

        assert stacked.source() == {}
