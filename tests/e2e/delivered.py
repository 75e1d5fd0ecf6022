"""What was delivered to a pipeline, and how the oracle reads it: with Python's `csv` and rules of its own."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.kpi_oracle import Listen, Song, User, parse_listen_time, read_songs, read_users


@dataclass(frozen=True)
class Upload:
    """One object version put under `streams/`.

    `superseded`: the deliverer replaced it while it was still there, so a run need not have seen it.
    """

    key: str
    content: bytes
    version_id: str | None
    superseded: bool = False


@dataclass
class Delivered:
    """All that was ever put into the source bucket.

    Attributes:
        uploads: every version under `streams/`, CSV or not.
        catalogs: the present content of the objects under `songs/` and `users/`, by key.
        catalogs_of_day: other catalogs for the days that were last computed with those.
    """

    uploads: list[Upload] = field(default_factory=list)
    catalogs: dict[str, bytes] = field(default_factory=dict)
    catalogs_of_day: dict[str, dict[str, bytes]] = field(default_factory=dict)


class StreamContent(NamedTuple):
    """A stream file: the number of its records without the header, and its valid rows."""

    records: int
    listens: list[Listen]


class Catalogs(NamedTuple):
    """The rows of both catalogs, in the order of file and row."""

    songs: list[Song]
    users: list[User]


def read_stream(content: bytes) -> StreamContent:
    """Read a stream file; raises whatever comes when it has not the agreed form."""
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")) if row]
    header = [name.strip() for name in rows[0]]
    positions = [header.index(name) for name in Listen._fields]
    listens = []
    for row in rows[1:]:
        if len(row) != len(header):
            continue
        user_id, track_id, listen_time = (row[position] for position in positions)
        instant = parse_listen_time(listen_time)
        is_text = "\0" not in user_id + track_id + listen_time
        if is_text and user_id.strip() and track_id.strip() and instant:
            listens.append(Listen(user_id.strip(), track_id.strip(), instant))
    return StreamContent(len(rows) - 1, listens)


def read_catalogs(catalogs: Mapping[str, bytes]) -> Catalogs:
    """Read the catalog files, given by object key."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, key in enumerate(sorted(catalogs)):
            suffix = ".csv.gz" if key.endswith(".gz") else ".csv"
            path = folder / key.split("/")[0] / f"{number:05d}{suffix}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(catalogs[key])
        return Catalogs(list(read_songs(folder)), list(read_users(folder)))
