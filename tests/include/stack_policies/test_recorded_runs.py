"""The real DAG and its Glue jobs under the roles of the stack: S3 requests checked, all calls recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from include.local_aws.provision import provision
from local_aws_support import running_server
from tests.e2e import data
from tests.e2e.airflow_process import AirflowProcess, DagRunOutcome
from tests.e2e.deployment import Deployment, connect
from tests.e2e.observed import observe
from tests.e2e.oracle import assert_consistent
from tests.include.conftest import ACCOUNT, STACK_PARAMETERS, enforced_policies
from tests.include.stack_policies.aws_calls import key_requests_of, requests_of
from tests.include.stack_policies.evaluator import Request, as_list, is_allowed
from tests.include.stack_policies.policies import AIRFLOW_ROLE, GLUE_ROLE, role_statements
from tests.include.stack_policies.recorder import Call, read_calls, record_calls

SERVER = "tests.include.stack_policies.enforcing_server"
SCRIPT_KEY = "artifacts/glue-scripts/glue_script.py"
BASE_KEY = "of-the-workload-identity"

# What a run on AWS needs and these runs do not show.
UNSEEN = {
    AIRFLOW_ROLE: {
        "s3:AbortMultipartUpload": "an upload of several parts that fails",
        "s3:GetObjectTagging": "tagged files in a bucket without versions",
        "dynamodb:DeleteItem": "a genre that a day has no more",
    },
    GLUE_ROLE: {
        "s3:AbortMultipartUpload": "an upload of several parts that fails",
        "s3:DeleteObject": "an earlier attempt's output; Spark's _temporary, which stays in the mirror",
        "logs:CreateLogGroup": "Glue itself writes the logs, with the job's role",
        "logs:CreateLogStream": "Glue itself writes the logs, with the job's role",
        "logs:PutLogEvents": "Glue itself writes the logs, with the job's role",
    },
}


@dataclass(frozen=True)
class Recorded:
    """Runs of the DAG, and the calls that Airflow and the Glue jobs made for them, by role."""

    deployment: Deployment
    outcomes: list[DagRunOutcome]
    calls: dict[str, list[Call]]
    statements: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """A delivery with broken files and rows, a day computed again with more workers, and a run that fails."""
    folder = tmp_path_factory.mktemp("recorded")
    airflow_file, glue_file = folder / "airflow.jsonl", folder / "glue.jsonl"
    with running_server(("-m", SERVER, str(glue_file))) as (endpoint_url, _):
        deployment = Deployment(endpoint_url, provision(endpoint_url, STACK_PARAMETERS), folder / "airflow")
        # Of local AWS there is only its address; who the tasks are comes from the stack's own connection.
        environment = deployment.environment | {
            "AIRFLOW_CONN_AWS_DEFAULT": deployment.names["AIRFLOW_CONN_AWS_DEFAULT"],
            "AWS_ACCESS_KEY_ID": BASE_KEY,
        }
        airflow = AirflowProcess(environment, folder / "airflow.log")
        try:
            airflow._pool.submit(record_calls, airflow_file).result()
            deployment.upload_all(data.catalogs())
            rows = data.listens(1, 300, data.DAYS)
            deployment.upload("streams/good.csv", data.stream_file(rows))
            deployment.upload("streams/few-bad-rows.csv", data.stream_file([*rows[:50], ("", "t", "never")]))
            deployment.upload("streams/no-header.csv", data.csv_bytes(rows[:5]))
            outcomes = []
            with enforced_policies(endpoint_url):
                outcomes.append(airflow.run_dag(environment))
                larger = environment | {"GLUE_NUMBER_OF_WORKERS": "3"}
                outcomes.append(airflow.run_dag(larger, {"reprocess_dates": data.FIRST_DAY}))
                outcomes.append(airflow.run_dag(environment, {"reprocess_dates": "1999-01-01"}))
        finally:
            airflow.close()
        yield Recorded(
            deployment,
            outcomes,
            {AIRFLOW_ROLE: read_calls(airflow_file), GLUE_ROLE: read_calls(glue_file)},
            {role: role_statements(endpoint_url, role) for role in (AIRFLOW_ROLE, GLUE_ROLE)},
        )


def acted(calls: list[Call]) -> list[Call]:
    """Return the calls made as the role: all but the one by which it was assumed."""
    return [call for call in calls if call.service != "sts"]


def test_runs_under_the_roles_end_as_they_should(recorded: Recorded) -> None:
    assert [outcome.state for outcome in recorded.outcomes] == ["success", "success", "failed"]
    assert "No listens of 1999-01-01" in recorded.outcomes[-1].errors["prepare_reprocessing"]
    assert_consistent(recorded.deployment.resources, recorded.deployment.delivered)
    archive = observe(recorded.deployment.resources).archived
    assert len(archive("quarantine/")) == 4, "a whole file and single rows, each with its reasons"


def test_airflow_and_glue_act_only_as_their_roles(recorded: Recorded) -> None:
    for role, calls in recorded.calls.items():
        assert {call.access_key for call in acted(calls)}.isdisjoint({BASE_KEY, "local"}), role
    assumed = [call for call in recorded.calls[AIRFLOW_ROLE] if call.service == "sts"]
    assert {call.access_key for call in assumed} == {BASE_KEY}
    assert {call.parameters["RoleArn"] for call in assumed} == {f"arn:aws:iam::{ACCOUNT}:role/{AIRFLOW_ROLE}"}


@pytest.mark.parametrize("role", [AIRFLOW_ROLE, GLUE_ROLE])
def test_every_call_is_allowed_by_the_role_that_makes_it(recorded: Recorded, role: str) -> None:
    calls = acted(recorded.calls[role])
    source = recorded.deployment.resources.source_bucket

    refused = {
        (call.operation, request.action, request.resource)
        for call in calls
        for request in [*requests_of(call, source), *key_requests_of(call)]
        if not is_allowed(request, recorded.statements[role])
    }

    assert calls
    assert refused == set()


@pytest.mark.parametrize("role", [AIRFLOW_ROLE, GLUE_ROLE])
def test_every_right_is_used_or_has_a_reason(recorded: Recorded, role: str) -> None:
    source = recorded.deployment.resources.source_bucket
    used = {
        (request.action, request.context.get("kms:ViaService", ""))
        for call in acted(recorded.calls[role])
        for request in [*requests_of(call, source), *key_requests_of(call)]
    }

    granted = {
        (action, service)
        for statement in recorded.statements[role]
        for action in as_list(statement["Action"])
        for service in as_list(
            statement.get("Condition", {}).get("StringEquals", {}).get("kms:ViaService", "")
        )
    }

    assert granted - used == {(action, "") for action in UNSEEN[role]}


def client_of(deployment: Deployment, role: str) -> Any:
    """Return an S3 client that acts as the role."""
    sts = connect("sts", deployment.endpoint_url)
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    credentials = sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    return boto3.client(
        "s3",
        endpoint_url=deployment.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )


@pytest.mark.parametrize(
    ("role", "bucket", "prefix"),
    [
        (AIRFLOW_ROLE, "ARCHIVE_BUCKET_NAME", "listens/"),
        (AIRFLOW_ROLE, "INTERMEDIATE_BUCKET_NAME", "artifacts/"),
        (GLUE_ROLE, "ARCHIVE_BUCKET_NAME", "quarantine/"),
        (GLUE_ROLE, "ARCHIVE_BUCKET_NAME", "streams/"),
        (GLUE_ROLE, "SOURCE_BUCKET_NAME", "songs/"),
    ],
)
def test_local_s3_refuses_what_the_role_must_not_read(
    recorded: Recorded, role: str, bucket: str, prefix: str
) -> None:
    deployment = recorded.deployment
    s3 = client_of(deployment, role)
    listed = deployment.resources.s3.list_objects_v2(Bucket=deployment.names[bucket], Prefix=prefix)
    target = {"Bucket": deployment.names[bucket], "Key": listed["Contents"][0]["Key"]}

    with enforced_policies(deployment.endpoint_url), pytest.raises(ClientError) as refusal:
        s3.get_object(**target)

    assert refusal.value.response["Error"]["Code"] == "AccessDenied"
    assert not is_allowed(
        Request("s3:GetObject", f"arn:aws:s3:::{target['Bucket']}/{target['Key']}"),
        recorded.statements[role],
    )


def test_local_s3_asks_a_copy_and_a_look_at_a_version_for_their_rights(recorded: Recorded) -> None:
    """So that the runs, which end well, show that the roles have these."""
    deployment = recorded.deployment
    archive = deployment.names["ARCHIVE_BUCKET_NAME"]
    history = deployment.resources.s3.list_objects_v2(Bucket=archive, Prefix="listens/")["Contents"][0]["Key"]
    script = {"Bucket": deployment.names["INTERMEDIATE_BUCKET_NAME"], "Key": SCRIPT_KEY}
    [version] = deployment.resources.s3.list_object_versions(Bucket=script["Bucket"], Prefix=SCRIPT_KEY)[
        "Versions"
    ][:1]
    airflow, glue = (client_of(deployment, role) for role in (AIRFLOW_ROLE, GLUE_ROLE))

    with enforced_policies(deployment.endpoint_url):
        with pytest.raises(ClientError, match="AccessDenied"):
            airflow.copy_object(
                Bucket=archive, Key="quarantine/copied", CopySource={"Bucket": archive, "Key": history}
            )
        assert glue.head_object(**script)["ContentLength"]
        with pytest.raises(ClientError, match="403"):
            glue.head_object(**script, VersionId=version["VersionId"])
