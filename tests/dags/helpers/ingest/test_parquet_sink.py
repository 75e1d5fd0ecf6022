from typing import Any

import psutil
import pyarrow as pa
import pytest
from pipeline_support import Pipeline, read_parquet
from pyarrow import parquet as pq

from helpers.aws.clients import s3_client
from helpers.ingest import parquet_sink
from helpers.ingest.parquet_sink import ParquetSink

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string())])


def table(*numbers: int | None) -> pa.Table:
    return pa.table({"number": numbers, "text": [str(number) for number in numbers]}, schema=SCHEMA)


def test_uploaded_object_holds_all_rows_in_order(pipeline: Pipeline) -> None:
    bucket = pipeline.config.intermediate_bucket
    pipeline.put(bucket, "a.parquet", b"of an earlier attempt")

    with ParquetSink(SCHEMA) as sink:
        sink.write(table(1, None))
        sink.write(table())
        sink.write(table(3))
        sink.upload(s3_client(), bucket, "a.parquet")

    assert sink.rows == 3
    assert read_parquet(pipeline.objects(bucket)["a.parquet"]).equals(table(1, None, 3))


def test_sink_without_rows_is_a_file_with_the_schema() -> None:
    with ParquetSink(SCHEMA) as sink:
        sink.close()

        assert pq.read_table(sink.path).equals(table())


def test_small_tables_are_collected_into_row_groups_of_a_useful_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_sink, "ROWS_PER_GROUP", 4)

    with ParquetSink(SCHEMA) as sink:
        for number in range(10):
            sink.write(table(number))
        sink.close()

        file = pq.ParquetFile(sink.path)
        groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        assert groups == [4, 4, 2]


def test_temporary_file_is_gone_after_an_error() -> None:
    sinks = []

    def fail() -> None:
        with ParquetSink(SCHEMA) as sink:
            sinks.append(sink)
            sink.write(table(1))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()

    assert not sinks[0].path.parent.exists()


def test_rows_of_another_schema_are_refused() -> None:
    with ParquetSink(SCHEMA) as sink:
        sink.write(pa.table({"number": ["1"], "text": ["1"]}))

        with pytest.raises(ValueError, match=r"[Ss]chema"):
            sink.close()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row group cannot be written."""

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet_sink, "ROWS_PER_GROUP", 2)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)


@pytest.mark.usefixtures("full_disk")
def test_failed_writing_is_raised_by_the_next_row_group() -> None:
    with ParquetSink(SCHEMA) as sink:
        sink.write(table(1, 2))

        with pytest.raises(OSError, match="No space left"):
            sink.write(table(3, 4))


@pytest.mark.usefixtures("full_disk")
def test_nothing_is_uploaded_after_a_failed_writing(pipeline: Pipeline) -> None:
    bucket = pipeline.config.intermediate_bucket
    with ParquetSink(SCHEMA) as sink:
        sink.write(table(1, 2))

        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                sink.upload(s3_client(), bucket, "a.parquet")

    assert pipeline.objects(bucket) == {}


@pytest.mark.usefixtures("full_disk")
def test_failed_writing_leaves_no_file_open_and_none_behind() -> None:
    sink = ParquetSink(SCHEMA)

    def fail() -> None:
        with sink:
            sink.write(table(1, 2))
            sink.close()

    with pytest.raises(OSError, match="No space left"):
        fail()

    assert not sink.path.parent.exists()
    assert not [file for file in psutil.Process().open_files() if file.path.startswith(str(sink.path))]


def test_rows_that_were_written_are_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_sink, "ROWS_PER_GROUP", 1000)
    before = pa.total_allocated_bytes()

    with ParquetSink(SCHEMA) as sink:
        for _ in range(50):
            sink.write(pa.table({"number": [1] * 1000, "text": ["x" * 1000] * 1000}, schema=SCHEMA))
            assert pa.total_allocated_bytes() - before < 8 * 1000**2
