from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from rich.console import Console

from include.commands import delivery, services
from include.commands.errors import UserError
from include.commands.local_aws import LocalAws
from include.sample_data import write_sample_data

MakeFolder = Callable[..., Path]
AWS = LocalAws(5600, Console(), {"SOURCE_BUCKET_NAME": "source"})


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="source")
        client.put_bucket_versioning(Bucket="source", VersioningConfiguration={"Status": "Enabled"})
        yield client


def test_files_of_the_three_folders_keep_their_names(make_folder: MakeFolder) -> None:
    root = make_folder("streams/b.csv", "streams/2024/a.csv.gz", "songs/s.csv", "users/u.csv", "other/x.csv")

    folder = delivery.read_delivery(root)

    keys = {name: [folder.key_of(file) for file in files] for name, files in folder.files.items()}
    assert keys == {
        "streams": ["streams/2024/a.csv.gz", "streams/b.csv"],
        "songs": ["songs/s.csv"],
        "users": ["users/u.csv"],
    }
    assert folder.left_out == []


def test_empty_streams_folder_is_accepted(make_folder: MakeFolder) -> None:
    root = make_folder("streams/", "songs/s.csv", "users/u.csv")

    assert delivery.read_delivery(root).files["streams"] == []


def test_files_that_the_pipeline_does_not_read_are_left_out(make_folder: MakeFolder) -> None:
    root = make_folder("streams/a.csv", "streams/notes.txt", "songs/s.csv", "songs/s.csv.gz", "users/u.csv")

    folder = delivery.read_delivery(root)

    assert [folder.key_of(file) for file in folder.left_out] == ["streams/notes.txt"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(
            ["streams/a.csv", "users/u.csv"], r"my data has no songs/\. .*Nothing was uploaded", id="no songs"
        ),
        pytest.param(["other/a.csv"], r"my data has no streams/, songs/, users/\.", id="none of them"),
        pytest.param(
            ["streams/a.csv", "songs/", "users/u.csv"],
            r"my data/songs has no \.csv file.* the songs catalog.*Nothing was uploaded",
            id="empty songs",
        ),
        pytest.param(
            ["streams/a.csv", "songs/s.csv", "users/u.parquet"],
            r"my data/users has no \.csv",
            id="no CSV of users",
        ),
        pytest.param([], r"DATA=.*my data is not a folder", id="no folder"),
    ],
)
def test_wrong_folder_is_named(make_folder: MakeFolder, names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        delivery.read_delivery(make_folder(*names))


def test_home_folder_may_be_written_as_a_tilde(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder("streams/", "songs/s.csv", "users/u.csv")
    monkeypatch.setenv("HOME", str(root.parent))

    assert delivery.read_delivery(Path("~/my data")).root == root.resolve()


def test_corrected_catalogs_are_those_of_songs_and_users(make_folder: MakeFolder) -> None:
    root = make_folder("streams/a.csv", "songs/s.csv", "songs/notes.txt", "users/u.csv")

    folder = delivery.read_catalogs(root)

    assert {name: [folder.key_of(file) for file in files] for name, files in folder.files.items()} == {
        "songs": ["songs/s.csv"],
        "users": ["users/u.csv"],
    }
    assert [folder.key_of(file) for file in folder.left_out] == ["songs/notes.txt"]


def test_one_corrected_catalog_is_enough_and_the_other_stays(
    make_folder: MakeFolder, s3: Any, console: Console
) -> None:
    s3.put_object(Bucket="source", Key="users/u.csv", Body=b"as it was")

    delivery.deliver(delivery.read_catalogs(make_folder("songs/s.csv", "streams/a.csv")), "source", console)

    objects = [item["Key"] for item in s3.list_objects_v2(Bucket="source")["Contents"]]
    assert objects == ["songs/s.csv", "users/u.csv"]
    assert s3.get_object(Bucket="source", Key="users/u.csv")["Body"].read() == b"as it was"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(["streams/a.csv"], r"no \.csv file in songs/ or users/.*Nothing", id="streams only"),
        pytest.param(["songs/s.parquet", "users/"], r"no \.csv file in songs/ or users/", id="no CSV"),
        pytest.param([], r"DATA=.*my data is not a folder", id="no folder"),
    ],
)
def test_folder_without_a_catalog_is_named(make_folder: MakeFolder, names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        delivery.read_catalogs(make_folder(*names))


def test_catalog_files_that_a_correction_does_not_replace_are_named(
    make_folder: MakeFolder, s3: Any, console: Console
) -> None:
    folder = delivery.read_catalogs(make_folder("songs/s.csv"))
    delivery.deliver(folder, "source", console)
    s3.put_object(Bucket="source", Key="users/u.csv")
    delivery.show_other_files(folder, "source", console)
    assert "Also" not in console.file.getvalue()  # type: ignore[attr-defined]

    s3.put_object(Bucket="source", Key="songs/older.csv")
    delivery.show_other_files(folder, "source", console)

    assert "Also in the songs catalog: songs/older.csv." in console.file.getvalue()  # type: ignore[attr-defined]


def test_second_delivery_adds_files_and_new_versions(
    make_folder: MakeFolder, s3: Any, console: Console
) -> None:
    root = make_folder("streams/a.csv", "songs/s.csv", "users/u.csv")
    delivery.deliver(delivery.read_delivery(root), "source", console)
    (root / "streams/a.csv").rename(root / "streams/b.csv")
    (root / "songs/s.csv").write_text("changed\n")

    delivery.deliver(delivery.read_delivery(root), "source", console)

    objects = [item["Key"] for item in s3.list_objects_v2(Bucket="source")["Contents"]]
    assert objects == ["songs/s.csv", "streams/a.csv", "streams/b.csv", "users/u.csv"]
    assert s3.get_object(Bucket="source", Key="songs/s.csv")["Body"].read() == b"changed\n"
    versions = s3.list_object_versions(Bucket="source", Prefix="songs/")["Versions"]
    assert len(versions) == 2


def test_what_was_left_out_is_said(make_folder: MakeFolder, s3: Any, console: Console) -> None:
    root = make_folder("streams/a.json", "songs/s.csv", "users/u.csv")

    delivery.deliver(delivery.read_delivery(root), "source", console)

    assert "streams/a.json" in console.file.getvalue()  # type: ignore[attr-defined]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="source")["Contents"]] == [
        "songs/s.csv",
        "users/u.csv",
    ]


def test_sample_goes_only_into_a_bucket_that_never_had_a_stream_file(
    s3: Any, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LOCAL_DIR", tmp_path)
    s3.put_object(Bucket="source", Key="songs/notes.txt", Body=b"")

    delivery.deliver_sample_if_first("source", console)

    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="source", Prefix="streams/")["Contents"]]
    assert (
        keys
        == [f"streams/{file.name}" for file in sorted((tmp_path / "sample_data/streams").iterdir())]
        != []
    )

    for key in keys:
        s3.delete_object(Bucket="source", Key=key)
    delivery.deliver_sample_if_first("source", console)

    assert "Contents" not in s3.list_objects_v2(Bucket="source", Prefix="streams/")


@pytest.mark.parametrize(
    ("waiting", "is_delivered"),
    [
        pytest.param([], True, id="nothing waits"),
        pytest.param(["streams/streams1.csv"], False, id="a correction under a sample's name"),
        pytest.param(["streams/redriven/run/a.csv"], False, id="put back from quarantine"),
        pytest.param(["streams/streams1.csv", "streams/own.csv.gz"], False, id="a file of the user's own"),
        pytest.param(["streams/notes.txt", "songs/notes.txt"], True, id="no CSV file"),
        pytest.param(["songs/own.csv"], False, id="a catalog of the user's own"),
        pytest.param(["users/users.csv"], False, id="a catalog under the sample's name"),
    ],
)
def test_sample_does_not_join_files_of_another_origin(
    waiting: list[str],
    is_delivered: bool,
    s3: Any,
    console: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "LOCAL_DIR", tmp_path)
    for key in waiting:
        s3.put_object(Bucket="source", Key=key, Body=b"waits")

    delivery.deliver_sample_unless_others("source", console)

    keys = {item["Key"] for item in s3.list_objects_v2(Bucket="source").get("Contents", [])}
    sample = {path.relative_to(tmp_path / "sample_data").as_posix() for path in tmp_path.rglob("*.csv")}
    assert keys == ({*waiting} | sample if is_delivered else {*waiting})
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("no sample data is added" in text) is not is_delivered
    assert is_delivered or min(waiting) in text


def test_first_run_under_the_scheduler_leaves_catalogs_of_another_origin(
    s3: Any, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LOCAL_DIR", tmp_path)
    s3.put_object(Bucket="source", Key="songs/songs.csv", Body=b"own")

    delivery.deliver_sample_if_first("source", console)

    assert [item["Key"] for item in s3.list_objects_v2(Bucket="source")["Contents"]] == ["songs/songs.csv"]
    assert "catalogs in s3://source are not the sample's" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def sample_in_source(s3: Any, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the sample after a run: its stream files are archived, its catalogs stay."""
    monkeypatch.setattr(delivery, "LOCAL_DIR", tmp_path)
    delivery.deliver_sample_unless_others("source", console)
    for item in s3.list_objects_v2(Bucket="source", Prefix="streams/")["Contents"]:
        s3.delete_object(Bucket="source", Key=item["Key"])
    return tmp_path / "sample_data"


def test_folder_with_other_catalogs_does_not_join_the_sample(
    make_folder: MakeFolder, sample_in_source: Path
) -> None:
    root = make_folder("streams/own.csv", "songs/own.csv", "users/users.csv")

    with pytest.raises(UserError, match=r"holds the sample data.*Nothing was uploaded") as refused:
        delivery.require_apart_from_sample(delivery.read_delivery(root), AWS)

    assert f"make down, then make run DATA='{root}' AWS_PORT=5600\n" in str(refused.value)
    beside = services.free_port_after(AWS.port)
    assert str(refused.value).endswith(f"make run DATA='{root}' AWS_PORT={beside}")


def test_folder_with_corrected_catalogs_of_the_sample_does_not_join_it(
    sample_in_source: Path, tmp_path: Path, s3: Any
) -> None:
    root = shutil.copytree(sample_in_source, tmp_path / "copy")
    with (root / "songs/songs.csv").open("a") as songs:
        songs.write("one,more,song,rock,180000,50\n")

    with pytest.raises(UserError, match="holds the sample data"):
        delivery.require_apart_from_sample(delivery.read_delivery(root), AWS)

    # This also holds after reprocessing has uploaded the folder's catalogs.
    s3.upload_file(str(root / "songs/songs.csv"), "source", "songs/songs.csv")
    with pytest.raises(UserError, match="holds the sample data"):
        delivery.require_apart_from_sample(delivery.read_delivery(root), AWS)


def test_more_listens_with_the_catalogs_of_the_sample_join_it(sample_in_source: Path, tmp_path: Path) -> None:
    write_sample_data(tmp_path / "big", listens=50_000, days=5)

    delivery.require_apart_from_sample(delivery.read_delivery(tmp_path / "big"), AWS)


def test_folder_joins_another_folder(make_folder: MakeFolder, s3: Any, console: Console) -> None:
    folder = delivery.read_delivery(make_folder("streams/a.csv", "songs/s.csv", "users/u.csv"))
    delivery.require_apart_from_sample(folder, AWS)
    delivery.deliver(folder, "source", console)
    (folder.root / "songs/s.csv").rename(folder.root / "songs/other.csv")

    delivery.require_apart_from_sample(delivery.read_delivery(folder.root), AWS)


def test_replaced_and_waiting_files_are_named(make_folder: MakeFolder, s3: Any, console: Console) -> None:
    root = make_folder("streams/a.csv", "songs/s.csv", "users/u.csv")
    delivery.deliver(delivery.read_delivery(root), "source", console)
    assert "1 file in streams/, 1 file in songs/, 1 file in users/, 71 bytes" in console.file.getvalue()  # type: ignore[attr-defined]
    (root / "streams/a.csv").rename(root / "streams/b.csv")
    (root / "songs/s.csv").write_text("changed\n")

    folder = delivery.read_delivery(root)
    delivery.deliver(folder, "source", console)
    delivery.show_other_files(folder, "source", console)

    lines = console.file.getvalue().splitlines()[1:]  # type: ignore[attr-defined]
    assert lines[1:] == [
        "Replaced, with other content: songs/s.csv",
        "Also waiting, from before: streams/a.csv",
    ]


def test_sample_that_was_left_waiting_is_delivered_whole(
    s3: Any, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LOCAL_DIR", tmp_path)
    delivery.deliver_sample_unless_others("source", console)
    s3.delete_object(Bucket="source", Key="streams/streams2.csv")

    delivery.deliver_sample_unless_others("source", console)

    assert "streams/streams2.csv" in {item["Key"] for item in s3.list_objects_v2(Bucket="source")["Contents"]}


def test_files_that_wait_for_the_next_run_are_counted(s3: Any) -> None:
    assert delivery.waiting_line("source") == "No stream file waits in s3://source/streams/."

    for key in ("streams/a.csv", "streams/notes.txt", "songs/s.csv"):
        s3.put_object(Bucket="source", Key=key, Body=b"")
    assert delivery.waiting_line("source").startswith("1 stream file waits in s3://source/streams/ for")

    s3.put_object(Bucket="source", Key="streams/b.csv.gz", Body=b"")
    assert delivery.waiting_line("source").startswith("2 stream files wait in s3://source/streams/ for")
