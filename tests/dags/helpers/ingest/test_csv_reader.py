import gzip
import io
import os
import random
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from botocore.exceptions import IncompleteReadError, ReadTimeoutError

from helpers.contract.names import SONG_COLUMNS, STREAM_COLUMNS
from helpers.errors import FileRejectedError
from helpers.ingest import csv_quoting, csv_reader
from helpers.ingest.csv_reader import CsvReader, MalformedRecord

HEADER = b"user_id,track_id,listen_time\n"
Row = tuple[int, str, str, str]


def read_file(data: bytes) -> tuple[list[Row], list[MalformedRecord]]:
    rows: list[Row] = []
    malformed: list[MalformedRecord] = []
    for batch in CsvReader(io.BytesIO(data), STREAM_COLUMNS):
        records = batch.records.to_pydict()
        rows += zip(batch.rows.tolist(), *(records[column] for column in STREAM_COLUMNS), strict=True)
        malformed += batch.malformed
    return rows, malformed


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 1 KiB, so a small file has many."""
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 1024)
    monkeypatch.setattr(csv_reader, "MAX_RECORD_BYTES", 4096)
    monkeypatch.setattr(csv_quoting, "MAX_RECORD_BYTES", 4096)
    monkeypatch.setattr(csv_reader, "HEADER_BYTES", 256)


class FailingStream:
    """Returns the data in pieces like a connection, then raises the error."""

    def __init__(self, data: bytes, error: Exception) -> None:
        self._data = io.BytesIO(data)
        self._error = error

    def read(self, size: int, /) -> bytes:
        data = self._data.read(min(size, 700))
        if not data:
            raise self._error
        return data


TWO_ROWS: list[Row] = [(1, "1", "a", "x"), (2, "2", "b", "y")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(HEADER + b"1,a,x\n2,b,y\n", id="LF"),
        pytest.param(HEADER + b"1,a,x\n2,b,y", id="no newline at the end"),
        pytest.param(b"\xef\xbb\xbf" + HEADER + b"1,a,x\n2,b,y\n", id="byte order mark"),
        pytest.param(HEADER.replace(b"\n", b"\r\n") + b"1,a,x\r\n2,b,y\r\n", id="CRLF"),
        pytest.param(HEADER.replace(b"\n", b"\r") + b"1,a,x\r2,b,y\r", id="CR"),
        pytest.param(b"\xef\xbb\xbf" * 3 + HEADER + b"1,a,x\n2,b,y\n", id="several byte order marks"),
        pytest.param(b"\n\r\n" + HEADER + b"\n\n1,a,x\n\n2,b,y\n\n\n", id="blank lines"),
        pytest.param(b"track_id,listen_time,user_id\na,x,1\nb,y,2\n", id="other order"),
        pytest.param(b" user_id,track_id ,listen_time\n1,a,x\n2,b,y\n", id="blanks around names"),
        pytest.param(b'"user_id","track_id","listen_time"\n"1","a","x"\n"2","b","y"\n', id="all quoted"),
        pytest.param(b'user_id,"a\nb",track_id,listen_time\n1,,a,x\n2,,b,y\n', id="newline in a name"),
        pytest.param(b"user_id,e,track_id,e,listen_time\n1,-,a,-,x\n2,-,b,-,y\n", id="extra names alike"),
    ],
)
def test_every_form_of_a_file_gives_the_same_rows(data: bytes) -> None:
    assert read_file(data) == (TWO_ROWS, [])
    assert read_file(gzip.compress(data)) == (TWO_ROWS, [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param('"a,b"', "a,b", id="comma"),
        pytest.param('"a\nb"', "a\nb", id="newline"),
        pytest.param('"a\r\nb"', "a\r\nb", id="CRLF"),
        pytest.param('"say ""a"""', 'say "a"', id="doubled quotes"),
        pytest.param('""', "", id="quoted nothing"),
        pytest.param("", "", id="nothing"),
        pytest.param(" a ", " a ", id="blanks"),
        pytest.param("NA", "NA", id="NA"),
        pytest.param("null", "null", id="null"),
        pytest.param("007", "007", id="zeros in front"),
        pytest.param("1e5", "1e5", id="like a number"),
        pytest.param("a\0b", "a\0b", id="NUL"),
        pytest.param("Ærø 東京 🎵", "Ærø 東京 🎵", id="other scripts"),
    ],
)
def test_field_is_kept_as_the_string_that_it_is(field: str, value: str) -> None:
    rows, malformed = read_file(HEADER + f"1,{field},x\n2,b,y\n".encode())

    assert rows == [(1, "1", value, "x"), (2, "2", "b", "y")]
    assert malformed == []


def test_extra_columns_are_named_in_file_order() -> None:
    data = b"region,user_id,track_id,app,listen_time\nEU,1,a,ios,x\n"

    assert CsvReader(io.BytesIO(data), STREAM_COLUMNS).extra_columns == ["region", "app"]


@pytest.mark.parametrize("data", [HEADER, HEADER.strip(), HEADER + b"\r\n\n"], ids=repr)
def test_header_alone_is_a_file_without_rows(data: bytes) -> None:
    assert read_file(data) == ([], [])
    assert read_file(gzip.compress(data)) == ([], [])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "empty: it has not even a header", id="zero bytes"),
        pytest.param(gzip.compress(b""), "empty: it has not even a header", id="nothing zipped"),
        pytest.param(b"\xef\xbb\xbf\n", "empty: it has not even a header", id="only a byte order mark"),
        pytest.param(
            b"user_id,track,listen_time\n1,a,x\n",
            "^missing column track_id; the header has: user_id, track, listen_time$",
            id="column renamed",
        ),
        pytest.param(
            b"USER_ID,listen_time\n",
            "^missing column user_id, track_id; column 'USER_ID' differs from 'user_id' in case: ",
            id="two",
        ),
        pytest.param(
            b"1,a,2024-06-25 17:43:13\n",
            "; the first line looks like data: put the header user_id,",
            id="no header",
        ),
        pytest.param(
            b"user_id;track_id;listen_time\n1;a;x\n",
            "; the file looks semicolon-separated: ",
            id="semicolons",
        ),
        pytest.param(
            b"User ID,track_id,listen_time\n",
            "^missing column user_id; column 'User ID' differs from 'user_id' in case and spaces: rename it; "
            "the header has: User ID, track_id, listen_time$",
            id="name alike",
        ),
        pytest.param(
            b"\xe2\x80\x8buser_id,track_id,listen_time\n",
            r"column '\\u200buser_id' differs from 'user_id' in invisible characters: .* has: \\u200buser_id",
            id="invisible",
        ),
        pytest.param(b"userid,track-id,listen_time\n", "'track-id' differs .* in punctuation: ", id="marks"),
        pytest.param(
            b"user_id\ttrack_id\tlisten_time\n1\ta\tx\n", "; the file looks tab-separated: ", id="tabs"
        ),
        pytest.param(
            b"user_id,track_id,listen_time,track_id\n1,a,x,b\n",
            "^column track_id stands more than once in the header$",
            id="column twice",
        ),
        pytest.param(b'"user_id,track_id\n1,a,x\n', "the header cannot be read", id="open quote in header"),
        pytest.param(HEADER + b"1,a,x\n2,\xe9,y\n", "not UTF-8: byte 0xe9 near offset 37;", id="latin-1"),
        pytest.param(
            HEADER + b"1,a,x\n2\xe9\n", "not UTF-8: byte 0xe9 near offset 36;", id="in a bad record"
        ),
        pytest.param("user_id".encode("utf-16"), "looks like UTF-16 text: save it as UTF-8", id="UTF-16"),
        pytest.param(HEADER + b"1,a,\xc3", "not UTF-8: byte 0xc3 near offset 3", id="cut in a character"),
        pytest.param(b'{"user_id": 1}\n', "^the file looks like JSON: export it as CSV$", id="JSON lines"),
        pytest.param(gzip.compress(b"PK\x03\x04"), "^the file looks like a ZIP archive or ", id="ZIP zipped"),
        pytest.param(gzip.compress(HEADER)[:-9], "gzip data is truncated or damaged", id="gzip cut"),
        pytest.param(gzip.compress(HEADER)[:5], "gzip data is truncated or damaged", id="gzip cut early"),
        pytest.param(gzip.compress(HEADER) + b"x", "gzip data is truncated or damaged", id="gzip and more"),
        pytest.param(b"\x1f\x8b\x08" + b"?" * 50, "gzip data is truncated or damaged", id="no gzip at all"),
    ],
)
def test_unusable_file_is_rejected_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(FileRejectedError, match=message):
        read_file(data)


class Pieces:
    """Returns one piece per read, like a connection."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, _: int, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


CHARACTERS = "1,ä€😀,x\n2,plain,y\n".encode()


@pytest.mark.parametrize("cut", range(1, len(CHARACTERS)))
def test_character_may_begin_in_one_piece_and_end_in_another(
    cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "HEADER_BYTES", len(HEADER))

    reader = CsvReader(Pieces(HEADER, CHARACTERS[:cut], CHARACTERS[cut:]), STREAM_COLUMNS)

    tracks = [track for batch in reader for track in batch.records["track_id"].to_pylist()]
    assert tracks == ["ä€😀", "plain"]


@pytest.mark.parametrize("begun", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"], ids=repr)
@pytest.mark.parametrize("rest", [b"a,x\n2,b,y\n", b""], ids=["ASCII follows", "the end follows"])
def test_character_that_a_piece_begins_and_none_ends_rejects_the_file(
    begun: bytes, rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "HEADER_BYTES", len(HEADER))

    reader = CsvReader(Pieces(HEADER, b"1,a,x\n2," + begun, rest), STREAM_COLUMNS)

    with pytest.raises(FileRejectedError, match="not UTF-8: byte 0x"):
        list(reader)


# Overlong, a surrogate, beyond the last character, a continuation without a start.
@pytest.mark.parametrize("wrong", [b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80"], ids=repr)
@pytest.mark.parametrize("is_zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.usefixtures("small_blocks")
def test_no_record_of_wrong_utf8_comes_through(wrong: bytes, is_zipped: bool) -> None:
    data = HEADER + b"1,good,x\n" * 500 + b"2," + wrong + b",y\n" + b"3,good,z\n" * 500
    reader = CsvReader(io.BytesIO(gzip.compress(data) if is_zipped else data), STREAM_COLUMNS)
    tracks: set[str] = set()

    def read_all() -> None:
        for batch in reader:
            tracks.update(batch.records["track_id"].to_pylist())

    with pytest.raises(FileRejectedError, match=f"not UTF-8: byte 0x{wrong[0]:02x} near offset 45"):
        read_all()

    assert tracks <= {"good"}


def test_records_with_another_number_of_fields_are_reported_with_number_line_and_text() -> None:
    data = HEADER + b'1,a\n\n2,b,y\n3,c,z,"1,2"\n4,d,z\nno comma\n'

    rows, malformed = read_file(data)

    assert rows == [(2, "2", "b", "y"), (4, "4", "d", "z")]
    assert malformed == [
        MalformedRecord(1, 2, "1,a"),
        MalformedRecord(3, 5, '3,c,z,"1,2"'),
        MalformedRecord(5, 7, "no comma"),
    ]


def test_file_of_malformed_records_alone_gives_all_of_them() -> None:
    assert read_file(HEADER + b"1\n2\n") == ([], [MalformedRecord(1, 2, "1"), MalformedRecord(2, 3, "2")])


def test_record_that_the_end_of_the_file_cuts_is_reported() -> None:
    assert read_file(HEADER + b"1,a,x\n2,b") == ([(1, "1", "a", "x")], [MalformedRecord(2, 3, "2,b")])


def test_lines_after_an_open_quote_are_records_of_their_own() -> None:
    rows, malformed = read_file(HEADER + b'1,a,x\n2,"b,y\n3,c,z\n')

    assert rows == [(1, "1", "a", "x"), (3, "3", "c", "z")]
    assert malformed == [MalformedRecord(2, 3, '2,"b,y', "quote that is not closed")]


@pytest.mark.usefixtures("small_blocks")
def test_open_quote_of_a_large_file_rejects_its_line_alone() -> None:
    rows = b"1,a,x\n" * 5000

    read, malformed = read_file(HEADER + rows + b'1,a,"x\n' + rows)

    assert len(read) == 10_000
    assert malformed == [MalformedRecord(5001, 5002, '1,a,"x', "quote that is not closed")]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_every_line_is_counted_by_what_it_is(newline: bytes) -> None:
    data = (
        b'\nuser_id,track_id,listen_time,"com\nment"\n'
        b'1,a,x,"first\n\nthird"\n\n2,"b,y,\n3,c,z,\n4,d\n\n5,e,w,'
    ).replace(b"\n", newline)
    reader = CsvReader(io.BytesIO(data), STREAM_COLUMNS)

    batches = list(reader)

    assert reader.line_counts == {"total": 12, "header": 2, "blank": 3, "continuation": 2}
    assert [line for batch in batches for line in batch.lines.tolist()] == [4, 9, 12]
    assert [(bad.line, bad.text) for batch in batches for bad in batch.malformed] == [
        (8, '2,"b,y,'),
        (10, "4,d"),
    ]


def test_line_that_the_parser_loses_rejects_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_quoting.QuotingScreen, "feed", lambda _, data: data.replace(b"2,b,y\n", b""))
    monkeypatch.setattr(
        csv_quoting.QuotingScreen, "take", lambda _, count: (np.arange(count), np.arange(count))
    )

    with pytest.raises(FileRejectedError, match=r"the file has 3 lines, but .* are 2: a line would be lost"):
        read_file(HEADER + b"1,a,x\n2,b,y\n")


def test_gzip_of_several_members_is_one_file() -> None:
    data = gzip.compress(HEADER + b"1,a,x\n") + gzip.compress(b"2,b,y\n")

    assert read_file(data) == (TWO_ROWS, [])


def mixed_file(newline: bytes, seed: int) -> tuple[bytes, list[int], list[int]]:
    """Return a file of many small blocks with the numbers of its good and malformed records."""
    generator = random.Random(seed)
    pieces = [b"user_id,track_id,listen_time,comment" + newline]
    good: list[int] = []
    malformed: list[int] = []
    for number in range(1, 1500):
        # for some blocks nothing but malformed records
        if generator.random() < (1 if 600 < number < 1100 else 0.2):
            malformed.append(number)
            pieces.append(b"bad" + newline)
        else:
            good.append(number)
            pieces.append(b'%d,t,x,"c\n\n"' % number + newline)
        if generator.random() < 0.1:
            pieces.append(newline)
    return b"".join(pieces), good, malformed


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("seed", range(5))
def test_rows_keep_their_numbers_over_many_blocks(newline: bytes, seed: int) -> None:
    data, good, bad = mixed_file(newline, seed)

    rows, malformed = read_file(data)

    assert [row for row, *_ in rows] == good
    assert [user_id for _, user_id, *_ in rows] == [str(number) for number in good]
    assert [(record.row, record.text) for record in malformed] == [(number, "bad") for number in bad]
    lines = data.replace(newline, b"\n").split(b"\n")
    assert {lines[record.line - 1] for record in malformed} == {b"bad"}


@pytest.mark.usefixtures("small_blocks")
def test_batches_come_in_file_order_with_the_malformed_records_in_their_place() -> None:
    data, _, _ = mixed_file(b"\n", 1)

    batches = list(CsvReader(io.BytesIO(data), STREAM_COLUMNS))

    assert len(batches) > 5
    numbers = [sorted([*batch.rows.tolist(), *(bad.row for bad in batch.malformed)]) for batch in batches]
    assert all(before[-1] < after[0] for before, after in pairwise(filter(None, numbers)))


@pytest.mark.usefixtures("small_blocks")
def test_row_longer_than_a_block_is_refused() -> None:
    with pytest.raises(FileRejectedError, match=r"^line 502 is longer than 4,096 bytes$"):
        read_file(HEADER + b"1,a,x\n" * 500 + b"1,a," + b"x" * 5000 + b"\n")


def test_rows_after_a_mebibyte_of_blank_lines_are_read() -> None:
    assert read_file(HEADER + b"\n" * (csv_reader.HEADER_BYTES + 10) + b"1,a,x\n2,b,y\n") == (TWO_ROWS, [])


def test_too_many_malformed_records_together_reject_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "MAX_MALFORMED_TOGETHER", 1000)

    with pytest.raises(
        FileRejectedError, match=r"^1,000 records together are malformed, the first of them 'bad'"
    ):
        read_file(HEADER + b"1,a,x\n" + b"bad\n" * 1001)


@pytest.mark.usefixtures("small_blocks")
def test_malformed_records_all_over_a_file_do_not_add_up_to_its_rejection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_reader, "MAX_MALFORMED_TOGETHER", 500)
    monkeypatch.setattr(csv_reader, "MAX_MALFORMED_CHARACTERS", 500 * len("malformed"))

    rows, malformed = read_file(HEADER + (b"1,a,x\n" * 9 + b"malformed\n") * 5000)

    assert (len(rows), len(malformed)) == (45_000, 5000)


# A separate process, whose memory can be measured. It prints the MiB that the file took and its outcome.
READ_BOMB = """
import os, resource, sys
from helpers.ingest.csv_reader import CsvReader
from helpers.errors import FileRejectedError

def peak_mebibytes():
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit

before = peak_mebibytes()
outcome = "read"
try:
    with open(sys.argv[1], "rb") as file:
        for _ in CsvReader(file, ["user_id", "track_id", "listen_time"]):
            pass
except FileRejectedError as error:
    outcome = f"rejected: {error}"
print(peak_mebibytes() - before, outcome, flush=True)
os._exit(0)  # Arrow may still be reading a block ahead, which the interpreter's own way out does not bear.
"""


def run_python(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(csv_reader.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("record", "outcome"),
    [
        pytest.param(b"1," + b"a" * 1000 + b",x\n", "read", id="good records"),
        pytest.param(b"a" * 3_000_000 + b"\n", "rejected: .* together", id="malformed records"),
        pytest.param(b"\n", "read", id="blank lines"),
        pytest.param(b"a", "rejected: line 2 is longer than", id="one record"),
    ],
)
def test_gzip_bomb_is_handled_in_bounded_memory(record: bytes, outcome: str, tmp_path: Path) -> None:
    piece = record * (3_000_001 // len(record))
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        file.write(HEADER)
        for _ in range(130):
            file.write(piece)

    mebibytes, _, said = run_python(READ_BOMB, str(tmp_path / "bomb")).strip().partition(" ")

    assert re.match(outcome, said)
    assert int(mebibytes) < 200


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "error",
    [
        ReadTimeoutError(endpoint_url="http://s3"),
        IncompleteReadError(actual_bytes=1, expected_bytes=2),
        ConnectionResetError("by peer"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("delivered", [0, 1, 10, 500, 1500, 4000], ids="{} bytes".format)
@pytest.mark.parametrize("is_zipped", [False, True], ids=["plain", "gzip"])
def test_failing_connection_does_not_reject_the_file(
    error: Exception, delivered: int, is_zipped: bool
) -> None:
    generator = random.Random(1)
    data = HEADER + b"".join(b"%d,a,x\n" % generator.getrandbits(64) for _ in range(2000))
    data = gzip.compress(data) if is_zipped else data
    stream = FailingStream(data[:delivered], error)

    with pytest.raises(type(error)) as raised:
        for _ in CsvReader(stream, STREAM_COLUMNS):
            pass

    assert raised.value is error


def test_song_names_with_quotes_commas_and_newlines_are_read() -> None:
    data = (
        b"track_id,artists,album_name,track_name,popularity,duration_ms,track_genre\n"
        b't1,"Simon, Paul",One,"Say ""Hi""\nTwice",50,1000,pop\n'
        b"t2,,Two,,0,,\n"
    )

    records = [
        row for batch in CsvReader(io.BytesIO(data), SONG_COLUMNS) for row in batch.records.to_pylist()
    ]

    assert records == [
        {
            "track_id": "t1",
            "track_name": 'Say "Hi"\nTwice',
            "artists": "Simon, Paul",
            "track_genre": "pop",
            "duration_ms": "1000",
        },
        dict.fromkeys(SONG_COLUMNS, "") | {"track_id": "t2"},
    ]
