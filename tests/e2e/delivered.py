"""Everything that was delivered to a pipeline, and the oracle's own rules to read it."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.kpi_oracle import Listen, Song, User, parse_listen_time, read_songs, read_users
from tests.strict_csv import read_records


@dataclass(frozen=True)
class Upload:
    """One object version uploaded under `streams/`.

    `superseded`: it was replaced before any run was bound to see it.
    """

    key: str
    content: bytes
    version_id: str | None
    superseded: bool = False


@dataclass
class Delivered:
    """Everything that was ever uploaded to the source bucket.

    Attributes:
        uploads: every version under `streams/`, CSV or not.
        catalogs: current content of the objects under `songs/` and `users/`, by key.
        catalogs_of_day: other catalogs, for days that were last computed with those.
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
    """Read a stream file; raises any exception if its form is wrong."""
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    while content.startswith(codecs.BOM_UTF8):
        content = content.removeprefix(codecs.BOM_UTF8)
    header, *rows = _read_rows(content)
    positions = [header.index(name) for name in Listen._fields]
    listens = []
    for row in rows:
        if row is None or len(row) != len(header):
            continue
        user_id, track_id, listen_time = (row[position] for position in positions)
        instant = parse_listen_time(listen_time)
        is_text = not {"\0", "\ufeff"} & set(user_id + track_id + listen_time)
        # The epoch means "no time". Deliveries of the tests are never hours older than their run.
        is_time = instant and datetime(1970, 1, 1, tzinfo=UTC) < instant <= datetime.now(UTC) + timedelta(
            days=1
        )
        if is_text and user_id.strip() and track_id.strip() and is_time:
            listens.append(Listen(user_id.strip(), track_id.strip(), instant))
    return StreamContent(len(rows), listens)


def _read_rows(content: bytes) -> list[Any]:
    """Return the header's names, then each record's fields, None for a malformed one."""
    if b'"' not in content:
        rows = [row for row in csv.reader(io.StringIO(content.decode(), newline="")) if row]
        return [[name.strip() for name in rows[0]], *rows[1:]]
    header: list[str] = []

    def is_whole(fields: Sequence[str]) -> bool:
        if not header:
            return True
        ids = [value for name, value in zip(header, fields, strict=False) if name in Listen._fields]
        return len(fields) == len(header) and not any("\n" in value or "\r" in value for value in ids)

    records = read_records(content, is_whole)
    header += [name.strip() for name in next(records).fields or []]
    return [header, *(record.fields for record in records)]


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
