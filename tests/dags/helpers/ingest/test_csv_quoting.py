import itertools

import pytest

from helpers.errors import FileRejectedError
from helpers.ingest import csv_quoting
from helpers.ingest.csv_quoting import MalformedRecord, QuotingScreen, split_record

COLUMNS = ("a", "b", "c", "d")


def screen(*pieces: bytes) -> tuple[bytes, list[MalformedRecord], list[tuple[int, int]]]:
    """Return the passed text, the removed lines, and (row, line) of each passed record."""
    account = QuotingScreen(COLUMNS, ("a", "b"), first_line=2)
    text = b"".join(account.feed(piece) for piece in (*filter(None, pieces), b""))
    numbers = sum(len(rows) for rows, _ in account._passed)
    rows, lines = account.take(numbers)
    return text, list(account.malformed), list(zip(rows.tolist(), lines.tolist(), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"1,2,3,4\n", id="no quotes"),
        pytest.param(b'"1","2","3","4"\n', id="all quoted"),
        pytest.param(b'1,2,"a, b","say ""x"""\n', id="commas and doubled quotes"),
        pytest.param(b'1,2,"","""",""""""\n', id="nothing but quotes"),
        pytest.param(b'1,2,"line\nbreak",4\n5,6,7,8\n', id="line break"),
        pytest.param(b'1,2,3,"in prose, a comma\nis followed, as here, by a blank"\n', id="prose"),
        pytest.param(b'1,2,"a\r\nb\rc",4\r\n', id="other line breaks"),
        pytest.param(b'1,2,"\n\n\n",4\n', id="blank lines in a value"),
        pytest.param(b'1,2,C:\\dir,"D:\\"\n', id="backslashes"),
        pytest.param(b'1,"2"\n"3",4,5,6,7\n', id="wrong number of fields on one line"),
    ],
)
def test_well_quoted_text_is_let_through_as_it_is(text: bytes) -> None:
    passed, malformed, _ = screen(text)

    assert (passed, malformed) == (text, [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param('1,2,"3,4', "quote that is not closed", id="never closed"),
        pytest.param('1,2,3,"', "quote that is not closed", id="at the end"),
        pytest.param('"1"x,2,3,4', "text after a closing quote", id="text after"),
        pytest.param('1,2,"3" ,4', "text after a closing quote", id="blank after"),
        pytest.param('1,2,3"x,4', "quote inside an unquoted field", id="inside"),
        pytest.param('1,2, "3",4', "quote inside an unquoted field", id="blank before"),
        pytest.param('1,2,"say \\"x\\"",4', "quote escaped by a backslash (CSV doubles it)", id="backslash"),
        pytest.param('1,2,"x\\"",4', "quote escaped by a backslash (CSV doubles it)", id="backslash last"),
        pytest.param('1,2,x\\"y,4', "quote escaped by a backslash (CSV doubles it)", id="backslash unquoted"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_malformed_line_is_taken_out_with_its_reason(line: str, reason: str, newline: str) -> None:
    lines = ["0,0,0,0", line, "1,1,1,1", '"2",2,2,2', ""]

    text, malformed, records = screen(newline.join(lines).encode())

    assert malformed == [MalformedRecord(2, 3, line, reason)]
    assert text.decode() == newline.join(["0,0,0,0", "1,1,1,1", '"2",2,2,2', ""])
    assert records == [(1, 2), (3, 4), (4, 5)]


def test_stray_quotes_far_apart_cost_their_own_lines_alone() -> None:
    lines = [f"{n},t{n},x,y" for n in range(1000)]
    for n in (100, 400, 600, 601):
        lines[n] = f'{n},"t{n},x,y'

    text, malformed, records = screen("\n".join(lines).encode())

    assert [record.line for record in malformed] == [102, 402, 602, 603]
    assert len(text.splitlines()) == len(records) == 996


@pytest.mark.parametrize("value", [b'"1\n2"', b'"1\r2"', b'"1\r\n2"'], ids=["LF", "CR", "CRLF"])
def test_id_with_a_line_break_is_malformed(value: bytes) -> None:
    _, malformed, _ = screen(b"0," + value + b",3,4\n5,6,7,8\n")

    assert [(record.line, record.reason) for record in malformed] == [
        (2, "line break in b"),
        (3, "quote inside an unquoted field"),
    ]


def test_record_of_several_lines_with_a_wrong_number_of_fields_gives_its_lines_back() -> None:
    text, malformed, records = screen(b'1,2,"x\n5,6,7,8\n9",4,5\n')

    assert [(bad.line, bad.text, bad.reason) for bad in malformed] == [
        (2, '1,2,"x', "wrong number of fields"),
        (4, '9",4,5', "quote inside an unquoted field"),
    ]
    assert (text, records) == (b"5,6,7,8\n", [(2, 3)])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'1,2,3,"x\n5,6,7,y"\n', id="two records"),
        pytest.param(b'1,2,3,"x\r\n0,0,0,0\r\n5,6,7,y"\r\n', id="three records"),
        pytest.param(b'1,2,"x,4\n5,6,y",8\n', id="in the middle"),
        pytest.param(b'1,2,3,"x\n0,0,0,0\n5,one comma more,6,7,y"\n', id="a whole record between"),
    ],
)
def test_value_that_may_be_several_records_rejects_the_file(text: bytes) -> None:
    with pytest.raises(
        FileRejectedError, match=r"^line 3: the quote before '.*' is closed only . lines? below"
    ):
        screen(b"0,0,0,0\n" + text)


TEXT = b'1,2,"a\r\nb",4\n\n5,"6\n7,8,9,0\r\n"1"x,2,3,4\n\r\n5,6,"",""""\n9,9,9,"9\n'


@pytest.mark.parametrize("size", range(1, 20))
def test_text_in_pieces_is_screened_like_text_in_one(size: int) -> None:
    pieces = [TEXT[start : start + size] for start in range(0, len(TEXT), size)]

    assert screen(*pieces) == screen(TEXT)
    assert [bad.line for bad in screen(TEXT)[1]] == [5, 7, 10]
    assert screen(TEXT)[2] == [(1, 2), (3, 6), (5, 9)]


def test_quote_that_is_open_for_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_quoting, "MAX_RECORD_BYTES", 100)
    account = QuotingScreen(COLUMNS, (), first_line=2)

    passed = [account.feed(piece) for piece in itertools.repeat(b"1,2,3,4\n" * 10, 3)]
    passed += [account.feed(b'1,2,"3,4\n' + b"1,2,3,4\n" * 20)]

    assert [text.count(b"\n") for text in passed] == [10, 10, 10, 20]
    assert [record.line for record in account.malformed] == [32]


def test_fields_of_a_record_are_unquoted() -> None:
    assert split_record(b'a,"b ""c""",,"d\ne"\nrest') == (["a", 'b "c"', "", "d\ne"], 19)
