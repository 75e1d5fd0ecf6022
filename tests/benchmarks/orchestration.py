"""The cost of orchestration: a run under Airflow's scheduler compared with direct calls of the same helpers.

Both have the same files, the same local AWS and the same Glue job with its own Spark. A size is the number of
files that have arrived. The scheduler is that of `make up`, in a copy of the project.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from include.commands.environment import DAG_ID, ROOT, UI_PASSWORD, UI_USER, endpoint_url
from include.local_aws.provision import provision
from include.sample_data import write_sample_data
from tests.benchmarks.harness import Measurement
from tests.e2e.deployment import Deployment, connect, deploy
from tests.e2e.pipeline_runner import PipelineRunner

PART = "orchestration"
SIZES = ("1", "100", "10000")
LISTENS = 20_000
COPIED = ("dags", "plugins", "include", "glue_script", "dashboard")
CLEAN_ROW = r"\w+,\w+,\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
RUN_SECONDS = 3600
WHOLE = "arrival to KPIs in the table"
LAST = "store_kpis_in_dynamodb"


def check_size(size: str) -> None:
    """Check that the size is a number of files.

    Raises:
        ValueError: it is not.
    """
    if not size.isdecimal() or not 1 <= int(size) <= LISTENS:
        raise ValueError(f"{size} is not a number of files from 1 to {LISTENS}")


def measure(size: str, repeat: int, folder: Path) -> list[Measurement]:
    """Measure runs over `size` small files, as a whole and task by task."""
    write_sample_data(folder / "sample")
    files = split_listens(folder / "sample", int(size))
    catalogs = {
        path.relative_to(folder / "sample").as_posix(): path.read_bytes()
        for name in ("songs", "users")
        for path in (folder / "sample" / name).iterdir()
    }
    facts: dict[str, object] = {"listens": LISTENS, "kB": sum(map(len, files.values())) // 1000}
    measured: dict[tuple[str, str], Measurement] = {}

    def note(contender: str, seconds: dict[str, float]) -> None:
        for case, value in seconds.items():
            of_case = f"{size} files: {case}"
            entry = measured.setdefault((case, contender), Measurement(PART, of_case, contender, facts=facts))
            entry.seconds.append(value)

    with scheduler(folder / "project") as (aws_port, call):
        address = endpoint_url(aws_port)
        stack = provision(address)
        for number in range(repeat):
            of_stack = Deployment(address, stack, folder)
            upload(of_stack, {f"streams/{number}-{name}": content for name, content in files.items()})
            note("Airflow's scheduler", run_under_scheduler(call))
            alone = deploy(address, folder / "airflow", stack)
            upload(alone, catalogs)
            upload(alone, {f"streams/{name}": content for name, content in files.items()})
            note("the helpers alone", run_helpers(alone, stack["GLUE_JOB_NAME"], number))
    # Compares both contenders task by task.
    cases = list(dict.fromkeys(case for case, _ in measured))
    return [entry for case in cases for (of_case, _), entry in measured.items() if of_case == case]


def split_listens(sample: Path, number: int) -> dict[str, bytes]:
    """Return `LISTENS` of the sample's listens as that many CSV files, by name."""
    paths = sorted((sample / "streams").glob("*.csv"))
    header = paths[0].read_text().splitlines()[0]
    lines = [line for path in paths for line in path.read_text().splitlines()[1:]]
    # The sample's broken rows are left out: a small file with one would be quarantined.
    lines = [line for line in lines if re.fullmatch(CLEAN_ROW, line)][:LISTENS]
    return {
        f"{index:05}.csv": "\n".join([header, *lines[index::number], ""]).encode() for index in range(number)
    }


def upload(deployment: Deployment, objects: dict[str, bytes]) -> None:
    """Put the objects into the source bucket."""
    s3, bucket = deployment.resources.s3, deployment.resources.source_bucket
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: s3.put_object(Bucket=bucket, Key=item[0], Body=item[1]), objects.items()))


@contextmanager
def scheduler(project: Path) -> Iterator[tuple[int, Callable[..., Any]]]:
    """Start the services of `make up`; after the first run, yield local AWS's port and a REST function."""
    project.mkdir()
    for name in COPIED:
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    (project / ".venv-dashboard").symlink_to(ROOT / ".venv-dashboard")
    aws_port, web_port = _free_port(), _free_port()

    def command(*arguments: str) -> None:
        argv = [sys.executable, "-m", "include.commands", *arguments]
        done = subprocess.run(argv, cwd=project, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")

    def call(method: str, path: str, **arguments: Any) -> Any:
        url = f"http://127.0.0.1:{web_port}/api/v1/dags/{DAG_ID}/{path}"
        answer = requests.request(method, url, auth=(UI_USER, UI_PASSWORD), timeout=60, **arguments)
        answer.raise_for_status()
        return answer.json()

    try:
        ports = {"--aws-port": aws_port, "--web-port": web_port, "--dashboard-port": _free_port()}
        command("up", *(str(part) for option in ports.items() for part in option))
        while not (runs := call("GET", "dagRuns")["dag_runs"]):
            time.sleep(1)
        wait_for_end(call, runs[0]["dag_run_id"])
        yield aws_port, call
    finally:
        command("down")


def wait_for_end(call: Callable[..., Any], run_id: str) -> None:
    """Wait until the run has ended.

    Raises:
        RuntimeError: it failed, or takes longer than `RUN_SECONDS`.
    """
    deadline = time.monotonic() + RUN_SECONDS
    while (state := call("GET", f"dagRuns/{run_id}")["state"]) != "success":
        if state == "failed" or time.monotonic() > deadline:
            raise RuntimeError(f"DAG run {run_id} is {state} instead of a success")
        time.sleep(1)


def run_under_scheduler(call: Callable[..., Any]) -> dict[str, float]:
    """Trigger a run on the arrived files; return its seconds by task, up to the KPIs and after."""
    arrived = time.time()
    run_id = call("POST", "dagRuns", json={})["dag_run_id"]
    wait_for_end(call, run_id)
    instances = call("GET", f"dagRuns/{run_id}/taskInstances?limit=1000")["task_instances"]
    ran = [instance for instance in instances if instance["state"] == "success"]
    spans: dict[str, tuple[float, float]] = {}
    for instance in ran:
        begin, end = (_seconds(instance[name]) for name in ("start_date", "end_date"))
        earlier = spans.get(instance["task_id"], (begin, end))
        spans[instance["task_id"]] = (min(begin, earlier[0]), max(end, earlier[1]))
    by_task = {task: end - begin for task, (begin, end) in sorted(spans.items(), key=lambda item: item[1])}
    return {WHOLE: spans[LAST][1] - arrived, **by_task}


def run_helpers(deployment: Deployment, glue_job: str, number: int) -> dict[str, float]:
    """Call the tasks' functions one after the other; return their seconds in total and by task."""
    glue = connect("glue", deployment.endpoint_url)

    def run_glue_script(address: str, arguments: dict[str, str]) -> None:
        run = glue.start_job_run(JobName=glue_job, Arguments=arguments)["JobRunId"]
        while (state := _glue_state(glue, glue_job, run)) in ("STARTING", "RUNNING"):
            time.sleep(0.2)
        if state != "SUCCEEDED":
            raise RuntimeError(f"Glue run {run} ended {state}")

    runner = PipelineRunner(deployment, run_glue_script, f"manual__2024-07-01T00:00:00+00:00_{number}")
    started = time.monotonic()
    by_task: dict[str, float] = {}
    whole = 0.0
    for task_id in runner.task_ids:
        begin = time.monotonic()
        runner.run_task(task_id)
        by_task[task_id] = time.monotonic() - begin
        if task_id == LAST:
            whole = time.monotonic() - started
    return {WHOLE: whole, **by_task}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _glue_state(glue: Any, job: str, run: str) -> str:
    state: str = glue.get_job_run(JobName=job, RunId=run)["JobRun"]["JobRunState"]
    return state


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
