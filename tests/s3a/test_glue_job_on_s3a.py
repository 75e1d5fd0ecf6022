"""The Glue script on Hadoop's S3A, over HTTP, under the Glue role with its policies enforced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests.glue_script.glue_job_support import at, listen
from tests.include.stack_policies.policies import GLUE_ROLE, role_statements
from tests.kpi_oracle import Listen, Song, User, kpi_items
from tests.s3a.conftest import FILE_COMMITTER, MAGIC_COMMITTER, SCRIPT_KEY, S3aAws, S3aJobFolder
from tests.s3a.documented import rows

pytestmark = pytest.mark.slow

MakeJob = Callable[[dict[str, str]], S3aJobFolder]

DAY, NEXT_DAY = "2024-06-25", "2024-06-26"
A, B, C = (listen("u1", "t1", f"{DAY} 12:00:0{second}") for second in range(3))
D = listen("u2", "t2", f"{NEXT_DAY} 12:00:00")
E = listen("u2", "t2", f"{DAY} 12:00:09")
SONGS = [Song("t1", "Song 1", "Artist 1", "pop", 60_300), Song("t2", None, "Çelik; Ω", "rock", None)]
USERS = [User("u1", "Ireland"), User("u3", None)]
BATCH, LATE_BATCH = "first-0a1b2c3d", "late-4e5f6a7b"
DAYS, FILES = 40, 500


def test_role_grants_the_rights_on_s3_that_the_docs_say_s3a_takes(s3a_aws: S3aAws) -> None:
    granted = {
        action
        for statement in role_statements(s3a_aws.deployment.endpoint_url, GLUE_ROLE)
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        if action.startswith("s3:")
    }

    assert granted == {row.right for row in rows()}


@pytest.mark.parametrize(
    ("committer", "leftovers"),
    [
        pytest.param(MAGIC_COMMITTER, ["listens/", "listens/_SUCCESS"], id="magic-committer"),
        pytest.param(FILE_COMMITTER, ["listens/_SUCCESS"], id="file-committer"),
    ],
)
def test_first_batch_makes_its_folders_and_leaves_only_empty_markers(
    make_job: MakeJob, committer: dict[str, str], leftovers: list[str]
) -> None:
    job = make_job(committer)
    job.write_input([A, B, A], [C, D], songs=SONGS, users=USERS)

    job.run(BATCH)

    assert job.items() == kpi_items([A, B, C, D], SONGS, USERS)
    assert job.added() == sorted([A, B, C, D])
    assert job.leftovers(BATCH) == leftovers
    assert job.aws.uploads() == []


def test_late_batch_its_replay_and_reprocessing_agree_with_the_oracle(make_job: MakeJob) -> None:
    job = make_job(MAGIC_COMMITTER)
    job.write_history("first__0.parquet", [A, B])
    job.write_input([B, C], songs=SONGS, users=USERS)
    counts = {"rows_read": 2, "new": 1, "repeated": 1, "total": 3}

    job.run(LATE_BATCH)

    items = job.items()
    assert items == kpi_items([A, B, C], SONGS, USERS)
    assert job.added() == [C]
    assert job.day(DAY) == counts | {"added": 1, "history_objects": ["first__0.parquet"]}

    job.keep_added(LATE_BATCH)
    job.run(LATE_BATCH)

    assert job.items() == items
    assert job.added_objects() == []
    assert {name: job.day(DAY)[name] for name in counts} == counts

    renamed = [song._replace(track_genre="disco") for song in SONGS]
    job.write_input(songs=renamed, users=USERS)
    job.run("reprocess-8c9d0e1f", reprocess_dates=DAY)

    assert job.items() == kpi_items([A, B, C], renamed, USERS)
    assert (job.day(DAY)["rows_read"], len(job.day(DAY)["history_objects"])) == (0, 2)


@pytest.fixture
def every_day_is_large(s3a_aws: S3aAws) -> Iterator[None]:
    """Let the job keep a snapshot of every day."""
    bucket, s3 = s3a_aws.deployment.resources.intermediate_bucket, s3a_aws.deployment.resources.s3
    script = s3.get_object(Bucket=bucket, Key=SCRIPT_KEY)["Body"].read()
    # A snapshot of few listens is larger than their history.
    limits = {b"SNAPSHOT_BYTES": b"0", b"SHARE_READ_WITH_SNAPSHOT": b"100"}
    changed, changes = re.subn(
        rb"(?m)^(SNAPSHOT_BYTES|SHARE_READ_WITH_SNAPSHOT) = .*$",
        lambda found: found[1] + b" = " + limits[found[1]],
        script,
    )
    assert changes == len(limits)
    s3.put_object(Bucket=bucket, Key=SCRIPT_KEY, Body=changed)
    yield
    s3.put_object(Bucket=bucket, Key=SCRIPT_KEY, Body=script)


@pytest.mark.usefixtures("every_day_is_large")
@pytest.mark.parametrize(
    "committer",
    [pytest.param(MAGIC_COMMITTER, id="magic-committer"), pytest.param(FILE_COMMITTER, id="file-committer")],
)
def test_large_day_continues_from_its_snapshot(make_job: MakeJob, committer: dict[str, str]) -> None:
    job = make_job(committer)
    job.write_input([A, B], songs=SONGS, users=USERS)
    job.run(BATCH)
    job.keep_added(BATCH)
    job.write_input([B, C], songs=SONGS, users=USERS)

    job.run(LATE_BATCH)

    assert job.items() == kpi_items([A, B, C], SONGS, USERS)
    assert job.added() == [C]

    job.keep_added(LATE_BATCH)
    job.write_input([E], songs=SONGS, users=USERS)
    job.run("last-8c9d0e1f")

    assert job.items() == kpi_items([A, B, C, E], SONGS, USERS)
    # The snapshot of the first batch is gone.
    assert len([key for key in job.aws.keys("snapshots/") if key.endswith(".json")]) == 2
    keys = [key for request in job.requests for key in request["keys"] if request["operation"] == "GetObject"]
    assert any(re.fullmatch(r"snapshots/tables/.*/users/.*\.parquet", key) for key in keys)


def test_job_killed_while_it_commits_leaves_nothing_that_its_retry_keeps(make_job: MakeJob) -> None:
    """Covers renaming; `test_pipeline_on_s3a` kills one that commits its uploads."""
    job = make_job(FILE_COMMITTER)
    job.write_input([A, B, A], [C, D], songs=SONGS, users=USERS)

    # Their task has copied both days' files; one is in its place and one is not.
    job.run(BATCH, stop_at=("CopyObject", 4))

    left = job.aws.keys(f"runs/{BATCH}/output/")
    assert any("/_temporary/" in key for key in left)
    assert not any(key.endswith("/summary.json") for key in left)

    job.run(BATCH)

    assert job.items() == kpi_items([A, B, C, D], SONGS, USERS)
    assert job.added() == sorted([A, B, C, D])
    assert job.leftovers(BATCH) == ["listens/_SUCCESS"]


def test_many_days_one_of_them_of_hundreds_of_files_are_read_and_written(make_job: MakeJob) -> None:
    job = make_job(MAGIC_COMMITTER)
    start = at(f"{DAY} 12:00:00")
    old = [Listen("u1", "t1", start + timedelta(days=day)) for day in range(DAYS)]
    new = [Listen("u2", "t2", start + timedelta(days=day)) for day in range(DAYS + 1)]
    of_files = [Listen(f"u{number + 10}", "t1", start) for number in range(FILES)]
    job.write_history("earlier__0.parquet", old)
    for number, row in enumerate(of_files):
        job.write_history(f"batch-{number}__0.parquet", [row])
    job.write_input(new, songs=SONGS, users=USERS)

    job.run(LATE_BATCH)

    assert job.items() == kpi_items([*old, *new, *of_files], SONGS, USERS)
    assert job.added() == sorted(new)
    assert len(job.day(DAY)["history_objects"]) == FILES + 1
    assert len(job.summary()["days"]) == DAYS + 1
