"""The tables for SQL: their columns and where their objects are in the archive bucket."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from helpers.contract.names import STREAM_COLUMNS
from helpers.run.kpi_schema import KPIS_SCHEMA

_COUNT, _TEXT = pa.int64(), pa.string()
_TOTALS = ("files", "archived", "quarantined", "left", "rows", "valid", "rejected", "new", "repeated", "late")
# A partition is a day's folder.
DAY = pa.field("listen_date", pa.date32())
# The key of the object that a row comes from; Athena has it in each table.
PATH = '"$path"'


@dataclass(frozen=True)
class Table:
    """A table for SQL.

    Attributes:
        name: its name in DuckDB and Athena.
        prefix: the prefix of its objects in the archive bucket.
        columns: names and types of what the objects hold.
        is_by_day: whether it has the partition `DAY`, which is in the objects' keys.
        meaning: what a row is.
    """

    name: str
    prefix: str
    columns: pa.Schema
    is_by_day: bool
    meaning: str


LISTENS = Table(
    "listens",
    "listens/",
    pa.schema({"user_id": _TEXT, "track_id": _TEXT, "listen_time": pa.timestamp("us")}),
    True,
    "An accepted listen; its time is UTC. The same listen may be in several rows: count distinct ones.",
)
KPIS = Table("kpis", "kpis/", KPIS_SCHEMA, True, "The KPIs of a genre, or of `ALL_GENRES`, on a day")
SONGS = Table(
    "songs",
    "catalogs/songs/",
    pa.schema(
        {
            "row_id": _COUNT,
            **dict.fromkeys(("track_id", "track_name", "artists", "track_genre"), _TEXT),
            "duration_ms": _COUNT,
        }
    ),
    False,
    "A row of the song catalog that the last run used; the first row of a track and genre counts",
)
USERS = Table(
    "users",
    "catalogs/users/",
    pa.schema({"row_id": _COUNT, "user_id": _TEXT, "user_country": _TEXT}),
    False,
    "A row of the user catalog that the last run used; the first row of a user counts",
)
RUN_REPORTS = Table(
    "run_reports",
    "runs/",
    pa.schema(
        {
            "run_key": _TEXT,
            "dag_run_id": _TEXT,
            "frozen_at": _TEXT,
            "completed_at": _TEXT,
            "status": _TEXT,
            "totals": pa.struct(dict.fromkeys(_TOTALS, _COUNT)),
            "checks": pa.list_(
                pa.struct(
                    {
                        "name": _TEXT,
                        "value": pa.float64(),
                        "limit": pa.float64(),
                        "verdict": _TEXT,
                        "message": _TEXT,
                    }
                )
            ),
            "ignored_keys": pa.list_(_TEXT),
            "reprocess_dates": pa.list_(_TEXT),
            "accept_checks": pa.bool_(),
            "kpi_items_written": _COUNT,
            "kpi_items_deleted": _COUNT,
            "newest_listen": _TEXT,
            "glue": pa.struct(
                {"job_runs": _COUNT, "dpu_seconds": pa.float64(), "estimated_usd": pa.float64()}
            ),
        }
    ),
    False,
    f"The report of a run, where {PATH} ends in `/report.json`",
)
REJECTED_ROWS = Table(
    "rejected_rows",
    "quarantine/",
    pa.schema(
        {
            "source_file": _TEXT,
            "row": _TEXT,
            "line": _TEXT,
            "reason": _TEXT,
            **dict.fromkeys(STREAM_COLUMNS, _TEXT),
            "malformed_record": _TEXT,
        }
    ),
    False,
    f"A rejected row of an accepted file, as it was delivered, where {PATH} has `/rejected_rows/part-`",
)
TABLES = (LISTENS, KPIS, SONGS, USERS, RUN_REPORTS, REJECTED_ROWS)


def hive_type(kind: pa.DataType) -> str:
    """Return the name that Glue and Athena have for Arrow's type."""
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{field.name}:{hive_type(field.type)}' for field in kind)}>"
    if pa.types.is_list(kind):
        return f"array<{hive_type(kind.value_type)}>"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    names = {
        pa.string(): "string",
        pa.int64(): "bigint",
        pa.float64(): "double",
        pa.bool_(): "boolean",
        pa.date32(): "date",
        pa.timestamp("us"): "timestamp",
    }
    return names[kind]
