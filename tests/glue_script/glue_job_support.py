"""A run of the Glue job on a folder of the local file system."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from glue_script import glue_script
from tests.kpi_oracle import Items, Listen, Song, User

LISTENS = pa.schema(
    [("user_id", pa.string()), ("track_id", pa.string()), ("listen_time", pa.timestamp("us", tz="UTC"))]
)
SONGS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("track_id", pa.string()),
        ("track_name", pa.string()),
        ("artists", pa.string()),
        ("track_genre", pa.string()),
        ("duration_ms", pa.int64()),
        ("popularity", pa.int64()),
    ]
)
USERS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("user_id", pa.string()),
        ("user_name", pa.string()),
        ("user_country", pa.string()),
    ]
)


def at(text: str) -> datetime:
    """Return the instant of an ISO 8601 text; without an offset it is UTC."""
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def listen(user_id: str, track_id: str, listen_time: str) -> Listen:
    return Listen(user_id, track_id, at(listen_time))


def assert_same_frame(actual: DataFrame, expected: DataFrame) -> None:
    """Compare column names, types and all rows, in any order (`pyspark.testing` needs NumPy below 2)."""
    assert actual.dtypes == expected.dtypes
    rows, expected_rows = (sorted(frame.collect(), key=repr) for frame in (actual, expected))
    assert rows == expected_rows, f"{rows} instead of {expected_rows}"


class JobFolder:
    """The folders of a job, written by pyarrow like the pipeline's."""

    def __init__(self, root: Path) -> None:
        self.source, self.history, self.output = root / "input", root / "listens", root / "output"
        self.snapshots = root / "snapshots"

    def write_input(
        self,
        *parts: Sequence[Listen],
        songs: Sequence[Song] = (Song("t1", "Song 1", "Artist 1", "pop", 60_000),),
        users: Sequence[User] = (User("u1", "Ireland"),),
    ) -> None:
        """Write each part as an object of listens, the catalogs, and the manifest that names them."""
        song_rows = [
            (row_id, song.track_id, song.track_name, song.artists, song.track_genre, song.duration_ms, None)
            for row_id, song in enumerate(songs)
        ]
        user_rows = [(row_id, user.user_id, None, user.user_country) for row_id, user in enumerate(users)]
        tables = {"listens": (parts, LISTENS), "songs": ([song_rows], SONGS), "users": ([user_rows], USERS)}
        manifest: dict[str, Any] = {"run_key": "batch-1"}
        for name, (rows_of_parts, schema) in tables.items():
            objects = [f"{name}/part-{number:05d}.parquet" for number in range(len(rows_of_parts))]
            for path, rows in zip(objects, rows_of_parts, strict=True):
                write_parquet(self.source / path, rows, schema)
            manifest[name] = {"objects": objects, "rows": sum(len(rows) for rows in rows_of_parts)}
        (self.source / "manifest.json").write_text(json.dumps(manifest))

    def write_history(self, name: str, listens: Iterable[Listen], schema: pa.Schema = LISTENS) -> None:
        """Write the listens as an object of this name to the folder of each of their days."""
        by_day = defaultdict(list)
        for row in listens:
            by_day[row.listen_time.astimezone(UTC).date()].append(row)
        for day, rows in by_day.items():
            write_parquet(self.history / f"listen_date={day}" / name, rows, schema)

    def arguments(self, batch_id: str = "batch-1", reprocess_dates: str = "") -> list[str]:
        arguments = ["--S3_SOURCE_PATH", f"{self.source.as_uri()}/", "--S3_HISTORY_PATH"]
        arguments += [f"{self.history.as_uri()}/", "--S3_OUTPUT_PATH", f"{self.output.as_uri()}/"]
        arguments += [
            "--S3_SNAPSHOTS_PATH",
            f"{self.snapshots.as_uri()}/",
            "--BATCH_ID",
            batch_id,
            "--JOB_NAME",
            "music_streaming_kpis",
        ]
        return [*arguments, "--REPROCESS_DATES", reprocess_dates] if reprocess_dates else arguments

    def run(self, batch_id: str = "batch-1", reprocess_dates: str = "") -> None:
        glue_script.main(self.arguments(batch_id, reprocess_dates))

    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.output / "summary.json").read_text()))

    def day(self, day: str) -> dict[str, Any]:
        return dict(self.summary()["days"][day])

    def items(self) -> Items:
        """Return the KPI items of the output's objects that the summary names."""
        items: Items = {}
        for name in self.summary()["objects"]:
            if name.startswith("kpis/"):
                for line in (self.output / name).read_text().splitlines():
                    item = json.loads(line, parse_float=Decimal)
                    key = item.pop("date"), item.pop("track_genre")
                    assert key not in items
                    items[key] = item
        return items

    def added_objects(self) -> list[str]:
        return sorted(name for name in self.summary()["objects"] if name.startswith("listens/"))

    def added(self) -> list[Listen]:
        """Return the added listens, each from the folder of its day."""
        rows = []
        for name in self.added_objects():
            for row in pq.ParquetFile(self.output / name).read().to_pylist():
                assert name.startswith(f"listens/listen_date={row['listen_time'].date()}/")
                rows.append(Listen(**row))
        return sorted(rows)

    def keep_added(self, batch_id: str = "batch-1") -> None:
        """Copy the added listens to the history, as the pipeline does after the job."""
        for name in self.added_objects():
            folder, _, file = name.removeprefix("listens/").rpartition("/")
            copy = self.history / folder / f"{batch_id}__{file}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((self.output / name).read_bytes())


def write_parquet(path: Path, rows: Sequence[Sequence[Any]], schema: pa.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    pq.write_table(pa.table(arrays, schema=schema), path)
