"""Replaces a Glue job run: the same reads and writes of S3, with cached results of Spark."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.deployment import connect


class GlueStandIn:
    """Does the Glue job's reads and writes in S3; Spark's results for the same input are cached."""

    def __init__(self, run_spark: Callable[[dict[str, str]], str | None], folder: Path) -> None:
        """Take a function that runs the Glue script and returns its error, and a folder for the cache."""
        self._run_spark = run_spark
        self._folder = folder

    def run(self, endpoint_url: str, arguments: dict[str, str]) -> None:
        """Delete an earlier attempt's output, then write listens, KPIs and summary, in this order."""
        s3 = connect("s3", endpoint_url)
        given = {name: arguments[name] for name in ("--S3_SOURCE_PATH", "--S3_HISTORY_PATH")}
        content = {name: _read(s3, uri) for name, uri in given.items()}
        output = self._output(endpoint_url, arguments, content)
        bucket, prefix = _split(arguments["--S3_OUTPUT_PATH"])
        for key in sorted(_keys(s3, bucket, prefix), key=lambda key: not key.endswith("summary.json")):
            s3.delete_object(Bucket=bucket, Key=key)
        names = sorted(
            (path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()),
            key=lambda name: (name == "summary.json", name.startswith("kpis/"), name),
        )
        for name in names:
            s3.put_object(Bucket=bucket, Key=prefix + name, Body=(output / name).read_bytes())

    def _output(
        self, endpoint_url: str, arguments: dict[str, str], content: Mapping[str, Mapping[str, bytes]]
    ) -> Path:
        digest = hashlib.sha256(arguments["--BATCH_ID"].encode())
        digest.update(arguments.get("--REPROCESS_DATES", "").encode())
        for objects in content.values():
            for name, body in sorted(objects.items()):
                if name == "manifest.json":
                    # The time of writing makes no difference to the job.
                    manifest = json.loads(body)
                    body = json.dumps([manifest[part] for part in ("listens", "songs", "users")]).encode()
                digest.update(f"{name} {hashlib.sha256(body).hexdigest()}\n".encode())
        output = self._folder / digest.hexdigest()
        if output.exists():
            return output
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            given = dict(arguments)
            for argument, objects in content.items():
                given[argument] = f"file://{folder}/{argument.strip('-')}/"
                for name, body in objects.items():
                    path = Path(folder, argument.strip("-"), name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(body)
            computed = Path(folder, "output")
            given["--S3_OUTPUT_PATH"] = f"file://{computed}/"
            given["--S3_SNAPSHOTS_PATH"] = f"file://{folder}/snapshots/"
            if error := self._run_spark(given):
                raise RuntimeError(error)
            for crc in computed.rglob(".*"):
                crc.unlink()
            if not output.exists():
                shutil.move(computed, output)
        return output


def _split(uri: str) -> tuple[str, str]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix


def _keys(s3: Any, bucket: str, prefix: str) -> Sequence[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def _read(s3: Any, uri: str) -> dict[str, bytes]:
    bucket, prefix = _split(uri)
    keys = _keys(s3, bucket, prefix)
    return {key.removeprefix(prefix): s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
