"""Prerequisites of a run: if one is missing or wrong, the message names it and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e import data
from tests.e2e.conftest import MakeRunner
from tests.e2e.data import FIRST_DAY
from tests.e2e.deployment import Deployment
from tests.e2e.observed import snapshot
from tests.e2e.oracle import assert_another_run_changes_nothing, assert_consistent

GOOD_FILE = data.stream_file(data.listens(1, 20))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"INTERMEDIATE_BUCKET_NAME": " "},
            "The environment variable INTERMEDIATE_BUCKET_NAME is not set. Set it in .env",
        ),
        (
            {"SOURCE_BUCKET_NAME": "missing"},
            "The bucket 'missing', named by SOURCE_BUCKET_NAME, does not exist. Deploy",
        ),
        (
            {"KPI_TABLE_NAME": "missing"},
            "The table 'missing', named by KPI_TABLE_NAME, does not exist. Deploy",
        ),
        ({"MAX_REJECTED_FRACTION": "5%"}, "MAX_REJECTED_FRACTION is '5%'; it must be a number from 0 to 1"),
        (
            {"ARCHIVE_BUCKET_NAME": "{SOURCE_BUCKET_NAME}"},
            "SOURCE_BUCKET_NAME and ARCHIVE_BUCKET_NAME both name",
        ),
        (
            {"ARCHIVE_BUCKET_NAME": "{INTERMEDIATE_BUCKET_NAME}"},
            "INTERMEDIATE_BUCKET_NAME and ARCHIVE_BUCKET_NAME",
        ),
    ],
)
@pytest.mark.scenarios(37, 45)
def test_wrong_setting_is_named_before_anything_is_touched(
    deployment: Deployment, make_runner: MakeRunner, changes: dict[str, str], message: str
) -> None:
    from helpers.errors import ConfigurationError

    deployment.upload_all({**data.catalogs(), "streams/a.csv": GOOD_FILE})
    before = snapshot(deployment.resources)
    deployment.names |= {name: value.format(**deployment.names) for name, value in changes.items()}

    with pytest.raises(ConfigurationError) as raised:
        make_runner(deployment).run()

    assert message in str(raised.value)
    assert snapshot(deployment.resources) == before


def _catalogs(**changes: bytes | None) -> dict[str, bytes]:
    files = {**data.catalogs(), **{f"{name}/{name}.csv": content for name, content in changes.items()}}
    return {key: content for key, content in files.items() if content is not None}


WRONG_CATALOGS = {
    "no songs": (
        _catalogs(songs=None),
        "No CSV file under s3://{bucket}/songs/: upload the catalog (columns track_id",
    ),
    "no users": (
        _catalogs(users=None),
        "No CSV file under s3://{bucket}/users/: upload the catalog (columns user_id",
    ),
    "songs without a column": (
        data.catalogs(data.songs_without("duration_ms")),
        "songs catalog s3://{bucket}/songs/songs.csv cannot be used: missing column duration_ms; the header",
    ),
    "empty users": (_catalogs(users=b""), "users/users.csv cannot be used: the file is empty"),
    "users with a header only": (
        _catalogs(users=b"user_id,user_name,user_country\n"),
        "users/users.csv cannot be used: 0 of 0 rows are usable",
    ),
    "songs not in UTF-8": (
        _catalogs(songs=data.catalogs()["songs/songs.csv"].replace("é".encode(), b"\xe9")),
        "songs/songs.csv cannot be used: the file is not UTF-8: byte 0xe9",
    ),
    "a genre with the name of the totals": (
        data.catalogs(data.songs_with_genres(emo="ALL_GENRES")),
        "track_genre 'ALL_GENRES' is reserved for the totals of a day",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_CATALOGS)
def test_wrong_catalog_is_named_with_column_and_reason_and_nothing_is_moved(
    make_deployment: Callable[[], Deployment], make_runner: MakeRunner, wrong: str
) -> None:
    from helpers.errors import BadInputError

    catalogs, message = WRONG_CATALOGS[wrong]
    deployment = make_deployment()
    deployment.upload_all({**catalogs, "streams/a.csv": GOOD_FILE, "streams/bad.csv": b"no header\n"})
    runner = make_runner(deployment)

    with pytest.raises(BadInputError) as raised:
        runner.run()

    assert message.format(bucket=deployment.resources.source_bucket) in str(raised.value)
    assert "Nothing was moved" in str(raised.value)
    assert_consistent(deployment.resources, deployment.delivered, unfinished_runs=[runner.run_key])


def test_run_after_the_catalog_was_corrected_takes_the_files_that_were_left(
    deployment: Deployment, make_runner: MakeRunner
) -> None:
    from helpers.errors import BadInputError

    deployment.upload_all({**WRONG_CATALOGS["empty users"][0], "streams/a.csv": GOOD_FILE})
    failed = make_runner(deployment)
    with pytest.raises(BadInputError):
        failed.run()
    deployment.upload_all(data.catalogs())

    assert make_runner(deployment).run()["totals"]["archived"] == 1

    assert_consistent(deployment.resources, deployment.delivered, unfinished_runs=[failed.run_key])


@pytest.mark.parametrize(
    ("reprocess_dates", "message"),
    [
        (f"{FIRST_DAY},2024-06-30", "No listens of 2024-06-25, 2024-06-30 are in s3://"),
        ("last week", "reprocess_dates has 'last', which is not a day in the form YYYY-MM-DD"),
        ("2024-06-31", "reprocess_dates has '2024-06-31', which is not a day"),
    ],
)
def test_days_that_cannot_be_reprocessed_are_named_and_nothing_changes(
    deployment: Deployment, make_runner: MakeRunner, reprocess_dates: str, message: str
) -> None:
    from helpers.errors import BadInputError

    deployment.upload_all({**data.catalogs(), "streams/a.csv": GOOD_FILE})

    def reprocess() -> None:
        with pytest.raises(BadInputError) as raised:
            make_runner(deployment, reprocess_dates).run()
        assert message in str(raised.value)

    assert_another_run_changes_nothing(deployment.resources, reprocess)
