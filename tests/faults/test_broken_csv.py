"""Randomly broken CSV: each line is counted, rejected or in quarantine, and no untouched line is lost.

The judge knows the written text and the broken lines. It counts lines with `bytes.splitlines` and has no CSV
parser.
"""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from helpers.contract.records import LineCounts
from helpers.extract_and_combine_streams import COMBINED_SCHEMA, combine_file
from helpers.ingest.parquet_sink import ParquetSink
from helpers.ingest.row_rules import VALID_SCHEMA
from helpers.validate_csv_files import REJECTED_SCHEMA, split_records

HEADERS = {3: "user_id,track_id,listen_time", 4: "user_id,track_id,listen_time,comment"}
LATEST = datetime(2024, 6, 26, tzinfo=UTC)
COMMENTS = [
    "web",
    "",
    '""',
    '"a, b"',
    '"say ""hi"""',
    '"two\nlines"',
    '"In prose, a comma\nis followed, as here,\nby a blank"',
    "C:\\dir",
]
# Text that is inserted into a line, or replaces a character of it.
SPLINTERS = ['"', '""', '\\"', ",", ",,", "\0", "\ufeff", "\r", "\n", "\\", "'", '",', ',"', ";", "\t"]


Row = tuple[str, str, str]


class Break(NamedTuple):
    """A change of the record with this index, at a place from 0 to 1 of its text."""

    record: int
    place: float
    splinter: str
    replaces: bool


@dataclass(frozen=True)
class Written:
    """A broken file, the rows of its untouched records, and the lines of those records."""

    data: bytes
    untouched: set[Row] = field(default_factory=set)


class Account(NamedTuple):
    """The ingest's result for a file; `quarantined` is the reason if it was rejected as a whole."""

    valid: set[Row]
    first_lines: list[int]
    lines: LineCounts | None
    quarantined: str | None


def write(
    width: int, comments: list[int], newline: str, breaks: list[Break], cut: int, latin_1: bool, zipped: bool
) -> Written:
    rows = [
        (f"user{n}", f"track{n}", f"2024-06-25 10:{n // 60:02}:{n % 60:02}", COMMENTS[comment])[:width]
        for n, comment in enumerate(comments)
    ]
    texts = [",".join(row) for row in rows]
    broken = set()
    for record, place, splinter, replaces in breaks:
        index = record % len(texts)
        at = round(place * len(texts[index]))
        texts[index] = texts[index][:at] + splinter + texts[index][at + replaces :]
        broken.add(index)
    text = newline.join([HEADERS[width], *texts, ""])
    data = text.encode()
    if cut:
        data = data[:-cut]
        # A record is cut if its text or its line break is incomplete.
        ends, end = [], len(HEADERS[width]) + len(newline)
        for line in texts:
            end += len(line.encode()) + len(newline)
            ends.append(end)
        broken |= {index for index, end in enumerate(ends) if end > len(data)}
    if latin_1:
        data = data.replace(b"track1,", b"tr\xe4ck1,")
        broken.add(1)
    untouched = {row[:3] for index, row in enumerate(rows) if index not in broken}
    return Written(gzip.compress(data) if zipped else data, untouched)


def ingest(data: bytes) -> Account:
    """Process a file like the tasks `extract_and_combine_streams` and `validate_csv_files`."""
    with (
        ParquetSink(COMBINED_SCHEMA) as combined,
        ParquetSink(VALID_SCHEMA) as valid,
        ParquetSink(REJECTED_SCHEMA) as rejected,
    ):
        outcome = combine_file(io.BytesIO(data), 0, combined)
        if outcome["reason"]:
            return Account(set(), [], None, outcome["reason"])
        combined.close()
        records = pq.read_table(combined.path).to_pylist()
        (outcome,) = split_records(combined.path, [outcome], 1, LATEST, valid, rejected)
        valid.close()
        rows = pq.read_table(valid.path).to_pylist()
        assert outcome["valid"] + outcome["rejected"] == len(records)
    return Account(
        {(row["user_id"], row["track_id"], f"{row['listen_time']:%Y-%m-%d %H:%M:%S}") for row in rows},
        sorted(record["row"] + record["line_offset"] for record in records),
        outcome["lines"],
        None,
    )


def assert_nothing_vanished(written: Written) -> None:
    account = ingest(written.data)
    if account.quarantined:
        return
    assert account.lines
    assert written.untouched <= account.valid
    data = gzip.decompress(written.data) if written.data.startswith(b"\x1f\x8b") else written.data
    lines = data.splitlines()
    blank = lines.count(b"")
    # Blank lines inside a quoted value continue its record.
    assert account.lines["total"] == len(lines)
    assert account.lines["blank"] <= blank
    continuation = len(lines) - account.lines["blank"] - account.lines["header"] - len(account.first_lines)
    assert account.lines["continuation"] == continuation
    assert len(set(account.first_lines)) == len(account.first_lines)
    # A line that is neither blank nor the start of a record must not contain an untouched record.
    starts = set(account.first_lines)
    untouched_users = {user_id for user_id, *_ in written.untouched}
    for number, line in enumerate(lines[1:], 2):
        user_id = line.decode().split(",")[0]
        assert number in starts or user_id not in untouched_users, f"line {number} was swallowed"


breaks = st.builds(
    Break,
    record=st.integers(0, 30),
    place=st.floats(0, 1),
    splinter=st.sampled_from(SPLINTERS),
    replaces=st.booleans(),
)
files = st.builds(
    write,
    width=st.sampled_from([3, 4, 4]),
    comments=st.lists(st.integers(0, len(COMMENTS) - 1), min_size=2, max_size=30),
    newline=st.sampled_from(["\n", "\n", "\r\n", "\r"]),
    breaks=st.lists(breaks, max_size=4),
    cut=st.sampled_from([0, 0, 0, 1, 5, 40]),
    latin_1=st.sampled_from([False] * 9 + [True]),
    zipped=st.sampled_from([False] * 4 + [True]),
)


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(files)
def test_no_line_of_a_broken_file_vanishes(written: Written) -> None:
    assert_nothing_vanished(written)


@pytest.mark.scenarios(51)
@settings(max_examples=5000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(files)
@example(write(4, [0] * 9, "\n", [Break(2, 1, '"', False), Break(6, 0, '"', False)], 0, False, False))
def test_no_line_of_a_broken_file_vanishes_in_thousands_of_files(written: Written) -> None:
    assert_nothing_vanished(written)


def test_untouched_file_is_read_completely() -> None:
    written = write(4, list(range(len(COMMENTS))) * 3, "\n", [], 0, False, False)

    account = ingest(written.data)

    assert account.quarantined is None
    assert account.valid == written.untouched


@pytest.mark.parametrize("splinter", ['"', '",', '\\"', ',"'])
def test_one_stray_quote_costs_one_record_and_not_the_file(splinter: str) -> None:
    for place in (0.0, 0.3, 0.5, 1.0):
        written = write(4, [0] * 20, "\n", [Break(9, place, splinter, False)], 0, False, False)

        account = ingest(written.data)

        assert account.quarantined is None
        assert written.untouched <= account.valid
