"""DuckDB on the tables of the archive bucket, at AWS or in local AWS."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import boto3
import duckdb
import pyarrow as pa
from pyarrow import csv as pa_csv
from pyarrow import dataset as ds
from pyarrow import fs

from include.kpis.problems import ReadError, explained
from include.kpis.reports import BUCKET_VARIABLE, Archive, list_objects, read_json
from include.sql.tables import DAY, LISTENS, REJECTED_ROWS, RUN_REPORTS, TABLES, Table

_READ = "read_"


class Session:
    """Runs SQL; a statement reads the tables that it names, as they are in the archive bucket then."""

    def __init__(self, archive: Archive) -> None:
        """Take the bucket; nothing is read yet."""
        self._archive = archive
        self._duckdb = duckdb.connect()
        self._duckdb.execute("SET TimeZone = 'UTC'")

    def query(self, sql: str) -> pa.Table:
        """Return the statement's rows.

        Raises:
            ReadError: the statement is wrong, or the bucket cannot be read.
        """
        with explained(f"bucket {self._archive.bucket}", BUCKET_VARIABLE):
            for table in TABLES:
                if re.search(rf"\b{table.name}\b", sql, re.IGNORECASE):
                    self._open(table)
            try:
                return self._duckdb.execute(sql).fetch_arrow_table()
            except duckdb.Error as error:
                # DuckDB guesses at tables of its own.
                reason = str(error).partition("\nDid you mean")[0]
                names = ", ".join(table.name for table in TABLES)
                raise ReadError(f"{reason}\nThe tables are {names}.") from error

    def _open(self, table: Table) -> None:
        if table is RUN_REPORTS:
            found: Any = _rows(table, self._reports())
        elif table is REJECTED_ROWS:
            found = pa.concat_tables([_rows(table, []), *self._rejected_rows()])
        else:
            found = self._dataset(table)
        self._duckdb.register(_READ + table.name, found)
        # Athena's times have no zone, and these are UTC.
        columns = "* REPLACE (listen_time AT TIME ZONE 'UTC' AS listen_time)" if table is LISTENS else "*"
        self._duckdb.execute(
            f"CREATE OR REPLACE VIEW {table.name} AS SELECT {columns} FROM {_READ}{table.name}"
        )

    def _dataset(self, table: Table) -> Any:
        schema = table.columns
        if table is LISTENS:
            # Spark writes times as instants.
            index = schema.get_field_index("listen_time")
            schema = schema.set(index, pa.field("listen_time", pa.timestamp("us", "UTC")))
        partitioning = None
        if table.is_by_day:
            schema = schema.append(DAY)
            partitioning = ds.partitioning(pa.schema([DAY]), flavor="hive")
        keys = [entry["Key"] for entry in self._objects(table) if entry["Key"].endswith(".parquet")]
        if not keys:
            return schema.empty_table()
        paths = [f"{self._archive.bucket}/{key}" for key in keys]
        return ds.dataset(
            paths, schema, format="parquet", filesystem=_file_system(), partitioning=partitioning
        )

    def _reports(self) -> Iterator[dict[str, Any]]:
        for entry in self._objects(RUN_REPORTS):
            if entry["Key"].endswith("/report.json"):
                yield read_json(self._archive, entry["Key"]) | {"$path": self._path(entry["Key"])}

    def _rejected_rows(self) -> Iterator[pa.Table]:
        options = pa_csv.ConvertOptions(
            column_types=REJECTED_ROWS.columns, strings_can_be_null=False, quoted_strings_can_be_null=False
        )
        for entry in self._objects(REJECTED_ROWS):
            if "/rejected_rows/part-" in entry["Key"]:
                body = self._archive.s3.get_object(Bucket=self._archive.bucket, Key=entry["Key"])[
                    "Body"
                ].read()
                rows = pa_csv.read_csv(
                    pa.BufferReader(body),
                    parse_options=pa_csv.ParseOptions(newlines_in_values=True),
                    convert_options=options,
                )
                yield rows.append_column(
                    "$path", pa.array([self._path(entry["Key"])] * len(rows), pa.string())
                )

    def _objects(self, table: Table) -> Iterator[Any]:
        return list_objects(self._archive.s3, self._archive.bucket, table.prefix)

    def _path(self, key: str) -> str:
        return f"s3://{self._archive.bucket}/{key}"


def to_text(value: Any) -> Any:
    """Return a value of a row in a form for CSV and JSON: days and times in ISO 8601, numbers as they are."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    return value


def _rows(table: Table, rows: Any) -> pa.Table:
    return pa.Table.from_pylist([*rows], schema=table.columns.append(pa.field("$path", pa.string())))


def _file_system() -> fs.S3FileSystem:
    session = boto3.Session()
    credentials: Any = session.get_credentials()
    frozen = credentials.get_frozen_credentials()
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    return fs.S3FileSystem(
        access_key=frozen.access_key,
        secret_key=frozen.secret_key,
        session_token=frozen.token,
        region=session.region_name,
        endpoint_override=endpoint.netloc or None,
        scheme=endpoint.scheme or "https",
    )
