"""The real DAG, its Glue jobs, redrive and doctor under the stack's roles; every request is checked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.contract.keys import run_key_of
from include.local_aws.iam_policies import Request, as_list
from include.local_aws.provision import provision
from local_aws_support import REPOSITORY, running_server
from tests.e2e import data
from tests.e2e.airflow_process import AirflowProcess, DagRunOutcome
from tests.e2e.delivered import Upload
from tests.e2e.deployment import Deployment, connect
from tests.e2e.observed import observe
from tests.e2e.oracle import assert_consistent
from tests.include.conftest import ACCOUNT, ASTRO_ARN, STACK_PARAMETERS, enforced_policies
from tests.include.stack_policies.policies import AIRFLOW_ROLE, GLUE_ROLE, role_statements

SERVER = "tests.include.stack_policies.enforcing_server"
BASE_USER, OPERATOR = "workload-identity", "operator"
# The stack lets both roles read a script here that the pipeline did not upload.
SCRIPT = "artifacts/glue-scripts/v2/glue_script.py"

S3, DYNAMODB = (f"{service}.us-east-1.amazonaws.com" for service in ("s3", "dynamodb"))

# Rights that a run on AWS needs and these runs do not use.
UNSEEN = {
    AIRFLOW_ROLE: {
        ("s3:AbortMultipartUpload", ""): "an upload of several parts that fails",
        ("s3:GetObjectTagging", ""): "tagged files in a bucket without versions",
        ("s3:GetObjectAnnotation", ""): "annotated files, which local AWS does not know",
        ("s3:GetObjectVersionAnnotation", ""): "annotated files, which local AWS does not know",
        ("s3:PutObjectAnnotation", ""): "annotated files, which local AWS does not know",
        ("dynamodb:DeleteItem", ""): "a genre that a day has no more",
        ("kms:GenerateDataKey", DYNAMODB): "one statement for both services",
        ("sqs:ReceiveMessage", ""): "a trigger of Airflow 3, see tests/e2e/test_announced_files.py",
        ("sqs:DeleteMessage", ""): "a trigger of Airflow 3, see tests/e2e/test_announced_files.py",
    },
    GLUE_ROLE: {
        ("s3:AbortMultipartUpload", ""): "an upload of several parts that fails",
        ("s3:DeleteObject", ""): "an earlier attempt's output; Spark's _temporary, which stays in the mirror",
        ("s3:ListBucketMultipartUploads", ""): "S3A's committers, see tests/s3a",
        ("logs:CreateLogGroup", ""): "Glue itself writes the logs, with the job's role",
        ("logs:CreateLogStream", ""): "Glue itself writes the logs, with the job's role",
        ("logs:PutLogEvents", ""): "Glue itself writes the logs, with the job's role",
    },
}
LOOKED_AT_BY_DOCTOR = {"s3:GetBucketVersioning", "s3:GetBucketNotification", "sns:ListSubscriptionsByTopic"}


@dataclass(frozen=True)
class Decision:
    """A right that local AWS required of a caller, given by the name of its role or user."""

    caller: str
    request: Request
    allowed: bool


@dataclass(frozen=True)
class Enforced:
    """The runs with every request checked, by their special feature, and all decisions."""

    pipeline: Pipeline
    doctor: str
    outcomes: dict[str, DagRunOutcome]
    decisions: list[Decision]
    statements: dict[str, list[dict[str, Any]]]


class Pipeline:
    """A pipeline whose Airflow acts as the stack's role; its operator has the rights for redrive."""

    def __init__(self, endpoint_url: str, folder: Path) -> None:
        self.endpoint_url = endpoint_url
        self.deployment = Deployment(
            endpoint_url, provision(endpoint_url, STACK_PARAMETERS), folder / "airflow"
        )
        names = self.deployment.names
        source, archive = (f"arn:aws:s3:::{names[f'{kind}_BUCKET_NAME']}" for kind in ("SOURCE", "ARCHIVE"))
        role_arn = f"arn:aws:iam::{ACCOUNT}:role/{AIRFLOW_ROLE}"
        # Only the address of local AWS is set; the stack's own connection defines the tasks' identity.
        self.environment = self.deployment.environment | {
            "AIRFLOW_CONN_AWS_DEFAULT": names["AIRFLOW_CONN_AWS_DEFAULT"],
            **self._new_user(BASE_USER, {"Action": "sts:AssumeRole", "Resource": role_arn}),
        }
        self.operator = self.deployment.environment | self._new_user(
            OPERATOR,
            {"Action": "s3:ListBucket", "Resource": archive},
            {"Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"{archive}/quarantine/*"},
            {"Action": "s3:ListBucketVersions", "Resource": source},
            {"Action": ["s3:GetObjectVersion", "s3:PutObject"], "Resource": f"{source}/streams/*"},
            {"Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": STACK_PARAMETERS["KmsKeyArn"]},
        )
        # The stack's principal belongs to another account, which local AWS does not have.
        self._iam.update_assume_role_policy(
            RoleName=AIRFLOW_ROLE,
            PolicyDocument=json.dumps(
                self._iam.get_role(RoleName=AIRFLOW_ROLE)["Role"]["AssumeRolePolicyDocument"]
            ).replace(ASTRO_ARN, f"arn:aws:iam::{ACCOUNT}:user/{BASE_USER}"),
        )
        self._airflow = AirflowProcess(self.environment, folder / "airflow.log")

    @property
    def _iam(self) -> Any:
        return connect("iam", self.endpoint_url)

    def _new_user(self, name: str, *statements: dict[str, Any]) -> dict[str, str]:
        self._iam.create_user(UserName=name)
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow"} | one for one in statements]}
        self._iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
        key = self._iam.create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def run_dag(self, *arguments: Any, **settings: str) -> DagRunOutcome:
        with enforced_policies(self.endpoint_url):
            return self._airflow.run_dag(self.environment | settings, *arguments)

    def command(self, environment: dict[str, str], *arguments: str) -> str:
        """Return the command's output; the command must succeed."""
        with enforced_policies(self.endpoint_url):
            return subprocess.run(
                [sys.executable, "-m", *arguments],
                cwd=REPOSITORY,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=True,
            ).stdout

    def let_glue_end(self, state: str | None) -> None:
        """Make Glue runs end immediately in that state or, without a state, run the script."""
        glue, tag = connect("glue", self.endpoint_url), "local-aws:end-state"
        arn = f"arn:aws:glue:us-east-1:{ACCOUNT}:job/{self.deployment.names['GLUE_JOB_NAME']}"
        if state:
            glue.tag_resource(ResourceArn=arn, TagsToAdd={tag: state})
        else:
            glue.untag_resource(ResourceArn=arn, TagsToRemove=[tag])

    def redrive(self, run_key: str, folder: Path, corrected: bytes) -> None:
        """Correct the run's file with a wrong header, and bring it back."""
        command = ("include.redrive", run_key, str(folder))
        assert "Fetched into" in self.command(self.operator, *command)
        [path] = folder.glob("no-header*.csv")
        path.write_bytes(corrected)
        assert "The next run takes the corrected files." in self.command(self.operator, *command)
        resources, key = self.deployment.resources, f"streams/redriven/{run_key}/{path.name}"
        version_id = resources.s3.head_object(Bucket=resources.source_bucket, Key=key)["VersionId"]
        self.deployment.delivered.uploads.append(Upload(key, corrected, version_id))

    @contextmanager
    def changed_policy(
        self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
    ) -> Iterator[None]:
        """Give the role for Airflow other statements temporarily."""
        [name] = self._iam.list_role_policies(RoleName=AIRFLOW_ROLE)["PolicyNames"]
        policy = {"RoleName": AIRFLOW_ROLE, "PolicyName": name}
        document = self._iam.get_role_policy(**policy)["PolicyDocument"]
        changed = document | {"Statement": change(document["Statement"])}
        self._iam.put_role_policy(**policy, PolicyDocument=json.dumps(changed))
        try:
            yield
        finally:
            self._iam.put_role_policy(**policy, PolicyDocument=json.dumps(document))

    def close(self) -> None:
        self._airflow.close()


@pytest.fixture(scope="module")
def enforced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enforced]:
    """A first batch with broken files and rows, a reprocessed day, redrive, a late batch, and failures."""
    folder = tmp_path_factory.mktemp("enforced")
    record = folder / "decisions.jsonl"
    with running_server(("-m", SERVER, str(record))) as (endpoint_url, _):
        pipeline = Pipeline(endpoint_url, folder)
        upload, outcomes = pipeline.deployment.upload, {}
        try:
            pipeline.deployment.upload_all(data.catalogs())
            rows = data.listens(1, 300, data.DAYS)
            upload("streams/good.csv", data.stream_file(rows))
            pipeline.deployment.resources.s3.put_object_tagging(
                Bucket=pipeline.deployment.resources.source_bucket,
                Key="streams/good.csv",
                Tagging={"TagSet": [{"Key": "from", "Value": "elsewhere"}]},
            )
            upload("streams/few-bad-rows.csv", data.stream_file([*rows[:50], ("", "t", "never")]))
            upload("streams/no-header.csv", data.csv_bytes(rows[:5]))
            doctor = pipeline.command(pipeline.environment, "include.doctor")
            outcomes["first batch"] = pipeline.run_dag()
            reprocessing = {"reprocess_dates": data.FIRST_DAY}
            outcomes["reprocessed day"] = pipeline.run_dag(reprocessing, GLUE_NUMBER_OF_WORKERS="3")
            outcomes["day without listens"] = pipeline.run_dag({"reprocess_dates": "1999-01-01"})
            first_run = run_key_of(outcomes["first batch"].run_id)
            pipeline.redrive(first_run, folder / "quarantine", data.stream_file(rows[:5]))
            upload("streams/late.csv", data.stream_file(data.listens(2, 30)))
            script = {"Bucket": pipeline.deployment.resources.intermediate_bucket, "Key": SCRIPT}
            pipeline.deployment.resources.s3.put_object(
                **script, Body=(REPOSITORY / "glue_script" / "glue_script.py").read_bytes()
            )
            outcomes["late and redriven files, script in S3"] = pipeline.run_dag(
                GLUE_SCRIPT_LOCATION=f"s3://{script['Bucket']}/{script['Key']}"
            )
            upload("streams/bad.csv", data.stream_file([("", "t", "never")]))
            outcomes["no valid row"] = pipeline.run_dag()
            upload("streams/last.csv", data.stream_file(data.listens(3, 30)))
            pipeline.let_glue_end("FAILED")
            outcomes["failed Glue job"] = failed = pipeline.run_dag()
            pipeline.let_glue_end(None)
            outcomes["failed Glue job, cleared"] = pipeline.run_dag(None, failed.logical_date)
            decisions = read_decisions(record)
            statements = {role: role_statements(endpoint_url, role) for role in (AIRFLOW_ROLE, GLUE_ROLE)}
            yield Enforced(pipeline, doctor, outcomes, decisions, statements)
        finally:
            pipeline.close()


def read_decisions(file: Path) -> list[Decision]:
    """Return the recorded decisions."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        Decision(
            line["caller"].split("/")[1],
            Request(line["action"], line["resource"], line["context"]),
            line["allowed"],
        )
        for line in lines
    ]


def test_runs_under_the_roles_end_as_they_should(enforced: Enforced) -> None:
    assert {name: outcome.state for name, outcome in enforced.outcomes.items()} == {
        "first batch": "success",
        "reprocessed day": "success",
        "day without listens": "failed",
        "late and redriven files, script in S3": "success",
        "no valid row": "failed",
        "failed Glue job": "failed",
        "failed Glue job, cleared": "success",
    }
    errors = {name: outcome.errors for name, outcome in enforced.outcomes.items()}
    assert "No listens of 1999-01-01" in errors["day without listens"]["prepare_reprocessing"]
    assert "has no valid row" in errors["no valid row"]["move_files_to_intermediate_bucket"]
    assert "ended FAILED" in errors["failed Glue job"]["trigger_glue_job"]
    deployment = enforced.pipeline.deployment
    assert_consistent(deployment.resources, deployment.delivered)
    quarantined = observe(deployment.resources).archived("quarantine/")
    assert {key.rpartition("/")[2].split("__")[0] for key in quarantined} == {
        "no-header",
        "bad",
        "part-00000.csv",
        "reasons.json",
    }


def test_doctor_finds_nothing_wrong_under_the_role(enforced: Enforced) -> None:
    assert (
        "Everything that could be checked is fine" in enforced.doctor or "see the warning" in enforced.doctor
    )
    assert f"assumed-role/{AIRFLOW_ROLE}/" in enforced.doctor
    assert "access denied" not in enforced.doctor


def test_log_of_the_task_ends_with_the_output_of_the_job(enforced: Enforced) -> None:
    log = enforced.outcomes["first batch"].logs["trigger_glue_job"]

    assert "could not be read" not in log
    assert "-driver in /aws-glue/jobs/output:" in log


def test_only_optional_checks_of_doctor_are_refused(enforced: Enforced) -> None:
    refused = {
        (decision.caller, decision.request.action) for decision in enforced.decisions if not decision.allowed
    }

    assert refused == {(AIRFLOW_ROLE, action) for action in LOOKED_AT_BY_DOCTOR}


def test_airflow_and_glue_act_only_as_their_roles(enforced: Enforced) -> None:
    """No other identity can do anything: an unknown key is refused before its rights are checked."""
    asked = {decision.caller: set[str]() for decision in enforced.decisions}
    for decision in enforced.decisions:
        asked[decision.caller].add(decision.request.action.partition(":")[0])

    assert asked == {
        AIRFLOW_ROLE: {"s3", "kms", "dynamodb", "glue", "iam", "logs", "sns", "sqs", "cloudwatch"},
        GLUE_ROLE: {"s3", "kms"},
        BASE_USER: {"sts"},
        OPERATOR: {"s3", "kms"},
    }


@pytest.mark.parametrize("role", [AIRFLOW_ROLE, GLUE_ROLE])
def test_every_right_is_used_or_has_a_reason(enforced: Enforced, role: str) -> None:
    used = {
        (decision.request.action, decision.request.context.get("kms:ViaService", ""))
        for decision in enforced.decisions
        if decision.caller == role and decision.allowed
    }

    granted = {
        (action, service)
        for statement in enforced.statements[role]
        for action in as_list(statement["Action"])
        for service in as_list(
            statement.get("Condition", {}).get("StringEquals", {}).get("kms:ViaService", "")
        )
    }

    assert granted - used == set(UNSEEN[role])


def narrowed(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let Airflow list the archive only below the prefixes that it lists."""
    archive = "arn:aws:s3:::music-streaming-archive"
    [listing] = [statement for statement in statements if statement["Sid"] == "ListBuckets"]
    others = [statement for statement in statements if statement is not listing]
    buckets = [bucket for bucket in listing["Resource"] if bucket != archive]
    prefixes = ["streams/*", "quarantine/*", "listens/*"]
    condition = {"StringLikeIfExists": {"s3:prefix": prefixes}}
    return [
        *others,
        listing | {"Resource": buckets},
        listing | {"Sid": "ListArchive", "Resource": archive, "Condition": condition},
    ]


def test_listing_narrowed_to_prefixes_fails_the_first_task_of_a_new_run(enforced: Enforced) -> None:
    """The manifest that the task reads does not exist yet, and `runs/` is not one of the prefixes."""
    enforced.pipeline.deployment.upload("streams/next.csv", data.stream_file(data.listens(4, 10)))

    with enforced.pipeline.changed_policy(narrowed):
        outcome = enforced.pipeline.run_dag()

    assert outcome.task_states["sense_streaming_data"] == "failed"
    assert "AccessDenied" in outcome.errors["sense_streaming_data"]
    assert "GetObject" in outcome.errors["sense_streaming_data"]
    assert outcome.task_states["list_stream_files"] == "upstream_failed"
