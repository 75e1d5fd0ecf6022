"""The oracle finds every fault: each kind of damage is done to a correct result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.e2e import data
from tests.e2e.conftest import MakeRunner
from tests.e2e.data import DAYS, FIRST_DAY
from tests.e2e.deployment import Deployment
from tests.e2e.observed import Observed, observe
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent, find_problems

Damage = Callable[[Observed], object]


@pytest.fixture(scope="module")
def sound(make_deployment: Callable[[], Deployment], make_runner: MakeRunner) -> Deployment:
    """A pipeline after a run with a good file, a quarantined one and a rejected row."""
    deployment = make_deployment()
    rows = [*data.listens(1, 50, DAYS), ("u1", "quoted", "yesterday")]
    deployment.upload_all(
        {
            **data.catalogs(),
            "streams/good.csv": data.stream_file(rows),
            "streams/bad.csv": b"no header\n1\n",
        }
    )
    make_runner(deployment).run()
    return deployment


@pytest.fixture(scope="module")
def observed(sound: Deployment) -> Observed:
    return observe(sound.resources)


def archived(pattern: str, change: Callable[[bytes], bytes | None]) -> Damage:
    """Change the one archived object whose key matches; None deletes it."""

    def damage(observed: Observed) -> None:
        [key] = [key for key in observed.archive if re.search(pattern, key)]
        changed = change(observed.archive.pop(key))
        if changed is not None:
            observed.archive[key] = changed

    return damage


def item(genre: str, **changes: Any) -> Damage:
    """Change attributes of an item of the first day, which may be new."""
    return lambda observed: observed.items.setdefault((FIRST_DAY, genre), {}).update(changes)


def copy_back(observed: Observed) -> None:
    [observed.source["streams/again.csv"]] = observed.archived("streams/").values()


def with_one_valid_row_less(report: bytes) -> bytes:
    content = json.loads(report)
    content["files"][1]["valid"] -= 1
    return json.dumps(content).encode()


def with_bad_file_accepted(report: bytes) -> bytes:
    content = json.loads(report)
    content["files"][0]["disposition"] = "archive"
    return json.dumps(content).encode()


def with_version_of_another_file(report: bytes) -> bytes:
    content = json.loads(report)
    content["files"][0]["version_id"] = content["files"][1]["version_id"]
    return json.dumps(content).encode()


def with_one_new_listen_less(report: bytes) -> bytes:
    content = json.loads(report)
    content["totals"]["new"] -= 1
    return json.dumps(content).encode()


def lost(content: bytes) -> None:
    return None


def without_last_line(content: bytes) -> bytes:
    return b"\n".join(content.splitlines()[:-1]) + b"\n"


DAMAGE: dict[str, tuple[Damage, str]] = {
    "an item is lost": (lambda o: o.items.pop((FIRST_DAY, "disco")), "table lacks the item"),
    "a number is wrong": (item("disco", unique_listeners=99), "unique_listeners is 99, must be"),
    "an attribute is too many": (item("disco", mood=1), "mood is 1, must be None"),
    "an item is stale": (item("polka", listen_count=1), "polka'), which nothing accounts for"),
    "a day is half written": (item("ALL_GENRES", status="updating"), "status is 'updating'"),
    "an item is of another run": (item("disco", run_key="other"), "come from several computations"),
    "a version is wrong": (item("ALL_GENRES", version=7), "version 7, history has 1 objects"),
    "an archived file is lost": (archived("^streams/", lost), "its bytes are in 0 places"),
    "an archived file is cut": (
        archived("^streams/", without_last_line),
        "has other bytes than were delivered",
    ),
    "a file was archived that cannot be read": (
        archived("report.json$", with_bad_file_accepted),
        "archived as processed, but it cannot be read",
    ),
    "a quarantined file is lost": (archived(r"^quarantine/.*/bad__.*\.csv$", lost), "does not exist"),
    "a reason is lost": (archived(r"\.csv\.reason\.json$", lost), "says why it is in quarantine"),
    "a rejected row is lost": (
        archived("rejected_rows/part-", without_last_line),
        "1 rows rejected, by reason {'invalid listen_time': 1}, 0 of them kept",
    ),
    "a file is in two places": (copy_back, "its bytes are in 2 places"),
    "a history object is lost": (
        archived(f"^listens/listen_date={FIRST_DAY}/", lost),
        f"history of {FIRST_DAY} lacks",
    ),
    "a day's Parquet file is lost": (
        archived(f"^kpis/listen_date={FIRST_DAY}/", lost),
        "its Parquet file has None, the table",
    ),
    "an item differs from its Parquet file": (
        item("disco", unique_listeners=99),
        "'disco'): its Parquet file has {",
    ),
    "a file's rows do not add up": (
        archived("report.json$", with_one_valid_row_less),
        "51 rows, but 49 valid + 1 rejected",
    ),
    "a run's listens do not add up": (
        archived("report.json$", with_one_new_listen_less),
        "50 valid rows are not new + repeated",
    ),
    "a report tells of another file": (
        archived("report.json$", with_version_of_another_file),
        "was never delivered",
    ),
    "a report is lost": (archived("report.json$", lost), "which wrote them, has no report"),
    "a temporary object is left": (
        lambda o: o.temporary_keys.append("runs/failed/combined/part"),
        "runs/failed/combined/part is left",
    ),
    "something else is in the archive": (
        lambda o: o.archive.update({"streams/2024-06-25/x.csv": data.stream_file([])}),
        "x.csv: these bytes were never delivered",
    ),
}


def test_oracle_finds_nothing_wrong_with_a_sound_result(sound: Deployment) -> None:
    assert_consistent(sound.resources, sound.delivered)


@pytest.mark.parametrize("damage", DAMAGE)
def test_oracle_finds_that(sound: Deployment, observed: Observed, damage: str) -> None:
    do_damage, problem = DAMAGE[damage]
    damaged = deepcopy(observed)
    do_damage(damaged)

    problems = find_problems(damaged, sound.delivered)

    assert [found for found in problems if problem in found], problems


def test_oracle_forgives_temporary_objects_of_unfinished_runs_only(
    sound: Deployment, observed: Observed
) -> None:
    damaged = deepcopy(observed)
    damaged.temporary_keys.append("runs/failed/combined/part")

    assert find_problems(damaged, sound.delivered, unfinished_runs=["failed"]) == []
    assert find_problems(damaged, sound.delivered, unfinished_runs=["other"]) != []


def test_oracle_says_what_another_run_changed(sound: Deployment) -> None:
    resources = sound.resources

    def write_item() -> None:
        names = {"date": {"S": "2024-01-01"}, "track_genre": {"S": "polka"}}
        resources.dynamodb.put_item(TableName=resources.kpi_table, Item=names)

    def write_object(content: bytes) -> None:
        resources.s3.put_object(Bucket=resources.archive_bucket, Key="listens/new", Body=content)

    assert_another_run_changes_nothing(resources, lambda: None)
    with pytest.raises(AssertionError, match=r"'polka'\) appeared in another run"):
        assert_another_run_changes_nothing(resources, write_item)
    with pytest.raises(AssertionError, match="listens/new appeared in another run"):
        assert_another_run_changes_nothing(resources, lambda: write_object(b"x"))
    with pytest.raises(AssertionError, match="listens/new changed in another run"):
        assert_another_run_changes_nothing(resources, lambda: write_object(b"x"))
