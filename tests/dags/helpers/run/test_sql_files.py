from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from pipeline_support import DAY, RUN_KEY, Pipeline
from pyarrow import parquet as pq

from helpers.contract.keys import kpis_key
from helpers.errors import GlueOutputError, RetryableError
from helpers.run import sql_files
from helpers.run.sql_files import to_parquet, write_kpis
from helpers.run.store import RunStore

ITEM = {
    "date": DAY,
    "track_genre": "pop",
    "listen_count": 3,
    "total_listening_time": Decimal("7.71"),
    "top_3_songs_per_genre": [
        {"rank": 1, "track_id": "t", "track_name": "T", "artists": "A", "listen_count": 3}
    ],
}
EARLIER, LATER = "2024-06-26T00:00:00+00:00", "2024-06-27T00:00:00+00:00"


@pytest.fixture
def run(pipeline: Pipeline) -> RunStore:
    return RunStore(RUN_KEY, pipeline.config)


def stored(pipeline: Pipeline) -> bytes:
    return pipeline.archived("kpis/")[kpis_key(DAY)]


def test_items_are_rows_with_the_values_that_the_table_has() -> None:
    [row] = pq.read_table(io.BytesIO(to_parquet(DAY, [ITEM]))).to_pylist()

    assert {name: value for name, value in row.items() if value is not None} == {
        name: value for name, value in ITEM.items() if name != "date"
    }


@pytest.mark.parametrize("value", [Decimal("7.715"), "many"])
def test_value_that_fits_no_column_is_refused_before_anything_is_written(value: Any) -> None:
    with pytest.raises(GlueOutputError, match=r"do not fit the columns of their Parquet file: "):
        to_parquet(DAY, [ITEM | {"total_listening_time": value}])


@pytest.mark.parametrize(
    ("version", "frozen_at", "replaces"),
    [(3, EARLIER, True), (2, LATER, True), (2, EARLIER, True), (1, LATER, False)],
)
def test_only_a_newer_or_equal_computation_replaces_the_file(
    version: int, frozen_at: str, replaces: bool, run: RunStore, pipeline: Pipeline
) -> None:
    write_kpis(run, DAY, b"stored", 2, EARLIER)

    write_kpis(run, DAY, b"other", version, frozen_at)

    assert stored(pipeline) == (b"other" if replaces else b"stored")


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("version_of_other", [1, 3])
def test_file_that_another_attempt_wrote_meanwhile_is_not_replaced(
    exists: bool, version_of_other: int, run: RunStore, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exists:
        write_kpis(run, DAY, b"before", 1, EARLIER)
    head, heads = sql_files.head_object, []

    def overtaken(*place: Any) -> Any:
        found = head(*place)
        if not heads:
            heads.append(found)
            write_kpis(run, DAY, b"of the other", version_of_other, LATER)
        return found

    monkeypatch.setattr(sql_files, "head_object", overtaken)

    # A newer file stays, like the table's newer items; in place of an older one, the retry writes its own.
    if version_of_other > 2:
        write_kpis(run, DAY, b"late", 2, EARLIER)
    else:
        with pytest.raises(RetryableError, match="written by another attempt meanwhile"):
            write_kpis(run, DAY, b"late", 2, EARLIER)

    assert stored(pipeline) == b"of the other"


def test_request_that_the_sdk_repeats_meets_its_own_object(
    run: RunStore, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = run.s3.put_object

    def put_twice(**arguments: Any) -> Any:
        put(**arguments)
        return put(**arguments)

    monkeypatch.setattr(run.s3, "put_object", put_twice)

    write_kpis(run, DAY, b"file", 2, EARLIER)

    assert stored(pipeline) == b"file"
