"""The oracle's own reading of CSV files; another test compares its KPIs with hand-written ones."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import pytest

from tests.kpi_oracle import Song, User, kpi_items_of_folder, parse_listen_time, read_songs, read_users


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-06-25 17:43:13", "2024-06-25T17:43:13+00:00"),
        (" 2024-06-25T17:43:13 ", "2024-06-25T17:43:13+00:00"),
        ("2024-06-25T17:43:13.5Z", "2024-06-25T17:43:13.500000+00:00"),
        ("2024-06-25T01:00:00.123456+02:00", "2024-06-24T23:00:00.123456+00:00"),
        ("2024-06-25T20:00:00-0530", "2024-06-26T01:30:00+00:00"),
        ("1970-01-01T00:00:00", "1970-01-01T00:00:00+00:00"),
        ("2199-12-31T23:59:59.999999", "2199-12-31T23:59:59.999999+00:00"),
        ("1970-01-01T00:00:00+01:00", None),
        ("2200-01-01 00:00:00", None),
        ("2024-02-30 00:00:00", None),
        ("2024-06-25 24:00:00", None),
        ("2024-06-25 17:43", None),
        ("2024-06-25T17:43:13.1234567", None),
        ("2024-06-25T17:43:13+02:60", None),
        ("25/06/2024 17:43:13", None),
        ("", None),
    ],
)
def test_listen_time_follows_the_rules(text: str, expected: str | None) -> None:
    instant = parse_listen_time(text)
    assert (instant and instant.isoformat()) == expected


def test_folder_gives_the_items_of_its_valid_rows(tmp_path: Path) -> None:
    header = "id,track_id,artists,track_name,track_genre,duration_ms,popularity\n"
    write(tmp_path / "songs/songs.csv", header + '0, t1 ,"A, ""B""","Two\nlines",pop,90000,5\n')
    write(tmp_path / "users/users.csv", "\ufeffuser_id,user_name,user_country\nu1,N,Ireland\n")
    rows = ["u1,t1,2024-06-25 10:00:00", " u1 , t1 ,2024-06-25T12:00:00+02:00", "u1,t1,2024-06-25 10:00:01"]
    bad = [
        "u1,,2024-06-25 11:00:00",
        "u1,t1,2024-06-25 11:00:00,x",
        "u1,t1",
        "",
        "u\0,t1,2024-06-25 11:00:00",
    ]
    write(tmp_path / "streams/a.csv", "\r\n".join(["user_id,track_id,listen_time", *rows, *bad]))
    write(tmp_path / "streams/b.csv.gz", "listen_time,track_id,user_id,extra\n2024-06-25 09:00:00,t2,NA,x\n")
    write(tmp_path / "streams/c.csv", "user_id,track_id,listen_time\nu9,t1,2024-06-25 11:00:00\n")
    write(tmp_path / "streams/notes.txt", "no CSV")

    items = kpi_items_of_folder(tmp_path, rejected=["streams/c.csv"])
    assert set(items) == {("2024-06-25", genre) for genre in ("pop", "Unknown", "ALL_GENRES")}
    assert items["2024-06-25", "pop"] == {
        "listen_count": 2,
        "unique_listeners": 1,
        "total_listening_time": Decimal("3.00"),
        "avg_listening_time_per_user": Decimal("3.00"),
        "genre_rank": 1,
        "top_3_songs_per_genre": [
            {
                "rank": 1,
                "track_id": "t1",
                "track_name": "Two\nlines",
                "artists": 'A, "B"',
                "listen_count": 2,
            }
        ],
    }
    assert items["2024-06-25", "ALL_GENRES"]["unique_listeners"] == 2
    assert items["2024-06-25", "ALL_GENRES"]["unmatched_user_listens"] == 1
    assert kpi_items_of_folder(tmp_path)["2024-06-25", "pop"]["listen_count"] == 3


def test_catalogs_are_read_in_the_order_of_file_and_row(tmp_path: Path) -> None:
    header = "track_id,track_name,artists,track_genre,duration_ms,popularity\n"
    write(tmp_path / "songs/b.csv", f"{header}t1,B,x,pop,1,1\n")
    write(tmp_path / "songs/a.csv", f"{header}t1,, x ,pop,200000.0,1\nt2,A,x,,abc,1\n,A,x,pop,1,1\n")
    write(tmp_path / "users/users.csv", "user_id,user_name,user_country\nu1,N,\n,N,Spain\n")
    assert list(read_songs(tmp_path)) == [
        Song("t1", None, "x", "pop", 200_000),
        Song("t2", "A", "x", None, None),
        Song("t1", "B", "x", "pop", 1),
    ]
    assert list(read_users(tmp_path)) == [User("u1", None)]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
