"""The commands for data that local AWS already holds, each in its own process as make starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from socket import create_server
from typing import Any

import pytest

from include.commands import services
from include.commands.environment import ROOT, endpoint_url
from include.commands.local_aws import LocalAws
from include.commands.terminal import open_console
from include.local_aws.provision import provision
from local_aws_support import connect

RUN_KEY = "manual_2024-06-25-abcd1234"
PROGRAM = """
import sys
from pathlib import Path
from include.commands import environment

environment.LOCAL_DIR = Path(sys.argv[1])
from include.commands.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@dataclass
class Commands:
    """The commands, and the buckets of the local AWS on which they work."""

    port: int
    local_dir: Path
    names: dict[str, str]
    s3: Any

    def put(self, bucket: str, key: str, text: str) -> None:
        self.s3.put_object(Bucket=self.names[f"{bucket}_BUCKET_NAME"], Key=key, Body=text.encode())

    def source(self) -> dict[str, str]:
        bucket = self.names["SOURCE_BUCKET_NAME"]
        keys = [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
        return {key: self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys}

    def call(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        flags = [argument for argument in arguments if argument.startswith("--")]
        given = [argument for argument in arguments if argument not in flags]
        options = ["--aws-port", str(self.port), *flags, "--", *given]
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, str(self.local_dir), command, *options],
            cwd=ROOT,
            env=os.environ | {"AWS_ENDPOINT_URL": "https://somewhere.invalid", "AWS_PROFILE": "of-the-user"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    local_dir = tmp_path_factory.mktemp("local")
    with create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "LOCAL_DIR", local_dir)
        patch.setattr(services, "LOGS_DIR", local_dir / "logs")
        try:
            LocalAws(port, open_console()).ensure_running("run")
            yield port, local_dir
        finally:
            services.stop(services.recorded_services())


@pytest.fixture
def local(started: tuple[int, Path]) -> Iterator[Commands]:
    """Local AWS; objects that a test puts there are deleted afterwards."""
    port, local_dir = started
    s3 = connect("s3", endpoint_url(port))
    names = provision(endpoint_url(port))
    yield Commands(port, local_dir, names, s3)
    for bucket in (names["SOURCE_BUCKET_NAME"], names["ARCHIVE_BUCKET_NAME"]):
        listed = s3.list_object_versions(Bucket=bucket)
        for version in listed.get("Versions", []) + listed.get("DeleteMarkers", []):
            s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


def test_redrive_lists_fetches_puts_back_and_says_how_to_go_on(local: Commands) -> None:
    assert "Nothing is in quarantine." in local.call("redrive").stdout
    local.put("ARCHIVE", f"quarantine/{RUN_KEY}/bad__1.csv", "user,track,time\n")
    local.put(
        "ARCHIVE", f"quarantine/{RUN_KEY}/bad__1.csv.reason.json", '{"reason": "missing column user_id"}'
    )

    listed = local.call("redrive").stdout
    assert f"make redrive RUN={RUN_KEY} AWS_PORT={local.port}   1 in quarantine, 0 put back" in listed

    folder = local.local_dir / "quarantine" / RUN_KEY
    fetched = local.call("redrive", RUN_KEY).stdout
    assert "bad__1.csv: missing column user_id" in fetched
    assert f"Fetched into {folder}." in fetched

    (folder / "bad__1.csv").write_text("user_id,track_id,listen_time\n")
    put_back = local.call("redrive", RUN_KEY).stdout
    assert f"put back as s3://music-streaming-source/streams/redriven/{RUN_KEY}/bad__1.csv" in put_back
    assert f"make run AWS_PORT={local.port} takes the corrected files" in put_back
    assert local.source() == {f"streams/redriven/{RUN_KEY}/bad__1.csv": "user_id,track_id,listen_time\n"}
    assert "1 in quarantine, 1 put back" in local.call("redrive").stdout


def test_redrive_of_an_unknown_run_is_an_error_that_names_the_known(local: Commands) -> None:
    local.put("ARCHIVE", f"quarantine/{RUN_KEY}/bad__1.csv", "user,track,time\n")

    done = local.call("redrive", "../services")

    assert done.returncode == 1
    assert (
        "Error: Nothing of a run '../services' is in s3://music-streaming-archive/quarantine/" in done.stderr
    )
    assert done.stderr.rstrip().endswith(RUN_KEY)


def test_reprocess_before_any_run_says_what_to_do_first(
    local: Commands, make_folder: Callable[..., Path]
) -> None:
    done = local.call("reprocess", "2024-06-25", str(make_folder("songs/songs.csv")))

    assert done.returncode == 1
    assert f"First: make run AWS_PORT={local.port}" in done.stderr
    assert local.source() == {}


def test_reprocess_of_a_day_without_listens_uploads_nothing(
    local: Commands, make_folder: Callable[..., Path]
) -> None:
    for day in ("2024-06-25", "2024-06-27"):
        local.put("ARCHIVE", f"listens/listen_date={day}/x__part-0.parquet", "")

    done = local.call("reprocess", "2024-06-25,2024-06-26", str(make_folder("songs/songs.csv")))

    assert done.returncode == 1
    assert "There are no listens of 2024-06-26, so there is nothing to reprocess." in done.stderr
    assert "Listens are of 2024-06-25 to 2024-06-27." in done.stderr
    assert local.source() == {}


def test_replay_asks_first_puts_back_and_says_how_to_go_on(local: Commands) -> None:
    file = {"key": "streams/a.csv", "version_id": "1", "etag": "e", "disposition": "archive"}
    report = {"run_key": RUN_KEY, "frozen_at": "2024-06-26", "totals": {"archived": 1}}
    report |= {"days": {"2024-06-25": {}}, "files": [file | {"destination": "streams/2024-06-26/a__1.csv"}]}
    local.put("ARCHIVE", f"runs/{RUN_KEY}/report.json", json.dumps(report))
    local.put("ARCHIVE", "streams/2024-06-26/a__1.csv", "user_id,track_id,listen_time\n")

    refused = local.call("replay", "2024-06-01..2024-06-30")
    assert f"{RUN_KEY}: 1 archived file" in refused.stdout
    assert "the answer was not yes. YES=yes answers it." in refused.stderr
    assert local.source() == {}

    done = local.call("replay", "--yes", "", RUN_KEY)
    assert f"make run AWS_PORT={local.port} takes 1 file and adds no sample data." in done.stdout
    assert local.source() == {"streams/replayed/a__1.csv": "user_id,track_id,listen_time\n"}


def test_forgetting_asks_first_and_names_what_was_wrong(local: Commands) -> None:
    rows = "user_id,track_id,listen_time\nu1,t,2024-06-25 10:00:00\nu2,t,2024-06-25 10:00:00\n"
    local.put("SOURCE", "streams/a.csv", rows)

    assert "Name the users to forget: USER=id" in local.call("forget", "").stderr
    assert "no-such-file cannot be read" in local.call("forget", "", "no-such-file").stderr
    refused = local.call("forget", "u1")

    assert "s3://music-streaming-source/streams/: 1 versions, 1 rows or samples" in refused.stdout
    assert "the answer was not yes. YES=yes answers it." in refused.stderr
    assert local.source() == {"streams/a.csv": rows}


def test_forgetting_removes_the_user_from_a_waiting_file(local: Commands) -> None:
    local.put("SOURCE", "streams/a.csv", "user_id,track_id\nu1,t\nu2,t\n")

    done = local.call("forget", "--yes", "--refuse", "u1")

    assert "Removed: 1 user, 0 listens of 0 days." in done.stdout
    assert "From now on, a file with a row of 1 user goes to quarantine." in done.stdout
    assert local.source() == {"streams/a.csv": "user_id,track_id\nu2,t\n"}
