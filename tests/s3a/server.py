"""Local AWS with enforced policies, whose Glue jobs reach S3 by Hadoop's S3A as on Glue 5.1.

`python -m tests.s3a.server FOLDER`. In the folder, the server writes S3A's requests to `requests.jsonl`, one
JSON line each, and the SDK's calls to `calls.jsonl`. It reads `control.json` before each job and request:
`spark` has properties of Spark; `stop_at` has an operation and a number. At that number of its requests, the
running Glue job is killed and S3 does not see the request.
"""

from __future__ import annotations

import io
import json
import runpy
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import xmltodict  # type: ignore[import-untyped]
from moto.moto_server.werkzeug_app import DomainDispatcherApplication

from include.local_aws import glue, job_process, server, spark_environment
from tests.s3a.jars import make_spark_home

_SPARK_SETTINGS = {
    "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
    # Hadoop's syntax for an environment variable.
    "spark.hadoop.fs.s3a.endpoint": "${env.AWS_ENDPOINT_URL}",
    "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
    "spark.hadoop.fs.s3a.path.style.access": "true",
    # Hadoop's own class: S3A buffers uploads in files, and accepts no other local file system.
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.LocalFileSystem",
}
# Distinguishes operations of the same method: a parameter of the query, or `copy`.
_MARKERS = ("list-type", "uploads", "uploadId", "delete")
_OPERATIONS = {
    ("GET", "bucket", "list-type"): "ListObjectsV2",
    ("GET", "bucket", "uploads"): "ListMultipartUploads",
    ("HEAD", "bucket", ""): "HeadBucket",
    ("POST", "bucket", "delete"): "DeleteObjects",
    ("GET", "key", ""): "GetObject",
    ("HEAD", "key", ""): "HeadObject",
    ("PUT", "key", ""): "PutObject",
    ("PUT", "key", "copy"): "CopyObject",
    ("DELETE", "key", ""): "DeleteObject",
    ("POST", "key", "uploads"): "CreateMultipartUpload",
    ("PUT", "key", "uploadId"): "UploadPart",
    ("POST", "key", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "key", "uploadId"): "AbortMultipartUpload",
}


class NoMirror:
    """Replaces the mirror, which S3A does not need."""

    filled_bytes = 0
    buckets: Sequence[str] = ()

    def __init__(self, *_: Any) -> None:
        """Mirror nothing."""

    def fill(self, cancelled: Any) -> list[str]:
        """Download nothing; no object is left out."""
        return []

    def write_back(self, cancelled: Any) -> None:
        """Upload nothing; S3 already has everything."""


class RecordingApplication(DomainDispatcherApplication):
    """moto's application, which records S3A's requests and may kill the job that sends one."""

    folder: Path
    lock = threading.Lock()
    seen = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        if "Hadoop" not in environ.get("HTTP_USER_AGENT", ""):
            return super().__call__(environ, start_response)
        request = parse_request(environ)
        if self.is_the_last(request["operation"]):
            for run in list(glue._live_runs):
                run.stop()
            start_response("503 Slow Down", [])
            return []

        def start(status: str, *args: Any) -> Any:
            line = json.dumps({**request, "status": int(status.split()[0])})
            with self.lock, (self.folder / "requests.jsonl").open("a") as lines:
                lines.write(f"{line}\n")
            return start_response(status, *args)

        return super().__call__(environ, start)

    def is_the_last(self, operation: str) -> bool:
        """Count the requests of the operation at which the tests want a job killed."""
        stop_at, number = read_control(self.folder).get("stop_at", ("", 0))
        with self.lock:
            if not stop_at:
                RecordingApplication.seen = 0
            elif operation == stop_at:
                RecordingApplication.seen += 1
            return operation == stop_at and self.seen >= number


def parse_request(environ: dict[str, Any]) -> dict[str, Any]:
    """Return the request's operation, as the SDK names it, and its keys or its prefix."""
    bucket_and_key = unquote(environ["PATH_INFO"]).lstrip("/")
    key = bucket_and_key.partition("/")[2]
    query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    is_copy = "HTTP_X_AMZ_COPY_SOURCE" in environ
    marker = next((name for name in _MARKERS if name in query), "copy" if is_copy else "")
    kind = environ["REQUEST_METHOD"], "key" if key else "bucket", marker
    keys = [key or query.get("prefix", "")]
    if marker == "delete":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = io.BytesIO(body)
        entries = xmltodict.parse(body, force_list=("Object",))["Delete"]["Object"]
        keys = [entry["Key"] for entry in entries]
    return {"operation": _OPERATIONS.get(kind, " ".join(kind)), "keys": keys}


def read_control(folder: Path) -> dict[str, Any]:
    """Return the tests' instructions for jobs and requests."""
    file = folder / "control.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


def install(folder: Path) -> None:
    """Make the Glue jobs of this process use S3A, and record their requests."""
    spark_home = make_spark_home(folder / "spark")
    # Without an archive of classes: that of the environment is for other jars.
    spark_environment.CLASS_ARCHIVES = spark_home
    make_environment = spark_environment.spark_environment

    def environment(
        directory: Path, settings: Mapping[str, str], java_options: Sequence[str]
    ) -> dict[str, str]:
        settings = {**settings, **_SPARK_SETTINGS, **read_control(folder).get("spark", {})}
        return make_environment(directory, settings, java_options) | {"SPARK_HOME": str(spark_home)}

    RecordingApplication.folder = folder
    replacements: list[tuple[Any, str, Any]] = [
        (job_process, "Mirror", NoMirror),
        (job_process, "spark_environment", environment),
        # Jobs have different settings, which a JVM reads as it starts.
        (job_process, "_keep_if_waiting", lambda runner: runner.close()),
        (server, "DomainDispatcherApplication", RecordingApplication),
    ]
    for owner, name, replacement in replacements:
        setattr(owner, name, replacement)


if __name__ == "__main__":
    install(Path(sys.argv[1]))
    sys.argv[1:] = [str(Path(sys.argv[1], "calls.jsonl"))]
    runpy.run_module("tests.include.stack_policies.enforcing_server", run_name="__main__")
