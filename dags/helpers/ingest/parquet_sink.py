"""Writes a Parquet object of any size in bounded memory."""

from __future__ import annotations

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
from pyarrow import parquet as pq

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROWS_PER_GROUP = 128 * 1024


class ParquetSink:
    """Collects tables in a temporary local Parquet file, with row groups of a useful size, and uploads it."""

    def __init__(self, schema: pa.Schema, **options: Any) -> None:
        """Open the temporary file; leaving the context deletes it.

        Args:
            schema: schema of all tables.
            options: for Arrow's `ParquetWriter`: encodings, compression.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="music-streaming-")
        self.path = Path(self._folder.name) / "part.parquet"
        self._writer = pq.ParquetWriter(self.path, schema, **options)
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._waiting: list[pa.Table] = []
        self._rows_waiting = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows, which must have the sink's schema.

        A thread writes them; its errors are raised by this or a later call.
        """
        if not table.num_rows:
            return
        self._waiting.append(table)
        self._rows_waiting += table.num_rows
        self.rows += table.num_rows
        if self._rows_waiting >= ROWS_PER_GROUP:
            self._flush()

    def upload(self, s3: S3Client, bucket: str, key: str) -> None:
        """Finish the file and upload it, replacing an existing object."""
        self.close()
        s3.upload_file(str(self.path), bucket, key)

    def close(self) -> None:
        """Finish the file; no more rows can be written."""
        self._flush()
        self._wait()
        self._writer.close()

    def _flush(self) -> None:
        # At most one row group is written while the next is collected, because both are in memory.
        self._wait()
        if self._waiting:
            self._writing = self._thread.submit(self._write_row_group, self._waiting)
        self._waiting, self._rows_waiting = [], 0

    def _write_row_group(self, tables: list[pa.Table]) -> None:
        self._writer.write_table(pa.concat_tables(tables))
        tables.clear()
        # Arrow's allocators keep freed memory: several times the memory in use.
        pa.default_memory_pool().release_unused()

    def _wait(self) -> None:
        if self._writing:
            self._writing.result()
        self._writing = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._thread.shutdown()
            self._writer.close()
        finally:
            self._folder.cleanup()
