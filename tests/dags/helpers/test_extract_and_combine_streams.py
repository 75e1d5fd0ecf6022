import gzip
import hashlib
from typing import Any

import pyarrow as pa
import pytest
from pipeline_support import BAD, DAY, GOOD, RUN_ID, RUN_KEY, Pipeline, read_parquet, streams

from helpers import extract_and_combine_streams as module
from helpers.contract.keys import manifest_key, report_key
from helpers.contract.names import STREAM_COLUMNS
from helpers.contract.records import CombinedPart, FileOutcome, Part
from helpers.errors import ReconciliationError
from helpers.extract_and_combine_streams import COMBINED_SCHEMA, extract_and_combine_streams
from helpers.list_stream_files import list_stream_files


def extract(pipeline: Pipeline) -> CombinedPart:
    (part,) = list_stream_files(RUN_ID, pipeline.config)
    return extract_and_combine_streams(part, pipeline.config)


def combined(pipeline: Pipeline) -> list[dict[str, Any]]:
    table = read_parquet(pipeline.intermediate()["combined/part-00000.parquet"])
    assert table.schema == COMBINED_SCHEMA
    return table.to_pylist()


def outcomes(pipeline: Pipeline) -> list[FileOutcome]:
    """Return the outcomes without digests; the digest of a file that was read to its end must be right."""
    result: list[FileOutcome] = pipeline.intermediate_json("combined/part-00000.json")
    for one in result:
        version = pipeline.archived_json(manifest_key(RUN_KEY))["streams"][one["index"]]
        digest = one.pop("sha256", None)
        if one["disposition"] == "archive":
            place = {"Bucket": pipeline.config.source_bucket, "Key": version["key"]}
            pin = {"VersionId": version["version_id"]} if version["version_id"] else {}
            content = pipeline.s3.get_object(**place, **pin)["Body"].read()
            assert digest == hashlib.sha256(content).hexdigest()
        else:
            assert digest is None, "only the start was read"
    return result


def record(file: int, row: int, *values: str) -> dict[str, Any]:
    return {
        "file": file,
        "row": row,
        "line_offset": 1,
        **dict(zip(STREAM_COLUMNS, values, strict=True)),
        "malformed_record": None,
        "malformed_reason": None,
    }


def malformed(file: int, row: int, text: str) -> dict[str, Any]:
    reason = {"malformed_record": text, "malformed_reason": "wrong number of fields"}
    return {"file": file, "row": row, "line_offset": 1, **dict.fromkeys(STREAM_COLUMNS), **reason}


def outcome(index: int, lines: int = 0, **values: Any) -> dict[str, Any]:
    """Return the outcome of a file with that many lines; 0: it was not read to its end."""
    counts = {"total": lines, "header": 1, "blank": 0, "continuation": 0} if lines else None
    nothing = {"rows": 0, "valid": 0, "rejected": 0, "rejected_by_reason": {}, "extra_columns": []}
    return {"index": index, "lines": counts, **nothing, "disposition": "archive", "reason": None, **values}


def test_records_of_all_files_are_combined_with_file_and_row(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams("u1,t1,x", "u2, t2 ,", "too,few"))
    pipeline.upload("streams/b.csv.gz", gzip.compress(b"region,listen_time,track_id,user_id\nEU,y,t3,u3\n"))
    pipeline.upload("streams/c.csv", "user_id,track_id,listen_time")

    part = extract(pipeline)

    assert part == {"run_key": RUN_KEY, "part": 0, "files": 3, "rows": 4}
    assert sorted(combined(pipeline), key=lambda row: (row["file"], row["row"])) == [
        record(0, 1, "u1", "t1", "x"),
        record(0, 2, "u2", " t2 ", ""),
        malformed(0, 3, "too,few"),
        record(1, 1, "u3", "t3", "y"),
    ]
    assert outcomes(pipeline) == [
        outcome(0, lines=4, rows=3),
        outcome(1, lines=2, rows=1, extra_columns=["region"]),
        outcome(2, lines=1),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "the file is empty", id="zero bytes"),
        pytest.param(b"user_id,listen_time\nu1,x\n", "missing column track_id", id="missing column"),
        pytest.param(b"user_id;track_id;listen_time\n", "looks semicolon-separated", id="semicolons"),
        pytest.param(streams("\xe9,t1,x").encode("latin-1"), "not UTF-8", id="latin-1"),
        pytest.param(gzip.compress(b"user_id,track")[:-3], "truncated", id="gzip cut"),
    ],
)
def test_file_of_a_wrong_structure_is_quarantined_and_the_others_go_on(
    pipeline: Pipeline, content: bytes, reason: str
) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", content)
    pipeline.upload("streams/b.csv", streams(GOOD))

    part = extract(pipeline)

    first, second = outcomes(pipeline)
    assert (first["disposition"], first["rows"]) == ("quarantine", 0)
    assert reason in str(first["reason"])
    assert second == outcome(1, lines=2, rows=1)
    assert combined(pipeline) == [record(1, 1, "u1", "t1", f"{DAY} 10:00:00")]
    assert (part["files"], part["rows"]) == (2, 1)


def test_listed_version_is_read_though_a_newer_one_has_come(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams("old,t1,x"))
    (part,) = list_stream_files(RUN_ID, pipeline.config)
    pipeline.upload("streams/a.csv", streams("new,t1,x"))

    extract_and_combine_streams(part, pipeline.config)

    assert combined(pipeline) == [record(0, 1, "old", "t1", "x")]


def test_file_that_changed_in_an_unversioned_bucket_is_left_for_the_next_run(make_pipeline: Any) -> None:
    pipeline = make_pipeline(versioned=False)
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD))
    pipeline.upload("streams/b.csv", streams(GOOD))
    (part,) = list_stream_files(RUN_ID, pipeline.config)
    pipeline.upload("streams/a.csv", streams(GOOD, GOOD))

    extract_and_combine_streams(part, pipeline.config)

    first, second = outcomes(pipeline)
    assert (first["disposition"], first["rows"]) == ("left", 0)
    assert first["reason"] == "changed after it was listed; the next run takes it"
    assert second == outcome(1, lines=2, rows=1)


def test_retry_replaces_what_an_earlier_attempt_left(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD, BAD))
    first_result = extract(pipeline)
    first = pipeline.intermediate()
    pipeline.put(pipeline.config.intermediate_bucket, f"runs/{RUN_KEY}/combined/part-00000.json", [])

    assert extract(pipeline) == first_result
    assert pipeline.intermediate() == first


def test_lost_connection_fails_the_task_and_rejects_no_file(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LostConnection:
        closed = False

        def read(self, size: int) -> bytes:
            raise ConnectionResetError("by peer")

        def close(self) -> None:
            self.closed = True

    body = LostConnection()
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD))
    (part,) = list_stream_files(RUN_ID, pipeline.config)
    listed = pipeline.intermediate()
    monkeypatch.setattr(module, "open_version", lambda *_: body)

    with pytest.raises(ConnectionResetError, match="by peer"):
        extract_and_combine_streams(part, pipeline.config)

    assert pipeline.intermediate() == listed
    assert body.closed


def test_part_of_a_complete_run_changes_nothing(pipeline: Pipeline) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), {"status": "complete"})

    part = extract_and_combine_streams(Part(run_key=RUN_KEY, part=0), pipeline.config)

    assert part == {"run_key": RUN_KEY, "part": 0, "files": 0, "rows": 0}
    assert pipeline.intermediate() == {}


def test_part_whose_files_are_not_listed_says_what_to_clear(pipeline: Pipeline) -> None:
    with pytest.raises(ReconciliationError, match=r"listed/part-00000.* does not exist; clear list_stream_"):
        extract_and_combine_streams(Part(run_key=RUN_KEY, part=0), pipeline.config)


def test_combined_rows_are_of_the_types_that_the_next_task_reads() -> None:
    assert COMBINED_SCHEMA.field("row").type == pa.int64()
    assert all(COMBINED_SCHEMA.field(column).type == pa.string() for column in STREAM_COLUMNS)
