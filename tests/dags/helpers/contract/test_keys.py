import re
from typing import Any

import pytest

from helpers.contract.keys import (
    archive_key,
    history_prefix,
    input_prefix,
    manifest_key,
    output_prefix,
    part_key,
    quarantine_key,
    report_key,
    run_key_of,
    run_prefix,
)
from helpers.contract.records import ObjectVersion

RUN_IDS = [
    "scheduled__2024-06-25T00:00:00+00:00",
    "manual__2024-06-25T12:34:56.789012+00:00",
    "dataset_triggered__2024-06-25T00:00:00+00:00",
    "my run / with: ünïcode?",
    "../../etc",
    "_.",
    "a" * 250,
    "~",
    "~:~",
    "+",
    "..",
    "-",
    "~" * 250,
    "ü~",
]


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_run_key_is_safe_in_s3_keys_and_paths(run_id: str) -> None:
    run_key = run_key_of(run_id)

    assert re.fullmatch(r"[A-Za-z0-9._-]{9,92}", run_key)
    assert not run_key.startswith((".", "-"))


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_run_key_can_be_split_off_the_names_of_history_objects(run_id: str) -> None:
    assert f"{run_key_of(run_id)}__part-00000.parquet".count("__") == 1


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_run_key_of_a_run_is_always_the_same(run_id: str) -> None:
    assert run_key_of(run_id) == run_key_of(run_id)


def test_run_key_is_readable() -> None:
    assert run_key_of(RUN_IDS[0]).startswith("scheduled_2024-06-25T00_00_00_00_00-")


@pytest.mark.parametrize(
    ("one", "other"),
    [("a:b", "a+b"), ("a", "a_"), ("a" * 80 + "b", "a" * 80 + "c"), ("ä", "ö")],
)
def test_run_ids_that_look_alike_have_different_keys(one: str, other: str) -> None:
    assert run_key_of(one) != run_key_of(other)


def test_keys_of_a_run_are_those_that_the_design_names() -> None:
    assert run_prefix("r") == "runs/r/"
    assert manifest_key("r") == "runs/r/manifest.json"
    assert report_key("r") == "runs/r/report.json"
    assert input_prefix("r") == "runs/r/input/"
    assert output_prefix("r") == "runs/r/output/"
    assert part_key("r", "combined", 3, "parquet") == "runs/r/combined/part-00003.parquet"
    assert history_prefix("2024-06-25") == "listens/listen_date=2024-06-25/"


class TestPlaces:
    VERSION = ObjectVersion(
        key="streams/x/a.csv", version_id="v1", etag='"e1"', size=1, last_modified="2024-06-26T23:59:59+00:00"
    )

    @pytest.mark.parametrize(
        ("key", "version_id", "name"),
        [
            ("streams/a.csv", "v1", "a__v1.csv"),
            ("streams/a.csv.gz", "v1", "a__v1.csv.gz"),
            ("streams/2024/06/a b+ü.csv", "v1", "2024/06/a b+ü__v1.csv"),
            ("streams/a.csv", None, "a__e1.csv"),
        ],
    )
    def test_archive_key_has_arrival_day_name_and_version(
        self, key: str, version_id: str | None, name: str
    ) -> None:
        version: Any = self.VERSION | {"key": key, "version_id": version_id}

        assert archive_key(version) == f"streams/2024-06-26/{name}"
        assert quarantine_key("r", version) == f"quarantine/r/{name}"
