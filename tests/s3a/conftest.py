"""Fixtures of the S3A tests: a local AWS that enforces the roles, whose Glue jobs use S3A."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from include.commands.environment import REGION, ROOT
from include.local_aws.provision import provision
from local_aws_support import ACTIVE_STATES, running_server
from tests.e2e.deployment import Deployment, connect
from tests.glue_script.glue_job_support import JobFolder
from tests.include.conftest import ACCOUNT, STACK_PARAMETERS, enforced_policies
from tests.include.stack_policies.policies import AIRFLOW_ROLE, GLUE_ROLE
from tests.s3a.documented import undocumented

SCRIPT_KEY = "artifacts/glue-scripts/glue_script.py"
# Spark's default committer writes files below `_temporary` and copies them to their places.
FILE_COMMITTER: dict[str, str] = {}
# The open committer that is closest to Glue's: multipart uploads, completed when the job commits.
MAGIC_COMMITTER = {
    "spark.hadoop.fs.s3a.committer.name": "magic",
    "spark.hadoop.mapreduce.outputcommitter.factory.scheme.s3": (
        "org.apache.hadoop.fs.s3a.commit.S3ACommitterFactory"
    ),
    "spark.sql.sources.commitProtocolClass": "org.apache.spark.internal.io.cloud.PathOutputCommitProtocol",
    "spark.sql.parquet.output.committer.class": (
        "org.apache.spark.internal.io.cloud.BindingParquetOutputCommitter"
    ),
}


@dataclass(frozen=True)
class S3aAws:
    """The stack in a local AWS whose Glue jobs use S3A.

    Attributes:
        deployment: the pipeline of the stack.
        folder: the server's input and output files.
        airflow: the variables of a process that acts as Airflow's role.
        glue: a client that acts as Airflow's role.
    """

    deployment: Deployment
    folder: Path
    airflow: dict[str, str]
    glue: Any

    def control(self, spark: dict[str, str], stop_at: tuple[str, int] | None = None) -> None:
        """Set the properties of Spark for the next jobs, and when one is killed; see `server`."""
        control = {"spark": spark, **({"stop_at": stop_at} if stop_at else {})}
        unfinished = self.folder / "control.unfinished"
        unfinished.write_text(json.dumps(control))
        unfinished.rename(self.folder / "control.json")

    def requests(self, start: int = 0) -> list[dict[str, Any]]:
        """Return S3A's requests without the first ones."""
        file = self.folder / "requests.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()[start:]] if file.exists() else []

    def run_job(self, arguments: dict[str, str]) -> dict[str, Any]:
        """Run the Glue job, policies enforced, to its end; return the run."""
        name = self.deployment.names["GLUE_JOB_NAME"]
        with enforced_policies(self.deployment.endpoint_url):
            run_id = self.glue.start_job_run(JobName=name, Arguments=arguments)["JobRunId"]
            while True:
                run: dict[str, Any] = self.glue.get_job_run(JobName=name, RunId=run_id)["JobRun"]
                if run["JobRunState"] not in ACTIVE_STATES:
                    return run
                time.sleep(0.5)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys in the intermediate bucket."""
        resources = self.deployment.resources
        pages = resources.s3.get_paginator("list_objects_v2").paginate(
            Bucket=resources.intermediate_bucket, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def uploads(self) -> list[dict[str, Any]]:
        """Return the unfinished uploads to the intermediate bucket."""
        resources = self.deployment.resources
        found = resources.s3.list_multipart_uploads(Bucket=resources.intermediate_bucket)
        uploads: list[dict[str, Any]] = found.get("Uploads", [])
        return uploads


@pytest.fixture(scope="session")
def s3a_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3aAws]:
    folder = tmp_path_factory.mktemp("s3a")
    with running_server(("-m", "tests.s3a.server", str(folder))) as (endpoint_url, _):
        deployment = Deployment(endpoint_url, provision(endpoint_url, STACK_PARAMETERS), folder / "airflow")
        names, s3 = deployment.names, deployment.resources.s3
        script = (ROOT / "glue_script" / "glue_script.py").read_bytes()
        s3.put_object(Bucket=names["INTERMEDIATE_BUCKET_NAME"], Key=SCRIPT_KEY, Body=script)
        # Assumed while local AWS checks nothing, because it lacks the principal that the stack trusts.
        role = connect("sts", endpoint_url).assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{AIRFLOW_ROLE}", RoleSessionName="test"
        )["Credentials"]
        credentials = {
            "aws_access_key_id": role["AccessKeyId"],
            "aws_secret_access_key": role["SecretAccessKey"],
            "aws_session_token": role["SessionToken"],
        }
        airflow = {
            **deployment.environment,
            **{name.upper(): value for name, value in credentials.items()},
            # It uses the credentials of the environment.
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({"conn_type": "aws"}),
        }
        glue = boto3.client("glue", endpoint_url=endpoint_url, region_name=REGION, **credentials)
        location = f"s3://{names['INTERMEDIATE_BUCKET_NAME']}/{SCRIPT_KEY}"
        glue.create_job(
            Name=names["GLUE_JOB_NAME"],
            Role=GLUE_ROLE,
            Command={"Name": "glueetl", "ScriptLocation": location},
            GlueVersion="5.1",
        )
        yield S3aAws(deployment, folder, airflow, glue)


@pytest.fixture
def s3a_aws(s3a_server: S3aAws) -> S3aAws:
    """The local AWS, with nothing but the script in the buckets that its jobs see."""
    resources = s3a_server.deployment.resources
    for upload in s3a_server.uploads():
        resources.s3.abort_multipart_upload(
            Bucket=resources.intermediate_bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )
    temporary = [(resources.intermediate_bucket, prefix) for prefix in ("runs/", "snapshots/")]
    for bucket, prefix in (*temporary, (resources.archive_bucket, "")):
        pages = resources.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                resources.s3.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
    return s3a_server


class S3aJobFolder(JobFolder):
    """Folders in S3: a run uploads input and history, and downloads the output."""

    def __init__(self, root: Path, aws: S3aAws, spark_settings: dict[str, str]) -> None:
        super().__init__(root)
        self.aws, self.spark_settings = aws, spark_settings
        self.requests: list[dict[str, Any]] = []

    def run(
        self,
        batch_id: str = "batch-12345678",
        reprocess_dates: str = "",
        stop_at: tuple[str, int] | None = None,
    ) -> None:
        """Run the job, policies enforced; with `stop_at` it is killed."""
        resources = self.aws.deployment.resources
        prefix = f"runs/{batch_id}"
        self._upload(self.source, resources.intermediate_bucket, f"{prefix}/input")
        self._upload(self.history, resources.archive_bucket, "listens")
        arguments = {
            "--S3_SOURCE_PATH": f"s3://{resources.intermediate_bucket}/{prefix}/input/",
            "--S3_HISTORY_PATH": f"s3://{resources.archive_bucket}/listens/",
            "--S3_SNAPSHOTS_PATH": f"s3://{resources.intermediate_bucket}/snapshots/",
            "--S3_OUTPUT_PATH": f"s3://{resources.intermediate_bucket}/{prefix}/output/",
            "--BATCH_ID": batch_id,
            **({"--REPROCESS_DATES": reprocess_dates} if reprocess_dates else {}),
        }
        seen = len(self.aws.requests())
        self.aws.control(self.spark_settings, stop_at)
        run = self.aws.run_job(arguments)
        self.requests = self.aws.requests(seen)
        assert run["JobRunState"] == ("STOPPED" if stop_at else "SUCCEEDED"), run.get("ErrorMessage")
        assert [request for request in self.requests if request["status"] == 403] == []
        assert undocumented(self.requests) == set()
        self._download(f"{prefix}/output")

    def leftovers(self, batch_id: str = "batch-12345678") -> list[str]:
        """Return the output's objects except the summary and those that it names."""
        prefix = f"runs/{batch_id}/output/"
        keys = [key.removeprefix(prefix) for key in self.aws.keys(prefix)]
        return sorted(set(keys) - self.summary()["objects"].keys() - {"summary.json"})

    def _upload(self, folder: Path, bucket: str, prefix: str) -> None:
        for path in sorted(folder.rglob("*.*")):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                self.aws.deployment.resources.s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())

    def _download(self, prefix: str) -> None:
        resources = self.aws.deployment.resources
        shutil.rmtree(self.output, ignore_errors=True)
        for key in self.aws.keys(prefix):
            if not key.endswith("/"):
                path = self.output / key.removeprefix(f"{prefix}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                found = resources.s3.get_object(Bucket=resources.intermediate_bucket, Key=key)
                path.write_bytes(found["Body"].read())


@pytest.fixture
def make_job(s3a_aws: S3aAws, tmp_path: Path) -> Callable[[dict[str, str]], S3aJobFolder]:
    """Makes the folders of a job with these properties of Spark."""
    return partial(S3aJobFolder, tmp_path, s3a_aws)
