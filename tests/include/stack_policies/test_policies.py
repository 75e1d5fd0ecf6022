"""What the roles of the stack may do, and above all what not."""

import json
from pathlib import Path
from typing import Any

import cfnlint  # type: ignore[import-untyped]
import pytest

from helpers.run_key import run_key_of
from local_aws_support import connect
from tests.include.conftest import ACCOUNT, KEY_ARN, DeployedStack
from tests.include.stack_policies.aws_calls import requests_of
from tests.include.stack_policies.evaluator import Request, applies, as_list, is_allowed
from tests.include.stack_policies.policies import AIRFLOW_ROLE, GLUE_ROLE, role_statements
from tests.include.stack_policies.recorder import Call
from tests.include.test_stack import properties

SOURCE, INTERMEDIATE, ARCHIVE = (
    f"arn:aws:s3:::music-streaming-{kind}" for kind in ("source", "intermediate", "archive")
)
TABLE = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/music_kpis_table"
JOBS = f"arn:aws:glue:us-east-1:{ACCOUNT}:job"
ROLES = f"arn:aws:iam::{ACCOUNT}:role"
LOGS = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group"

# Each resource with a wildcard, and why it cannot be narrower.
ONE_RUN = "the name of the run comes between"
OBJECT_NAMES = "the objects below the prefix have names of their deliverer, their run or their day"
WILDCARDS = {
    "*": "metrics have no ARN; the statement is bound to one namespace",
    f"{SOURCE}/streams/*": OBJECT_NAMES,
    f"{SOURCE}/songs/*": OBJECT_NAMES,
    f"{SOURCE}/users/*": OBJECT_NAMES,
    f"{INTERMEDIATE}/runs/*": OBJECT_NAMES,
    f"{INTERMEDIATE}/runs/*/input/*": ONE_RUN,
    f"{INTERMEDIATE}/runs/*/output": ONE_RUN,
    f"{INTERMEDIATE}/runs/*/output/*": ONE_RUN,
    f"{INTERMEDIATE}/runs*_$folder$": "empty markers, of the output and of the folders above it",
    f"{INTERMEDIATE}/runs/*-????????": "the folder of a run, which is no object; its name ends with a hash",
    f"{ARCHIVE}/runs/*": OBJECT_NAMES,
    f"{ARCHIVE}/listens/*": OBJECT_NAMES,
    f"{ARCHIVE}/streams/*": OBJECT_NAMES,
    f"{ARCHIVE}/quarantine/*": OBJECT_NAMES,
    f"{LOGS}:/aws-glue/jobs/*": "Glue has a log group for output and one for errors, the same for all jobs",
    f"{LOGS}:/aws-glue/*": "Glue chooses the group by version and kind of the log",
}


@pytest.fixture(scope="module")
def statements(full_stack: DeployedStack) -> dict[str, list[dict[str, Any]]]:
    """The statements of both roles, with those for a key."""
    return {role: role_statements(full_stack.endpoint_url, role) for role in (AIRFLOW_ROLE, GLUE_ROLE)}


def description_of(action: str) -> dict[str, Any] | None:
    """Return what cfn-lint knows of the action: its types of resources, where it has any."""
    file = Path(cfnlint.__file__).parent / "data" / "AdditionalSpecs" / "Policies.json"
    service, name = action.split(":")
    found: dict[str, Any] | None = json.loads(file.read_text())[service]["Actions"].get(name.lower())
    return found


def test_every_statement_names_its_actions_one_by_one(statements: dict[str, list[dict[str, Any]]]) -> None:
    for statement in [*statements[AIRFLOW_ROLE], *statements[GLUE_ROLE]]:
        for action in as_list(statement["Action"]):
            assert description_of(action) is not None, f"{statement['Sid']}: {action}"


def test_only_listed_resources_have_a_wildcard(statements: dict[str, list[dict[str, Any]]]) -> None:
    resources = {
        resource
        for role in statements
        for statement in statements[role]
        for resource in as_list(statement["Resource"])
    }

    assert {resource for resource in resources if "*" in resource or "?" in resource} == WILDCARDS.keys()


def test_right_to_everything_is_one_that_aws_gives_no_narrower(
    statements: dict[str, list[dict[str, Any]]],
) -> None:
    [statement] = [s for role in statements for s in statements[role] if s["Resource"] == "*"]

    assert description_of(statement["Action"]) == {}
    assert statement["Condition"] == {"StringEquals": {"cloudwatch:namespace": "MusicStreamingPipeline"}}


def test_statements_have_names_of_their_own(statements: dict[str, list[dict[str, Any]]]) -> None:
    for role in statements:
        sids = [statement["Sid"] for statement in statements[role]]
        assert len(sids) == len(set(sids))


def test_only_glue_may_assume_the_glue_role(full_stack: DeployedStack) -> None:
    role = connect("iam", full_stack.endpoint_url).get_role(RoleName=GLUE_ROLE)["Role"]

    assert role["AssumeRolePolicyDocument"]["Statement"] == [
        {"Effect": "Allow", "Principal": {"Service": "glue.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]


RUN = f"runs/{run_key_of('scheduled__2024-06-25T00:00:00+00:00')}"

# Each a call outside of what the pipeline does: who, action, resource, condition keys.
REFUSED: list[tuple[str, str, str, dict[str, str]]] = [
    # Glue: of the source nothing, of the history only reading, of the archive nothing else.
    (GLUE_ROLE, "s3:GetObject", f"{SOURCE}/streams/a.csv", {}),
    (GLUE_ROLE, "s3:GetObject", f"{SOURCE}/songs/songs.csv", {}),
    (GLUE_ROLE, "s3:ListBucket", SOURCE, {"s3:prefix": "streams/"}),
    (GLUE_ROLE, "s3:PutObject", f"{ARCHIVE}/listens/listen_date=2024-06-25/a.parquet", {}),
    (GLUE_ROLE, "s3:DeleteObject", f"{ARCHIVE}/listens/listen_date=2024-06-25/a.parquet", {}),
    (GLUE_ROLE, "s3:DeleteObjectVersion", f"{ARCHIVE}/listens/listen_date=2024-06-25/a.parquet", {}),
    (GLUE_ROLE, "s3:GetObject", f"{ARCHIVE}/quarantine/r/a.csv", {}),
    (GLUE_ROLE, "s3:GetObject", f"{ARCHIVE}/streams/2024-06-25/a.csv", {}),
    (GLUE_ROLE, "s3:GetObject", f"{ARCHIVE}/runs/r/report.json", {}),
    (GLUE_ROLE, "s3:ListBucket", ARCHIVE, {"s3:prefix": "quarantine/"}),
    (GLUE_ROLE, "s3:ListBucket", ARCHIVE, {"s3:prefix": ""}),
    (GLUE_ROLE, "s3:PutObject", f"{INTERMEDIATE}/{RUN}/input/manifest.json", {}),
    (GLUE_ROLE, "s3:DeleteObject", f"{INTERMEDIATE}/{RUN}/input/listens/part-00000.parquet", {}),
    (GLUE_ROLE, "s3:GetObject", f"{INTERMEDIATE}/{RUN}/rejected/part-00000.csv", {}),
    (GLUE_ROLE, "s3:GetObject", f"{INTERMEDIATE}/{RUN}/validated/part-00000.parquet", {}),
    (GLUE_ROLE, "s3:GetObject", f"{INTERMEDIATE}/{RUN}/combined/part-00000.parquet", {}),
    (GLUE_ROLE, "s3:GetObject", f"{INTERMEDIATE}/{RUN}/combined/part-00000.json", {}),
    (GLUE_ROLE, "s3:PutObject", f"{INTERMEDIATE}/{RUN}", {}),
    (GLUE_ROLE, "s3:GetObject", f"{INTERMEDIATE}/artifacts/another.py", {}),
    (GLUE_ROLE, "s3:PutObject", f"{INTERMEDIATE}/artifacts/glue-scripts/glue_script.py", {}),
    (GLUE_ROLE, "s3:ListBucket", INTERMEDIATE, {"s3:prefix": "artifacts/"}),
    (GLUE_ROLE, "s3:GetObject", "arn:aws:s3:::another-bucket/runs/r/input/manifest.json", {}),
    (GLUE_ROLE, "s3:PutObject", "arn:aws:s3:::another-bucket/runs/r/output/a", {}),
    (GLUE_ROLE, "dynamodb:PutItem", TABLE, {}),
    (GLUE_ROLE, "dynamodb:GetItem", TABLE, {}),
    (GLUE_ROLE, "glue:StartJobRun", f"{JOBS}/music_streaming_kpis", {}),
    (GLUE_ROLE, "iam:PassRole", f"{ROLES}/{GLUE_ROLE}", {"iam:PassedToService": "glue.amazonaws.com"}),
    (GLUE_ROLE, "sns:Publish", f"arn:aws:sns:us-east-1:{ACCOUNT}:music-streaming-alerts", {}),
    (GLUE_ROLE, "logs:PutLogEvents", f"{LOGS}:/other:log-stream:a", {}),
    (GLUE_ROLE, "kms:Decrypt", KEY_ARN, {"kms:ViaService": "dynamodb.us-east-1.amazonaws.com"}),
    # Airflow: nothing is overwritten in the source, deleted from the archive, or read of the history.
    (AIRFLOW_ROLE, "s3:PutObject", f"{SOURCE}/streams/a.csv", {}),
    (AIRFLOW_ROLE, "s3:DeleteObject", f"{SOURCE}/songs/songs.csv", {}),
    (AIRFLOW_ROLE, "s3:DeleteObjectVersion", f"{SOURCE}/streams/a.csv", {}),
    (AIRFLOW_ROLE, "s3:GetObject", f"{SOURCE}/private/a.csv", {}),
    (AIRFLOW_ROLE, "s3:ListBucket", SOURCE, {"s3:prefix": "private/"}),
    (AIRFLOW_ROLE, "s3:ListBucketVersions", SOURCE, {"s3:prefix": ""}),
    (AIRFLOW_ROLE, "s3:GetObject", f"{ARCHIVE}/listens/listen_date=2024-06-25/a.parquet", {}),
    (AIRFLOW_ROLE, "s3:DeleteObject", f"{ARCHIVE}/listens/listen_date=2024-06-25/a.parquet", {}),
    (AIRFLOW_ROLE, "s3:DeleteObject", f"{ARCHIVE}/runs/r/report.json", {}),
    (AIRFLOW_ROLE, "s3:DeleteObject", f"{ARCHIVE}/quarantine/r/a.csv", {}),
    (AIRFLOW_ROLE, "s3:PutObject", f"{ARCHIVE}/other/a", {}),
    (AIRFLOW_ROLE, "s3:DeleteObject", f"{INTERMEDIATE}/artifacts/glue-scripts/glue_script.py", {}),
    (AIRFLOW_ROLE, "s3:PutObject", f"{INTERMEDIATE}/artifacts/glue-scripts/another.py", {}),
    (AIRFLOW_ROLE, "s3:GetObject", f"{INTERMEDIATE}/other/a", {}),
    (AIRFLOW_ROLE, "s3:GetObject", "arn:aws:s3:::another-bucket/streams/a.csv", {}),
    (AIRFLOW_ROLE, "s3:ListBucket", "arn:aws:s3:::another-bucket", {}),
    (AIRFLOW_ROLE, "s3:PutBucketPolicy", SOURCE, {}),
    (AIRFLOW_ROLE, "s3:PutLifecycleConfiguration", ARCHIVE, {}),
    (AIRFLOW_ROLE, "dynamodb:PutItem", f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/another_table", {}),
    (AIRFLOW_ROLE, "dynamodb:PutItem", f"arn:aws:dynamodb:eu-west-1:{ACCOUNT}:table/music_kpis_table", {}),
    (AIRFLOW_ROLE, "dynamodb:Scan", TABLE, {}),
    (AIRFLOW_ROLE, "dynamodb:DeleteTable", TABLE, {}),
    (AIRFLOW_ROLE, "dynamodb:Query", f"{TABLE}/index/track_genre-date-index", {}),
    (AIRFLOW_ROLE, "glue:StartJobRun", f"{JOBS}/another_job", {}),
    (AIRFLOW_ROLE, "glue:DeleteJob", f"{JOBS}/music_streaming_kpis", {}),
    (AIRFLOW_ROLE, "iam:PassRole", f"{ROLES}/admin", {"iam:PassedToService": "glue.amazonaws.com"}),
    (AIRFLOW_ROLE, "iam:PassRole", f"{ROLES}/{GLUE_ROLE}", {"iam:PassedToService": "ec2.amazonaws.com"}),
    (AIRFLOW_ROLE, "iam:PassRole", f"{ROLES}/{GLUE_ROLE}", {}),
    (AIRFLOW_ROLE, "iam:PutRolePolicy", f"{ROLES}/{GLUE_ROLE}", {}),
    (AIRFLOW_ROLE, "iam:GetRole", f"{ROLES}/admin", {}),
    (AIRFLOW_ROLE, "logs:FilterLogEvents", f"{LOGS}:/aws/lambda/other", {}),
    (AIRFLOW_ROLE, "sns:Publish", f"arn:aws:sns:us-east-1:{ACCOUNT}:another-topic", {}),
    (AIRFLOW_ROLE, "sns:Subscribe", f"arn:aws:sns:us-east-1:{ACCOUNT}:music-streaming-alerts", {}),
    (AIRFLOW_ROLE, "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "Another"}),
    (
        AIRFLOW_ROLE,
        "kms:Decrypt",
        KEY_ARN.replace("1111", "2222"),
        {"kms:ViaService": "s3.us-east-1.amazonaws.com"},
    ),
    (AIRFLOW_ROLE, "kms:Decrypt", KEY_ARN, {}),
    (AIRFLOW_ROLE, "kms:GenerateDataKey", KEY_ARN, {"kms:ViaService": "dynamodb.us-east-1.amazonaws.com"}),
    (AIRFLOW_ROLE, "kms:ScheduleKeyDeletion", KEY_ARN, {"kms:ViaService": "s3.us-east-1.amazonaws.com"}),
]


@pytest.mark.parametrize(
    ("role", "action", "resource", "context"),
    REFUSED,
    ids=[f"{role.split('-')[2]}-{action}-{resource.split(':')[-1]}" for role, action, resource, _ in REFUSED],
)
def test_call_outside_of_what_the_pipeline_does_is_refused(
    statements: dict[str, list[dict[str, Any]]],
    role: str,
    action: str,
    resource: str,
    context: dict[str, str],
) -> None:
    assert not is_allowed(Request(action, resource, context), statements[role])


@pytest.mark.parametrize(
    ("role", "action", "bucket"),
    [
        (GLUE_ROLE, "s3:ListBucket", INTERMEDIATE),
        (GLUE_ROLE, "s3:ListBucket", ARCHIVE),
        (AIRFLOW_ROLE, "s3:ListBucket", SOURCE),
        (AIRFLOW_ROLE, "s3:ListBucketVersions", SOURCE),
        (AIRFLOW_ROLE, "s3:ListBucket", INTERMEDIATE),
        (AIRFLOW_ROLE, "s3:ListBucket", ARCHIVE),
    ],
)
def test_names_can_be_listed_without_a_prefix_though_contents_cannot_be_read(
    statements: dict[str, list[dict[str, Any]]], role: str, action: str, bucket: str
) -> None:
    """More than is used: S3 tells a missing object from a refusal only with this right, without a prefix."""
    assert is_allowed(Request(action, bucket, {}), statements[role])
    assert not is_allowed(Request(action, bucket, {"s3:prefix": "another/"}), statements[role])
    assert not is_allowed(Request("s3:GetObject", f"{bucket}/another/object", {}), statements[role])


RUN_OUTPUT = {"Bucket": "music-streaming-intermediate", "Key": f"{RUN}/output/kpis/part-00000.json"}
HISTORY_OF_DAY = "listens/listen_date=2024-06-25"
HISTORY = {"Bucket": "music-streaming-archive", "Key": f"{HISTORY_OF_DAY}/r__a.parquet"}


@pytest.mark.parametrize(
    ("role", "operation", "parameters"),
    [
        # On Glue, Spark has a file system of S3 in place of local AWS's mirror; it asks for these too.
        (GLUE_ROLE, "HeadObject", RUN_OUTPUT),
        (GLUE_ROLE, "HeadObject", RUN_OUTPUT | {"Key": f"{RUN}/output"}),
        (GLUE_ROLE, "DeleteObject", RUN_OUTPUT | {"Key": f"{RUN}/output"}),
        (GLUE_ROLE, "HeadObject", RUN_OUTPUT | {"Key": f"{RUN}/output_$folder$"}),
        (GLUE_ROLE, "DeleteObject", RUN_OUTPUT | {"Key": f"{RUN}/output_$folder$"}),
        (GLUE_ROLE, "HeadObject", RUN_OUTPUT | {"Key": RUN}),
        (GLUE_ROLE, "HeadObject", RUN_OUTPUT | {"Key": f"{RUN}_$folder$"}),
        (GLUE_ROLE, "PutObject", RUN_OUTPUT | {"Key": f"{RUN}_$folder$"}),
        (GLUE_ROLE, "HeadObject", RUN_OUTPUT | {"Key": "runs"}),
        (GLUE_ROLE, "HeadObject", RUN_OUTPUT | {"Key": "runs_$folder$"}),
        (GLUE_ROLE, "HeadObject", HISTORY),
        # Of a day's folder, which is no object: does it exist, how large is it, has a stream written it?
        (GLUE_ROLE, "HeadObject", HISTORY | {"Key": HISTORY_OF_DAY}),
        (GLUE_ROLE, "HeadObject", HISTORY | {"Key": f"{HISTORY_OF_DAY}_$folder$"}),
        (GLUE_ROLE, "HeadObject", HISTORY | {"Key": f"{HISTORY_OF_DAY}/_spark_metadata"}),
        (GLUE_ROLE, "CreateMultipartUpload", RUN_OUTPUT),
        (GLUE_ROLE, "AbortMultipartUpload", RUN_OUTPUT),
        (GLUE_ROLE, "DeleteObject", RUN_OUTPUT | {"Key": f"{RUN}/output/kpis/_temporary/0/"}),
        (GLUE_ROLE, "PutObject", RUN_OUTPUT | {"Key": f"{RUN}/output_$folder$"}),
        (GLUE_ROLE, "PutObject", RUN_OUTPUT | {"Key": f"{RUN}/output/listens_$folder$"}),
        (GLUE_ROLE, "ListObjectsV2", {"Bucket": RUN_OUTPUT["Bucket"], "Prefix": f"{RUN}/output/"}),
        (
            GLUE_ROLE,
            "ListObjectsV2",
            {"Bucket": HISTORY["Bucket"], "Prefix": f"{HISTORY_OF_DAY}/"},
        ),
        # Large objects are copied and uploaded in parts.
        (AIRFLOW_ROLE, "UploadPartCopy", HISTORY | {"CopySource": RUN_OUTPUT}),
        (AIRFLOW_ROLE, "AbortMultipartUpload", HISTORY),
        (
            AIRFLOW_ROLE,
            "UploadPart",
            {"Bucket": RUN_OUTPUT["Bucket"], "Key": f"{RUN}/combined/part-00000.parquet"},
        ),
    ],
)
def test_call_that_only_aws_or_large_data_bring_about_is_allowed(
    statements: dict[str, list[dict[str, Any]]], role: str, operation: str, parameters: dict[str, Any]
) -> None:
    for request in requests_of(Call("s3", operation, parameters)):
        assert is_allowed(request, statements[role]), request


@pytest.mark.parametrize("bucket", ["SourceBucket", "IntermediateBucket", "ArchiveBucket"])
def test_bucket_refuses_everybody_everything_without_tls(bucket: str) -> None:
    """Read in the template: local AWS, which has no TLS, leaves the bucket policies out."""
    policy = properties(f"{bucket}Policy")
    [statement] = policy["PolicyDocument"]["Statement"]
    resources = [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}]

    assert policy["Bucket"] == {"Ref": bucket}
    assert statement["Resource"] == resources
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    resolved = statement | {"Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"]}
    for resource in ("arn:aws:s3:::b", "arn:aws:s3:::b/any/key"):
        for secure, refused in (("false", True), ("true", False)):
            request = Request("s3:GetObject", resource, {"aws:SecureTransport": secure})
            assert applies(resolved, request) is refused
