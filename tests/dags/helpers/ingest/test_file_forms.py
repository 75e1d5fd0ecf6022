from __future__ import annotations

import bz2
import io
import json
import lzma
import zipfile

import pyarrow as pa
import pytest
from pyarrow import parquet

from helpers.ingest.file_forms import other_format


def _parquet() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"user_id": ["1"]}), file)
    return file.getvalue()


def _zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "form"),
    [
        pytest.param(_zipped(), "a ZIP archive or an Excel workbook: unzip it, or save its sheet", id="zip"),
        pytest.param(_parquet(), "Parquet: export it as CSV", id="parquet"),
        pytest.param(bz2.compress(b"user_id"), "a compressed file, but not gzip: compress it", id="bzip2"),
        pytest.param(lzma.compress(b"user_id"), "a compressed file, but not gzip: compress it", id="xz"),
        pytest.param(
            pa.compress(b"user_id", codec="zstd", asbytes=True),
            "a compressed file, but not gzip: compress it",
            id="zstd",
        ),
        pytest.param("user_id".encode("utf-16"), "UTF-16 text: save it as UTF-8", id="utf-16"),
        pytest.param(json.dumps({"user_id": 1}).encode(), "JSON: export it as CSV", id="json line"),
        pytest.param(json.dumps([{"user_id": 1}], indent=2).encode(), "JSON: export", id="json array"),
        pytest.param(b"<!DOCTYPE html><html>", "XML or HTML: export it as CSV", id="error page"),
    ],
)
def test_other_format_is_named_with_what_its_sender_has_to_do(data: bytes, form: str) -> None:
    named = other_format(data)

    assert named is not None
    assert named.startswith(f"the file looks like {form}")


@pytest.mark.parametrize("header", [b"", b"user_id,track_id", b'"user_id"', b"[user_id]", b"{x}"])
def test_header_of_csv_is_no_other_format(header: bytes) -> None:
    assert other_format(header) is None
