"""The measured process: the ingest of one run from S3 to S3, by the tasks' functions.

python -m tests.benchmarks.ingest_child FOLDER PARTS_AT_ONCE PART_BYTES

There is one worker process per parallel part. They run the tasks one after the other, each with the
environment that `make up` gives to tasks, and are ready before the time starts. A worker's memory is
therefore at least that of a task, which has its own process in Airflow. It prints the time and the results as
JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import gettempdir
from threading import Barrier
from typing import Any

from include.commands.environment import airflow_environment
from include.commands.sdk_files import share_sdk_files
from tests.benchmarks.folder_s3 import ENDPOINT_URL, FolderS3

RUN_ID = "manual__2024-06-26T00:00:00+00:00"
BUCKETS = {
    "SOURCE_BUCKET_NAME": "source",
    "INTERMEDIATE_BUCKET_NAME": "intermediate",
    "ARCHIVE_BUCKET_NAME": "archive",
}

Map = Callable[[Callable[..., Any], Iterable[Any]], list[Any]]


def main() -> None:
    """Ingest the files of the source bucket and print the facts."""
    folder, at_once, part_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    _become_task(folder)
    context = get_context("spawn")
    ready = context.Barrier(at_once + 1)
    with ProcessPoolExecutor(at_once, context, _become_worker, (folder, ready)) as pool:
        started = [pool.submit(_peak_mib) for _ in range(at_once)]
        ready.wait()
        assert all(future.result() for future in started)
        facts = _ingest(lambda function, items: list(pool.map(function, items)), part_bytes)
    print(json.dumps(facts))


def _ingest(run_tasks: Map, part_bytes: int) -> dict[str, Any]:
    from helpers import list_stream_files as listing
    from helpers.contract.settings import PipelineConfig
    from helpers.move_files_to_intermediate_bucket import move_files_to_intermediate_bucket

    listing.group_into_parts = partial(listing.group_into_parts, part_bytes=part_bytes)
    config = PipelineConfig.from_env()
    cpu, started = time.process_time(), time.monotonic()
    parts = listing.list_stream_files(RUN_ID, config)
    combined = run_tasks(partial(_combine, config=config), parts)
    combined_at = time.monotonic()
    validated = run_tasks(partial(_validate, config=config), [task.result for task in combined])
    validated_at = time.monotonic()
    moved = move_files_to_intermediate_bucket(RUN_ID, [task.result for task in validated], config)
    ended = time.monotonic()
    cpu_seconds = time.process_time() - cpu + sum(task.cpu_seconds for task in combined + validated)
    reasons: Counter[str] = Counter()
    intermediate = Path(os.environ["BENCHMARK_BUCKETS"]) / config.intermediate_bucket
    for path in intermediate.glob("runs/*/validated/*.json"):
        for outcome in json.loads(path.read_text()):
            reasons.update(outcome["rejected_by_reason"])
    return {
        "seconds": ended - started,
        "CPU seconds": round(cpu_seconds, 2),
        "combine": round(combined_at - started, 2),
        "validate": round(validated_at - combined_at, 2),
        "move": round(ended - validated_at, 2),
        "parts": len(parts),
        "task MiB": round(max(task.peak_mib for task in combined + validated)),
        "valid": moved["rows"],
        "rejected": dict(sorted(reasons.items())),
    }


@dataclass(frozen=True)
class _Task:
    """The result of a mapped task, and the resources of its process."""

    result: Any
    cpu_seconds: float
    peak_mib: float


def _combine(part: Any, config: Any) -> _Task:
    from helpers.extract_and_combine_streams import extract_and_combine_streams

    return _measured(extract_and_combine_streams, part, config)


def _validate(part: Any, config: Any) -> _Task:
    from helpers.validate_csv_files import validate_csv_files

    return _measured(validate_csv_files, part, config)


def _measured(task: Callable[[Any, Any], Any], part: Any, config: Any) -> _Task:
    cpu = time.process_time()
    return _Task(task(part, config), time.process_time() - cpu, _peak_mib())


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _become_worker(folder: Path, ready: Barrier) -> None:
    _become_task(folder)
    ready.wait()


def _become_task(folder: Path) -> None:
    """Give this process a task's environment, load a task's modules, and redirect S3 to the folder."""
    buckets = folder / "s3"
    os.environ |= airflow_environment(os.environ, 1, BUCKETS, folder / "airflow") | {
        "AWS_ENDPOINT_URL": ENDPOINT_URL,
        "BENCHMARK_BUCKETS": str(buckets),
        "PYTHONPATH": os.environ["PYTHONPATH"],
        "TMPDIR": gettempdir(),
    }
    connection = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    connection["extra"]["endpoint_url"] = ENDPOINT_URL
    os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(connection)
    FolderS3(buckets).install()

    from helpers import move_files_to_intermediate_bucket, validate_csv_files  # noqa: F401
    from helpers.aws.clients import s3_client

    # Each client would load the SDK's service models again; a task's process creates only one client.
    share_sdk_files()
    s3_client()
    logging.disable(logging.INFO)


if __name__ == "__main__":
    main()
