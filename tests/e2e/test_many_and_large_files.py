"""More files than one S3 listing returns, and a file that is larger than it looks."""

from __future__ import annotations

import gzip
import io
import resource
from pathlib import Path

import pytest

from tests.e2e import data
from tests.e2e.conftest import MakeRunner
from tests.e2e.data import DAYS, FIRST_DAY
from tests.e2e.deployment import Deployment
from tests.e2e.oracle import assert_consistent
from tests.e2e.pipeline_runner import PipelineRunner
from tests.e2e.processes import become, single_process

FILES = 1_050
MEBIBYTE = 1024**2
UNPACKED_BYTES = 512 * MEBIBYTE
INGEST = (
    "list_stream_files",
    "extract_and_combine_streams",
    "validate_csv_files",
    "move_files_to_intermediate_bucket",
)


@pytest.mark.scenarios(11)
def test_more_files_than_one_s3_listing_returns_are_all_processed(
    deployment: Deployment, make_runner: MakeRunner
) -> None:
    deployment.upload_all(data.catalogs())
    rows = data.listens(1, 2 * FILES, DAYS)
    for number in range(FILES):
        deployment.upload(f"streams/{number:04}.csv", data.stream_file(rows[2 * number : 2 * number + 2]))
    runner = make_runner(deployment)

    report = runner.run()

    assert len(runner.results["list_stream_files"]) == 2
    assert report["totals"]["archived"] == FILES
    assert report["totals"]["new"] == len(set(rows))
    assert_consistent(deployment.resources, deployment.delivered)


@pytest.mark.scenarios(22)
def test_gzip_bomb_is_ingested_in_bounded_memory(deployment: Deployment, tmp_path: Path) -> None:
    row = f"u1,quoted,{FIRST_DAY} 10:00:00,{'x' * 5_000}\n".encode()
    rows = UNPACKED_BYTES // len(row)
    bomb = io.BytesIO()
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(b"user_id,track_id,listen_time,comment\n")
        for _ in range(rows):
            file.write(row)
    assert len(bomb.getvalue()) < UNPACKED_BYTES / 100
    deployment.upload_all({**data.catalogs(), "streams/small.csv": data.stream_file(data.listens(1, 100))})
    settings = (deployment.endpoint_url, deployment.names, deployment.airflow_home)

    with single_process(become, deployment.environment, tmp_path / "log") as process:
        of_small_file, _ = process.submit(_ingest, *settings, "small").result()
        deployment.upload("streams/bomb.csv.gz", bomb.getvalue())
        of_bomb, validated = process.submit(_ingest, *settings, "bomb").result()

    assert validated["rows"] == validated["valid"] == rows + 100
    assert of_bomb - of_small_file < UNPACKED_BYTES / 2


def _ingest(
    endpoint_url: str, names: dict[str, str], airflow_home: Path, run_id: str
) -> tuple[int, dict[str, int]]:
    """Run the tasks up to the Glue job; return this process' peak memory in bytes, and the counts."""
    deployment = Deployment(endpoint_url, names, airflow_home)
    runner = PipelineRunner(deployment, lambda *_: None, run_id)
    for task_id in INGEST:
        runner.run_task(task_id)
    return _peak_memory(), runner.results["validate_csv_files"][0]


def _peak_memory() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux, getrusage gives a new process the peak of its parent.
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024
