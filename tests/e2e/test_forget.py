"""Users are forgotten after real runs: no version names them, and the KPIs equal the oracle's."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pyarrow import parquet as pq

from helpers.contract.keys import run_key_of
from helpers.errors import GlueOutputError, UsersForgottenError
from include.forget.command import REMAINS, forget
from include.forget.erasure import Places, days_to_reprocess
from include.redrive import Action, redrive
from tests.e2e import data
from tests.e2e.conftest import MakeRunner
from tests.e2e.delivered import read_catalogs
from tests.e2e.deployment import Deployment
from tests.e2e.observed import Observed, observe
from tests.e2e.oracle import accepted_listens, stamp_problems, table_problems
from tests.kpi_oracle import kpi_items

# Nobody else's id, track or file contains these.
USER, OTHER_USER = "zoe-with-an-id", 'q"uoted, id'
USERS = (USER, OTHER_USER)
LONELY_DAY = "2024-06-20"
AT_TEN, AT_THREE = (f"{data.FIRST_DAY} {hour}:00:00" for hour in (10, 15))
ROWS = {
    "streams/plain.csv": [
        *data.listens(1, 200, data.DAYS),
        *((USER, "quoted", f"{data.FIRST_DAY} 10:00:0{n}") for n in range(5)),
        (f" {USER} ", "newline", f"{LONELY_DAY} 10:00:00"),
        (OTHER_USER, "newline", f"{LONELY_DAY} 11:00:00"),
    ],
    "streams/zipped.csv.gz": [
        *data.listens(2, 100, data.DAYS),
        (USER, "two-genres", f"{data.SECOND_DAY} 10:00:00"),
        (USER, "quoted", AT_TEN),
    ],
}
# A quoted line break, no line break at the end, rejected rows of the user, and a line without columns.
OF_OTHERS = b"user_id,track_id,listen_time,comment\r\n" + b"".join(
    f'u{n % 9},quoted,{data.FIRST_DAY} 12:{n:02}:00,"two\r\nlines"\r\n'.encode() for n in range(60)
)
OF_USER = (
    f'{USER},quoted,{data.FIRST_DAY} 13:00:00,"two\r\nlines"\r\n'
    f"{USER},quoted,never,\r\n"
    f"{USER};quoted;{data.FIRST_DAY} 13:00:01\r\n"
).encode()
LAST = f"u1,quoted,{data.FIRST_DAY} 13:00:02,last".encode()
OTHERS_LISTEN = f"u1,quoted,{AT_TEN}\n".encode()
MISNAMED = b"user,track,time\n" + f"{USER},quoted,{AT_TEN}\n".encode() + OTHERS_LISTEN
HEADLESS = f"{USER},quoted,{AT_TEN}\n".encode() + OTHERS_LISTEN
MANY_BAD = data.stream_file([(USER, "quoted", "yesterday"), ("u1", "quoted", "yesterday")])
WAITING = data.stream_file([(USER, "quoted", AT_THREE), ("u2", "quoted", AT_THREE)])


@dataclass
class Story:
    """A pipeline before and after; `days` must be reprocessed."""

    deployment: Deployment
    before: Observed
    after: Observed
    days: list[str]
    said: list[str]


def places_of(deployment: Deployment) -> Places:
    resources = deployment.resources
    return Places(
        resources.source_bucket, resources.intermediate_bucket, resources.archive_bucket, resources.kpi_table
    )


def forget_in(
    deployment: Deployment, *users: str, said: list[str] | None = None, refuse: bool = False
) -> list[str]:
    say = [].append if said is None else said.append
    s3, dynamodb = deployment.resources.s3, deployment.resources.dynamodb
    return forget(s3, dynamodb, places_of(deployment), users, lambda question: True, say, refuse)


def upload_stories(deployment: Deployment) -> None:
    deployment.upload_all(data.catalogs())
    deployment.upload("streams/plain.csv", data.stream_file(ROWS["streams/plain.csv"]))
    deployment.upload("streams/zipped.csv.gz", gzip.compress(data.stream_file(ROWS["streams/zipped.csv.gz"])))
    deployment.upload("streams/odd.csv", OF_OTHERS + OF_USER + LAST)
    deployment.upload("streams/misnamed.csv", MISNAMED)
    deployment.upload("streams/headless.csv", HEADLESS)
    deployment.upload("streams/bad.csv", MANY_BAD)


@pytest.fixture(scope="module")
def story(make_deployment: Any, make_runner: MakeRunner) -> Story:
    """Users in all kinds of files, in a failed run and in a waiting file; then they are forgotten."""
    deployment = make_deployment()
    upload_stories(deployment)
    make_runner(deployment).run()
    late = [(user_id, "repeated", f"{data.FIRST_DAY} 16:00:00") for user_id in (USER, "u5")]
    deployment.upload("streams/late.csv", data.stream_file(late))
    make_runner(deployment).run()
    deployment.upload("streams/waiting.csv", WAITING + f"{USER},newline,{data.FIRST_DAY} 15:30:00\n".encode())
    deployment.upload("streams/waiting.csv", WAITING)
    failed = make_runner(deployment)
    for task_id in failed.task_ids[: failed.task_ids.index("trigger_glue_job")]:
        failed.run_task(task_id)
    assert spoken_of(deployment)
    before, said = observe(deployment.resources), list[str]()
    days = forget_in(deployment, *USERS, said=said)
    return Story(deployment, before, observe(deployment.resources), days, said)


def every_version(deployment: Deployment) -> Iterator[tuple[str, bytes]]:
    """Yield every version of every object in all buckets, unzipped, and Parquet as text."""
    resources = deployment.resources
    for bucket in (resources.source_bucket, resources.intermediate_bucket, resources.archive_bucket):
        for page in resources.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for version in page.get("Versions", []):
                pin = {"Key": version["Key"], "VersionId": version["VersionId"]}
                content = resources.s3.get_object(Bucket=bucket, **pin)["Body"].read()
                if content.startswith(b"\x1f\x8b"):
                    content = gzip.decompress(content)
                if content.startswith(b"PAR1"):
                    content += repr(pq.read_table(io.BytesIO(content)).to_pylist()).encode()
                yield f"{bucket}/{version['Key']}", content


def spoken_of(deployment: Deployment) -> list[str]:
    """Return the objects of which a version names one of the users."""
    spellings = (str, lambda user: user.replace('"', '""'), lambda user: json.dumps(user)[1:-1])
    forms = {spell(user).encode() for user in USERS for spell in spellings}
    return [key for key, content in every_version(deployment) if any(form in content for form in forms)]


def test_no_version_of_any_object_names_the_users(story: Story) -> None:
    assert spoken_of(story.deployment) == []
    assert REMAINS in story.said


def test_objects_keep_their_names_and_lose_only_the_lines_of_the_users(story: Story) -> None:
    before, after = story.before.archive, story.after.archive
    assert [key for key in after if not key.startswith("erasures/")] == list(before)

    kept = {
        f"streams/{name}": data.stream_file([row for row in rows if row[0].strip() not in USERS])
        for name, rows in (("plain", ROWS["streams/plain.csv"]), ("zipped", ROWS["streams/zipped.csv.gz"]))
    }
    kept |= {"streams/odd": OF_OTHERS + LAST, "quarantine/headless": OTHERS_LISTEN}
    kept["quarantine/misnamed"] = b"user,track,time\n" + OTHERS_LISTEN
    found = {
        f"{key.split('/')[0]}/{key.split('/')[2].split('__')[0]}": gzip.decompress(content)
        if content.startswith(b"\x1f\x8b")
        else content
        for key, content in after.items()
        if key.startswith(("streams/", "quarantine/")) and not key.endswith(".json")
    }
    assert {name: found[name] for name in kept} == kept
    unlike = {key.split("/")[0] for key in before if before[key] != after[key]}
    assert unlike == {"listens", "quarantine", "runs", "streams"}
    waiting = story.after.source["streams/waiting.csv"]
    assert waiting == data.stream_file([("u2", "quoted", AT_THREE)])


def test_temporary_objects_are_gone(story: Story) -> None:
    assert story.before.temporary_keys
    assert story.after.temporary_keys == []


def test_archive_class_and_kind_of_the_rewritten_files_stay(story: Story) -> None:
    resources = story.deployment.resources
    [key] = [key for key in story.after.archived("streams/") if "/plain__" in key]

    assert resources.s3.head_object(Bucket=resources.archive_bucket, Key=key)["StorageClass"] == "GLACIER_IR"


def test_record_says_how_many_and_not_who(story: Story) -> None:
    [record] = [json.loads(content) for content in story.after.archived("erasures/").values()]

    assert record.pop("erasure_id")
    assert record.pop("started_at") < record.pop("finished_at")
    assert record == {"users": 2, "days": {LONELY_DAY: 2, data.FIRST_DAY: 7, data.SECOND_DAY: 1}}


def test_run_from_before_is_refused_and_a_reprocessed_day_equals_the_oracle(
    story: Story, make_runner: MakeRunner
) -> None:
    deployment = story.deployment
    resources = deployment.resources
    assert story.days == [LONELY_DAY, *data.DAYS]
    # The table still counts the users, so what the days lost must not look like a loss of the history.
    reprocessing = make_runner(deployment, reprocess_dates=",".join(story.days))

    report = reprocessing.run()

    observed = observe(resources)
    listens = {
        day: [listen for listen in of_day if listen.user_id not in USERS]
        for day, of_day in accepted_listens(story.before).items()
    }
    catalogs = read_catalogs(deployment.delivered.catalogs)
    expected = {
        key: item
        for of_day in listens.values()
        if of_day
        for key, item in kpi_items(of_day, catalogs.songs, catalogs.users).items()
    }
    assert {day for day, _ in expected} == set(data.DAYS)
    assert observed.items.keys() == expected.keys()
    assert list(table_problems(observed, deployment.delivered)) == []
    assert list(stamp_problems(observed)) == []
    assert report["days"][LONELY_DAY]["total"] == 0
    assert days_to_reprocess(resources.s3, resources.dynamodb, places_of(deployment)) == []

    make_runner(deployment).run()
    assert list(table_problems(observe(resources), deployment.delivered)) == []
    assert spoken_of(deployment) == []
    snapshot = observe(resources)
    assert forget_in(deployment, *USERS) == []
    assert observe(resources) == snapshot


def test_loss_besides_the_erasure_still_blocks_the_day(make_deployment: Any, make_runner: MakeRunner) -> None:
    deployment = make_deployment()
    upload_stories(deployment)
    make_runner(deployment).run()
    days = forget_in(deployment, *USERS)
    resources = deployment.resources
    [key] = observe(resources).archived(f"listens/listen_date={data.FIRST_DAY}/")
    content = resources.s3.get_object(Bucket=resources.archive_bucket, Key=key)["Body"].read()
    shorter = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(content)).slice(1), shorter)
    resources.s3.put_object(Bucket=resources.archive_bucket, Key=key, Body=shorter.getvalue())

    with pytest.raises(GlueOutputError, match=r"of which 6 were erased since"):
        make_runner(deployment, reprocess_dates=",".join(days)).run()


@pytest.mark.parametrize("task", ["store_kpis_in_dynamodb", "archive_streams_data"])
def test_run_that_read_its_input_before_stores_and_archives_nothing(
    deployment: Deployment, make_runner: MakeRunner, task: str
) -> None:
    upload_stories(deployment)
    run = make_runner(deployment)
    for task_id in run.task_ids[: run.task_ids.index(task)]:
        run.run_task(task_id)
    resources = deployment.resources
    kept = {
        key: resources.s3.get_object(Bucket=resources.intermediate_bucket, Key=key)["Body"].read()
        for key in observe(resources).temporary_keys
    }
    days = forget_in(deployment, *USERS)
    # Glue was about to write its output when the bucket was emptied.
    for key, content in kept.items():
        resources.s3.put_object(Bucket=resources.intermediate_bucket, Key=key, Body=content)
    history = observe(resources).archived("listens/")

    with pytest.raises(UsersForgottenError, match="Trigger a new run"):
        run.run_task(task)

    assert observe(resources).archived("listens/") == history
    assert observe(resources).archived(f"runs/{run_key_of(run.dag_run_id)}/report") == {}
    make_runner(deployment).run()
    # Without a KPI of theirs, no day needs this.
    if days:
        make_runner(deployment, reprocess_dates=",".join(days)).run()
    assert list(table_problems(observe(resources), deployment.delivered)) == []
    with pytest.raises(ClientError):
        resources.s3.head_object(Bucket=resources.source_bucket, Key="streams/plain.csv")


def test_late_file_with_a_refused_user_waits_in_quarantine_until_it_has_none_of_their_lines(
    deployment: Deployment, make_runner: MakeRunner, tmp_path: Path
) -> None:
    resources = deployment.resources
    deployment.upload_all(data.catalogs())
    of_others = [*data.listens(3, 40, data.DAYS)]
    forget_in(deployment, USER, refuse=True)
    deployment.upload("streams/others.csv", data.stream_file(data.listens(1, 60, data.DAYS)))
    of_user = (f" {USER}", "quoted", f"{data.FIRST_DAY} 10:00:00")
    deployment.upload("streams/late.csv", data.stream_file([*of_others[:4], of_user, *of_others[4:]]))

    refused = make_runner(deployment).run()

    assert (refused["totals"]["archived"], refused["totals"]["quarantined"]) == (1, 1)
    [reason] = [file["reason"] for file in refused["files"] if file["disposition"] == "quarantine"]
    assert "1 of 41 rows belong to users who were forgotten, the first in line 6" in reason
    assert USER not in json.dumps(refused)
    listeners = {listen.user_id for day in accepted_listens(observe(resources)).values() for listen in day}
    assert USER not in listeners

    # The remedy that the reason gives.
    run_key = refused["run_key"]
    [fetched] = redrive(resources.s3, resources.archive_bucket, resources.source_bucket, run_key, tmp_path)
    assert fetched.action is Action.FETCHED
    path = next(path for path in tmp_path.rglob("*.csv"))
    path.write_text("".join(line for line in path.read_text().splitlines(True) if USER not in line))
    [redriven] = redrive(resources.s3, resources.archive_bucket, resources.source_bucket, run_key, tmp_path)
    assert redriven.action is Action.PUT_BACK
    report = make_runner(deployment).run()
    assert forget_in(deployment, USER) == []

    assert (report["totals"]["archived"], report["totals"]["rows"]) == (1, 40)
    assert spoken_of(deployment) == []
    listens = [listen for day in accepted_listens(observe(resources)).values() for listen in day]
    assert USER not in {listen.user_id for listen in listens}
    assert report["totals"]["new"] + refused["totals"]["new"] == len(listens)
