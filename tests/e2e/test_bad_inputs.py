"""Every kind of bad input in one run: each is processed, or quarantined with its reason, and never lost."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e import data
from tests.e2e.conftest import MakeRunner
from tests.e2e.data import FIRST_DAY, SECOND_DAY
from tests.e2e.deployment import Deployment
from tests.e2e.observed import read_objects, scan_items
from tests.e2e.oracle import assert_consistent


@dataclass(frozen=True)
class Expected:
    """A delivered file and its expected outcome.

    Attributes:
        rejected: rows by reason, of a file that is archived.
        quarantined: a part of the reason, for a file that is rejected as a whole.
        records: rows of such a file, if it could be read to its end.
        scenario: the number of the scenario that it is an instance of.
    """

    content: bytes
    valid: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    quarantined: str | None = None
    records: int = 0
    extra_columns: tuple[str, ...] = ()
    scenario: int = 0


def _file(count: int, *bad_rows: tuple[str, ...], seed: int = 0) -> bytes:
    return data.stream_file([*data.listens(seed, count, (FIRST_DAY, SECOND_DAY)), *bad_rows])


def _with_extra_columns(*, newline: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=newline)
    writer.writerow(("comment", "listen_time", " user_id ", "device", "track_id"))
    for user_id, track_id, listen_time in data.listens(11, 40):
        writer.writerow(('She said ""no"",\nthen left', listen_time, user_id, "phone", f" {track_id} "))
    return text.getvalue().encode()


def _with_quotes(count: int, ids: dict[int, str]) -> bytes:
    """Return a file of that many records; those with the given numbers have the given ids, as written."""
    lines = _file(count, seed=18).decode().splitlines()
    for number, text in ids.items():
        lines[number] = f"{text},{FIRST_DAY} 10:00:00"
    return "\n".join([*lines, ""]).encode()


GOOD = _file(60, seed=1)
MIDNIGHT = data.stream_file(
    [
        ("u1", "acoustic-1", "2024-06-25 23:59:59.999999"),
        ("u1", "acoustic-1", "2024-06-26T00:00:00Z"),
        ("u1", "acoustic-1", "2024-06-26T01:30:00+02:00"),
        ("u1", "acoustic-1", "2024-06-25T23:30:00-01:00"),
        ("u1", "acoustic-1", "2024-06-26 05:29:59.5+0530"),
        ("NA", "null", "2024-06-26 00:10:00"),
        ("None", "nan", "2024-06-26 12:00:00"),
    ]
)

FILES: dict[str, Expected] = {
    "good.csv": Expected(GOOD, valid=60),
    "truncated.csv": Expected(
        _file(50, seed=2)[:-25], valid=49, rejected={"wrong number of fields": 1}, scenario=9
    ),
    "cut in the time.csv": Expected(
        _file(50, seed=3)[:-5], valid=49, rejected={"invalid listen_time": 1}, scenario=9
    ),
    "zero bytes.csv": Expected(b"", quarantined="the file is empty", scenario=10),
    "header only.csv": Expected(data.stream_file([]), scenario=10),
    "header without newline.csv": Expected(b"user_id,track_id,listen_time", scenario=10),
    "blank lines.csv": Expected(_file(20, seed=4).replace(b"\n", b"\n\n"), valid=20),
    "ünïcode 日本語.csv": Expected(_file(10, seed=5), valid=10, scenario=12),
    "plus+percent%20star*[x]&='!.csv": Expected(_file(10, seed=6), valid=10, scenario=12),
    "folder/of the sender/good.csv": Expected(_file(10, seed=7), valid=10, scenario=12),
    "missing column.csv": Expected(
        data.csv_bytes([("user_id", "listen_time"), ("u1", f"{FIRST_DAY} 10:00:00")]),
        quarantined="missing column track_id; the header has: user_id, listen_time",
        scenario=15,
    ),
    "renamed column.csv": Expected(
        data.csv_bytes([("user_id", "track_id", "played_at"), ("u1", "quoted", f"{FIRST_DAY} 10:00:00")]),
        quarantined="missing column listen_time",
        scenario=15,
    ),
    "doubled column.csv": Expected(
        data.csv_bytes([(*data.STREAM_HEADER, "user_id"), ("u1", "quoted", f"{FIRST_DAY} 10:00:00", "u2")]),
        quarantined="column user_id stands more than once",
        scenario=15,
    ),
    "extra and reordered columns.csv": Expected(
        _with_extra_columns(newline="\n"), valid=40, extra_columns=("comment", "device"), scenario=16
    ),
    "byte order mark, CRLF, quoted newlines.csv": Expected(
        b"\xef\xbb\xbf" + _with_extra_columns(newline="\r\n"),
        valid=40,
        extra_columns=("comment", "device"),
        scenario=18,
    ),
    "bad rows.csv": Expected(
        _file(
            120,
            ("u1", "quoted", "yesterday"),
            ("u1", "quoted", "2024-02-30 10:15:00"),
            ("u1", "quoted", "2024-06-25 25:61:07"),
            ("  ", "quoted", f"{FIRST_DAY} 10:00:00"),
            ("u1", "", f"{FIRST_DAY} 10:00:00"),
            ("u1", "quoted", f"{FIRST_DAY} 10:00:00", "one too many"),
            seed=8,
        ),
        valid=120,
        rejected={
            "invalid listen_time": 3,
            "empty user_id": 1,
            "empty track_id": 1,
            "wrong number of fields": 1,
        },
        scenario=17,
    ),
    "too many bad rows.csv": Expected(
        _file(18, ("u1", "quoted", "never"), ("u1", "quoted", ""), seed=9),
        quarantined="2 of 20 rows are bad: ",
        records=20,
        scenario=19,
    ),
    "NUL.csv": Expected(
        _file(30, ("u\0", "quoted", f"{FIRST_DAY} 10:00:00"), seed=10),
        valid=30,
        rejected={"NUL character": 1},
        scenario=18,
    ),
    "latin-1.csv": Expected(
        _file(30, ("J\u00fcrgen", "quoted", f"{FIRST_DAY} 10:00:00")).decode().encode("latin-1"),
        quarantined="the file is not UTF-8: byte 0xfc",
        scenario=18,
    ),
    "semicolons.csv": Expected(
        GOOD.replace(b",", b";"), quarantined="the file looks semicolon-separated", scenario=18
    ),
    "unclosed quote.csv": Expected(
        _file(30, ("u1", "quoted", f"{FIRST_DAY} 10:00:00"), seed=12).replace(b"\n", b'\n"', 1),
        valid=30,
        rejected={"quote that is not closed": 1},
        scenario=46,
    ),
    "stray quotes.csv": Expected(
        _with_quotes(80, {20: 'u1,"quoted', 40: 'u1,quo"ted', 60: '"u1"s,quoted'}),
        valid=77,
        rejected={
            "quote that is not closed": 1,
            "quote inside an unquoted field": 1,
            "text after a closing quote": 1,
        },
        scenario=47,
    ),
    "ids glued by two stray quotes.csv": Expected(
        _with_quotes(80, {20: 'u1,"quoted', 40: 'u1,quoted"'}),
        valid=78,
        rejected={"line break in track_id": 1, "quote inside an unquoted field": 1},
        scenario=47,
    ),
    "one value or many records.csv": Expected(
        _with_quotes(40, {})
        .replace(b"\n", b",web\n")
        .replace(b",web", b",comment", 1)
        # The tenth record's comment begins with a quote, and the twentieth's ends with one.
        .replace(b",web\n", b"\0", 9)
        .replace(b",web\n", b',"web\n', 1)
        .replace(b",web\n", b"\1", 9)
        .replace(b",web\n", b',web"\n', 1)
        .replace(b"\0", b",web\n")
        .replace(b"\1", b",web\n"),
        quarantined="line 11: the quote before",
        scenario=48,
    ),
    "quotes escaped by a backslash.csv": Expected(
        _with_quotes(40, {20: '"say \\"hi\\"",quoted'}),
        valid=39,
        rejected={"quote escaped by a backslash (CSV doubles it)": 1},
        scenario=49,
    ),
    "several byte order marks.csv": Expected(b"\xef\xbb\xbf" * 3 + _file(10, seed=17), valid=10, scenario=50),
    "midnight and offsets.csv": Expected(MIDNIGHT, valid=7, scenario=21),
    "good.csv.gz": Expected(gzip.compress(_file(40, seed=13)), valid=40, scenario=22),
    "gzip by another name.csv": Expected(gzip.compress(_file(40, seed=14)), valid=40, scenario=22),
    "truncated.csv.gz": Expected(
        gzip.compress(_file(40, seed=15))[:-30],
        quarantined="the gzip data is truncated or damaged",
        scenario=22,
    ),
    "bomb of one record.csv.gz": Expected(
        gzip.compress(b"user_id,track_id,listen_time\n" + b"a" * 64_000_000, 1),
        quarantined="line 2 is longer than 4,194,304 bytes",
        scenario=22,
    ),
    "not gzip.csv.gz": Expected(_file(10, seed=16), valid=10),
}
# The last two are the markers that consoles create for folders.
IGNORED = {"read me.txt": b"not a CSV file", "good.csv.bak": GOOD, "": b"", "folder/": b""}


@dataclass(frozen=True)
class BadBatch:
    deployment: Deployment
    report: dict[str, Any]

    def file(self, name: str) -> dict[str, Any]:
        return next(file for file in self.report["files"] if file["key"] == f"streams/{name}")


@pytest.fixture(scope="module")
def bad_batch(make_deployment: Callable[[], Deployment], make_runner: MakeRunner) -> BadBatch:
    deployment = make_deployment()
    deployment.upload_all(data.catalogs())
    for name, expected in FILES.items():
        deployment.upload(f"streams/{name}", expected.content)
    for name, content in IGNORED.items():
        deployment.upload(f"streams/{name}", content)
    return BadBatch(deployment, make_runner(deployment).run())


def test_no_row_and_no_file_of_a_bad_batch_is_lost_or_counted_twice(bad_batch: BadBatch) -> None:
    assert_consistent(bad_batch.deployment.resources, bad_batch.deployment.delivered)
    assert {file["key"] for file in bad_batch.report["files"]} == {f"streams/{name}" for name in FILES}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.scenarios(file.scenario)] if file.scenario else [])
        for name, file in FILES.items()
    ],
)
def test_bad_input_is_processed_or_quarantined_with_its_reason(bad_batch: BadBatch, name: str) -> None:
    expected, file = FILES[name], bad_batch.file(name)

    if expected.quarantined:
        assert file["disposition"] == "quarantine"
        assert expected.quarantined in file["reason"]
        assert (file["rows"], file["valid"], file["rejected"]) == (expected.records, 0, expected.records)
        return
    assert (file["disposition"], file["reason"]) == ("archive", None)
    assert (file["valid"], file["rejected_by_reason"]) == (expected.valid, expected.rejected)
    assert file["rows"] == expected.valid + sum(expected.rejected.values())
    assert tuple(file["extra_columns"]) == expected.extra_columns


@pytest.mark.scenarios(10)
def test_other_objects_stay_in_the_source_and_are_recorded(bad_batch: BadBatch) -> None:
    resources = bad_batch.deployment.resources
    left = read_objects(resources, resources.source_bucket, "streams/")

    assert left == {f"streams/{name}": content for name, content in IGNORED.items()}
    assert sorted(bad_batch.report["ignored_keys"]) == sorted(left)


@pytest.mark.scenarios(17)
def test_rejected_row_is_kept_with_its_file_row_number_reason_and_raw_values(bad_batch: BadBatch) -> None:
    resources, run_key = bad_batch.deployment.resources, bad_batch.report["run_key"]
    kept = read_objects(resources, resources.archive_bucket, f"quarantine/{run_key}/rejected_rows/part-")
    rows = [row for content in kept.values() for row in csv.DictReader(io.StringIO(content.decode()))]
    of_bad_rows = [row for row in rows if row["source_file"] == "streams/bad rows.csv"]

    assert [(row["row"], row["reason"]) for row in sorted(of_bad_rows, key=lambda row: int(row["row"]))] == [
        ("121", "invalid listen_time"),
        ("122", "invalid listen_time"),
        ("123", "invalid listen_time"),
        ("124", "empty user_id"),
        ("125", "empty track_id"),
        ("126", "wrong number of fields"),
    ]
    by_row = {row["row"]: row for row in of_bad_rows}
    assert by_row["122"]["listen_time"] == "2024-02-30 10:15:00"
    assert by_row["126"]["malformed_record"] == f"u1,quoted,{FIRST_DAY} 10:00:00,one too many"


def test_quarantined_file_has_a_json_with_its_reason_and_a_sample_of_its_bad_rows(
    bad_batch: BadBatch,
) -> None:
    resources = bad_batch.deployment.resources
    file = bad_batch.file("too many bad rows.csv")
    key = f"{file['destination']}.reason.json"
    reason = json.loads(resources.s3.get_object(Bucket=resources.archive_bucket, Key=key)["Body"].read())

    assert reason["key"] == "streams/too many bad rows.csv"
    assert reason["reason"] == file["reason"]
    assert [row["reason"] for row in reason["sample_of_rejected_rows"]] == ["invalid listen_time"] * 2


@pytest.mark.scenarios(20, 21)
def test_listen_counts_on_the_utc_day_of_its_instant(deployment: Deployment, make_runner: MakeRunner) -> None:
    deployment.upload_all({**data.catalogs(), "streams/midnight.csv": MIDNIGHT})

    make_runner(deployment).run()

    items = scan_items(deployment.resources)
    counts = {day: item["listen_count"] for (day, genre), item in items.items() if genre == "ALL_GENRES"}
    assert counts == {"2024-06-25": 3, "2024-06-26": 4}
    assert items["2024-06-26", "Unknown"]["listen_count"] == 2
    assert items["2024-06-26", "ALL_GENRES"]["unmatched_user_listens"] == 2
    assert "genre_rank" not in items["2024-06-26", "Unknown"]
