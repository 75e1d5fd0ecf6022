"""Removes users from one object, and leaves the rest as it was."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from include.forget import content
from include.forget.content import (
    FORGOTTEN,
    Listen,
    UnsearchableError,
    UserIds,
    listens_of,
    remove_from_csv,
    remove_from_json,
    remove_from_parquet,
    require_text,
)
from local_aws_support import REPOSITORY

HEADER = "user_id,track_id,listen_time\n"
OF_OTHER = "u12,t1,2024-06-25 10:00:00\n"
OF_USER = "u1,t1,2024-06-25 10:00:00\n"


def csv_without(text: str | bytes, *ids: str) -> tuple[bytes, int]:
    source = io.BytesIO(text.encode() if isinstance(text, str) else text)
    target = io.BytesIO()
    removed = remove_from_csv(source, target, UserIds(ids or ["u1"]))
    return target.getvalue(), removed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(HEADER + OF_USER + OF_OTHER, HEADER + OF_OTHER, id="a line"),
        pytest.param(
            HEADER + OF_OTHER + OF_USER.strip(), HEADER + OF_OTHER, id="the last, without line break"
        ),
        pytest.param(
            HEADER + OF_USER + OF_OTHER.strip(), HEADER + OF_OTHER.strip(), id="before such a last one"
        ),
        pytest.param(
            "\ufeff\n" + HEADER + " u1\t,t,x\n", "\ufeff\n" + HEADER, id="white space, mark, blank line"
        ),
        pytest.param(
            'track_id,user_id\r\nt,"u1"\r\nt,u2\r\n', "track_id,user_id\r\nt,u2\r\n", id="quoted, CRLF"
        ),
        pytest.param("user_id,x\ru1,1\ru2,2\r", "user_id,x\ru2,2\r", id="carriage returns"),
        pytest.param(
            'user_id,x\nu1,"a\nb"\nu2,"c\nd"\n', 'user_id,x\nu2,"c\nd"\n', id="a value of several lines"
        ),
        pytest.param(
            "user_id,x\nu2,u1\nu2,of u1\n", "user_id,x\nu2,u1\nu2,of u1\n", id="another's line stays"
        ),
        pytest.param(HEADER + "u1;t1;x\nu2;t1;x\nu11,x\n", HEADER + "u2;t1;x\nu11,x\n", id="other delimiter"),
        pytest.param(HEADER + 'u1,"t,x\n' + OF_OTHER, HEADER + OF_OTHER, id="a quote that is not closed"),
        pytest.param(HEADER + 'u1,t"t,x\nu2,t"t,x\n', HEADER + 'u2,t"t,x\n', id="a stray quote"),
        pytest.param(HEADER + "u1\0,t,x\n" + OF_OTHER, HEADER + OF_OTHER, id="NUL"),
        pytest.param(HEADER + 'u2,"t\nu1,t,x\nu3,t",x\n', HEADER + 'u2,"t\nu3,t",x\n', id="a break in an id"),
        pytest.param("user,track\nu1,t\nu2,t\n", "user,track\nu2,t\n", id="no column user_id"),
        pytest.param("u1,t,x\nu2,t,x\n", "u2,t,x\n", id="no header"),
        pytest.param('{"user_id": "u1"}\n{"user_id": "u2"}\n', '{"user_id": "u2"}\n', id="lines of JSON"),
        pytest.param(
            "user_id,malformed_record\n,u1;t1\n,u2;t1\n", "user_id,malformed_record\n,u2;t1\n", id="rejected"
        ),
        pytest.param('user_id,x\nu2,"a\nu1,b\nc"\n', "user_id,x\n", id="swallowed by a quote"),
        pytest.param("", "", id="empty"),
        pytest.param(HEADER, HEADER, id="only a header"),
    ],
)
def test_csv_loses_the_lines_of_the_user_only(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = csv_without(text)

    assert whole[0].decode() == expected
    assert (whole[1] > 0) == (text != expected)
    for size in (1, 2, 7):
        monkeypatch.setattr(content, "_BLOCK_BYTES", size)
        assert csv_without(text) == whole


def test_line_in_another_encoding_is_searched_too() -> None:
    text = HEADER.encode() + "Zoë,t,x\nu1,Ä,x\nu2,Ä,x\n".encode("latin-1")

    assert csv_without(text)[0] == HEADER.encode() + "Zoë,t,x\nu2,Ä,x\n".encode("latin-1")


@pytest.mark.parametrize(("start", "named"), [(b"PK\x03\x04\x00", "ZIP"), (b"\xff\xfeu\x001\x00", "UTF-16")])
def test_file_without_lines_is_named_as_not_searched(start: bytes, named: str) -> None:
    with pytest.raises(UnsearchableError, match=named):
        require_text(start)


@pytest.mark.parametrize(
    ("user_id", "form"),
    [("u1", b"..u1.."), ('a"b', b'..a""b..'), ('a"b', b'..a\\"b..'), ("Zoë", "..Zoë..".encode("latin-1"))],
)
def test_file_without_the_user_need_not_be_parsed(
    user_id: str, form: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = UserIds([user_id])
    for size in (1, 3, 1024):
        monkeypatch.setattr(content, "_BLOCK_BYTES", size)
        assert users.may_be_in(io.BytesIO(form))
        assert not users.may_be_in(
            io.BytesIO(form.replace(b"u", b"v").replace(b"a", b"c").replace(b"Z", b"Y"))
        )


def test_json_loses_samples_values_and_quotations() -> None:
    rows = [{"user_id": "u1 ", "line": 3}, {"user_id": None, "malformed_record": "a;u1"}, {"user_id": "u2"}]
    example = {"line": 12, "value": "u1;x", "looks_like": None, "remedy": "give u1"}
    why = "12 of 1,712 rows are bad: wrong number of fields in 12 rows, such as '{};12;x' in line 12"
    before = {
        "key": "streams/u1.csv",
        "reason": why.format("u1"),
        "sample_of_rejected_rows": rows,
        "rejected_examples": {"wrong": example},
        "checks": [{"name": "user_ids", "value": 3, "message": "500 sampled: 'u1' as 'U1'"}],
    }
    after, removed = remove_from_json(json.dumps(before).encode(), UserIds(["u1"]))

    expected: dict[str, Any] = before | {
        "reason": why.format(FORGOTTEN),
        "sample_of_rejected_rows": rows[2:],
        "rejected_examples": {"wrong": example | {"value": None}},
        "checks": [{"name": "user_ids", "value": 3, "message": f"500 sampled: '{FORGOTTEN}' as 'U1'"}],
    }
    assert json.loads(after) == expected
    assert removed == 5


def test_number_that_is_an_id_stays_where_it_counts_thousands() -> None:
    sentence = {"message": "12,345 of 12.5 rows, such as '12,x' in line 3"}

    assert json.loads(remove_from_json(json.dumps(sentence).encode(), UserIds(["12"]))[0]) == {
        "message": f"12,345 of 12.5 rows, such as '{FORGOTTEN},x' in line 3"
    }


def test_parquet_keeps_schema_and_compression_and_may_become_empty(tmp_path: Path) -> None:
    source, target = tmp_path / "a.parquet", tmp_path / "b.parquet"
    time = pa.timestamp("us", "UTC")
    schema = pa.schema([("user_id", pa.string()), ("track_id", pa.string()), ("listen_time", time)])
    rows = [{"user_id": f"u{n}", "track_id": "t", "listen_time": 4 + n} for n in (1, 2)]
    pq.write_table(pa.Table.from_pylist(rows, schema), source, compression="zstd", store_schema=False)

    assert remove_from_parquet(source, target, UserIds(["u3"])).num_rows == 0
    assert not target.exists()
    assert listens_of(remove_from_parquet(source, target, UserIds(["u1"]))) == [Listen("u1", "t", 5)]

    assert pq.read_table(target).equals(pq.read_table(source).slice(1))
    assert pq.ParquetFile(target).metadata.row_group(0).column(0).compression == "ZSTD"
    assert pq.ParquetFile(target).schema.equals(pq.ParquetFile(source).schema)
    remove_from_parquet(target, source, UserIds(["u2"]))
    assert pq.read_table(source).num_rows == 0


@pytest.mark.parametrize("body", [b"not Parquet", b""])
def test_object_that_is_not_parquet_is_named(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(body)

    with pytest.raises(UnsearchableError, match="not Parquet"):
        remove_from_parquet(path, tmp_path / "b", UserIds(["u1"]))


def test_forgetting_needs_no_airflow() -> None:
    """Airflow reads its settings when it is imported; `make forget` sets them later, for reprocessing."""
    code = "import include.forget.__main__, sys; print('airflow' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'dags'}"}

    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert process.stdout == "False\n"
