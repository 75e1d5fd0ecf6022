"""A local AWS in its own process, and Glue jobs in it."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import boto3
from botocore.config import Config

REPOSITORY = Path(__file__).parents[1]
# The Python of the environment that has moto, even for tests that run in the dashboard's.
PYTHON = REPOSITORY / ".venv" / "bin" / "python"
# Variable with the address of a local AWS that tests in a child process share with their parent.
RUNNING_LOCAL_AWS = "RUNNING_LOCAL_AWS"
ACTIVE_STATES = ("STARTING", "RUNNING", "STOPPING")

# The start of a script that writes below its --OUTPUT, without the seconds that Spark takes.
WRITE_TO_OUTPUT = """
    import os, subprocess, sys, time
    from pathlib import Path

    # Plain Python has no s3:// file system; the runner's settings say where the mirror is.
    def mirror(bucket):
        settings = Path(os.environ["SPARK_LOCAL_DIRS"], "..", "spark.conf").read_text().splitlines()
        key = f"spark.hadoop.fs.viewfs.mounttable.{bucket}.linkFallback "
        uri = next(line for line in settings if line.startswith(key)).removeprefix(key)
        return Path(uri.removeprefix("file://"))

    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    bucket, _, prefix = arguments["--OUTPUT"].removeprefix("s3://").partition("/")
    output = mirror(bucket) / prefix
    output.mkdir(parents=True, exist_ok=True)
"""


def connect(service: str, endpoint_url: str, access_key: str = "test", secret_key: str = "test") -> Any:
    client: Any = boto3.client  # not overloaded by service
    return client(
        service,
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not fulfilled within {seconds} s")
        time.sleep(0.05)
    return result


def process_runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass
class GlueJob:
    """A Glue job with its own buckets."""

    endpoint_url: str
    name: str
    input_bucket: str
    output_bucket: str

    def __post_init__(self) -> None:
        self.s3, self.glue, self.logs = (connect(name, self.endpoint_url) for name in ("s3", "glue", "logs"))

    @property
    def arn(self) -> str:
        return f"arn:aws:glue:us-east-1:123456789012:job/{self.name}"

    @property
    def output_uri(self) -> str:
        return f"s3://{self.output_bucket}/output/"

    def put_script(self, source: str) -> None:
        self.s3.put_object(Bucket=self.input_bucket, Key="artifacts/script.py", Body=dedent(source).encode())

    def start(self, arguments: dict[str, str] | None = None) -> str:
        run_id: str = self.glue.start_job_run(JobName=self.name, Arguments=arguments or {})["JobRunId"]
        return run_id

    def describe(self, run_id: str) -> dict[str, Any]:
        run: dict[str, Any] = self.glue.get_job_run(JobName=self.name, RunId=run_id)["JobRun"]
        return run

    def wait(self, run_id: str) -> dict[str, Any]:
        wait_for(lambda: self.describe(run_id)["JobRunState"] not in ACTIVE_STATES)
        return self.describe(run_id)

    def run(self, source: str, arguments: dict[str, str] | None = None) -> dict[str, Any]:
        self.put_script(source)
        return self.wait(self.start(arguments))

    def read_log(self, run_id: str, stream: str) -> str:
        pages = self.logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws-glue/jobs/{stream}", logStreamNames=[f"{run_id}-driver"]
        )
        return "".join(event["message"] for page in pages for event in page["events"])

    def output(self) -> dict[str, str]:
        entries = self.s3.list_objects_v2(Bucket=self.output_bucket).get("Contents", [])
        return {
            entry["Key"]: self.s3.get_object(Bucket=self.output_bucket, Key=entry["Key"])["Body"]
            .read()
            .decode()
            for entry in entries
        }

    def wait_for_log(self, run_id: str, text: str) -> str:
        def read() -> str:
            try:
                return self.read_log(run_id, "output")
            except self.logs.exceptions.ResourceNotFoundException:
                return ""

        wait_for(lambda: text in read())
        return read()


def make_glue_job(endpoint_url: str) -> GlueJob:
    name = f"job-{uuid.uuid4().hex[:8]}"
    job = GlueJob(endpoint_url, name, f"{name}-in", f"{name}-out")
    for bucket in (job.input_bucket, job.output_bucket):
        job.s3.create_bucket(Bucket=bucket)
    job.glue.create_job(
        Name=name,
        Role="arn:aws:iam::123456789012:role/some-role",
        Command={"Name": "glueetl", "ScriptLocation": f"s3://{job.input_bucket}/artifacts/script.py"},
        ExecutionProperty={"MaxConcurrentRuns": 1},
        DefaultArguments={"--COLOUR": "red", "--SHAPE": "round"},
        GlueVersion="5.1",
        WorkerType="G.1X",
        NumberOfWorkers=2,
    )
    return job


# Between the check of a condition and the write it takes long enough for another request to arrive.
SLOW_SERVER = """
import sys, time
from moto.dynamodb.models.dynamo_type import Item
from moto.glue.models import FakeJobRun
from moto.s3.models import S3Backend

def slow_down(owner, name):
    method = getattr(owner, name)
    def slow_method(*args, **kwargs):
        time.sleep(0.1)
        return method(*args, **kwargs)
    setattr(owner, name, slow_method)

slow_down(S3Backend, "put_object")
slow_down(Item, "__init__")
slow_down(FakeJobRun, "__init__")

from include.local_aws.server import serve
serve("127.0.0.1", 0)
"""


@contextmanager
def running_server(
    command: Sequence[str] = ("-m", "include.local_aws", "serve", "--port", "0"),
    python: str | Path = sys.executable,
    **environment: str,
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run a server on a free port; yield its address and process."""
    process = subprocess.Popen(
        [python, *command],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        greeting = process.stdout.readline()
        assert greeting.startswith("Local AWS is up at http://127.0.0.1:"), greeting + process.stdout.read()
        yield greeting.split()[-1], process
    finally:
        process.terminate()
        process.wait(timeout=60)
