"""The rights of the stack's roles, and above all the rights that they lack."""

import json
from pathlib import Path
from typing import Any

import cfnlint  # type: ignore[import-untyped]
import pytest
from botocore.exceptions import ClientError

from helpers.contract.keys import run_key_of
from include.local_aws.iam_policies import Request, applies, as_list, is_allowed
from local_aws_support import connect
from tests.include.conftest import ACCOUNT, KEY_ARN, DeployedStack, enforced_policies
from tests.include.stack_policies.policies import AIRFLOW_ROLE, GLUE_ROLE, client_of, role_statements
from tests.include.test_stack import properties

SOURCE, INTERMEDIATE, ARCHIVE = (
    f"arn:aws:s3:::music-streaming-{kind}" for kind in ("source", "intermediate", "archive")
)
TABLE = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/music_kpis_table"
ROLES = f"arn:aws:iam::{ACCOUNT}:role"
LOGS = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group"

# Each resource with a wildcard, and the reason why it cannot be narrower.
ONE_RUN = "the name of the run comes between"
OBJECT_NAMES = "the objects below the prefix have names of their deliverer, their run or their day"
WILDCARDS = {
    "*": "metrics have no ARN; the statement is bound to one namespace",
    f"{SOURCE}/streams/*": OBJECT_NAMES,
    f"{SOURCE}/songs/*": OBJECT_NAMES,
    f"{SOURCE}/users/*": OBJECT_NAMES,
    f"{INTERMEDIATE}/runs/*": OBJECT_NAMES,
    f"{INTERMEDIATE}/runs/*/output/*": ONE_RUN,
    f"{INTERMEDIATE}/snapshots/*": "a snapshot is named after the state that it is of",
    f"{INTERMEDIATE}/artifacts/glue-scripts/*": "whoever uploads the script names it, such as by its version",
    f"{ARCHIVE}/runs/*": OBJECT_NAMES,
    f"{ARCHIVE}/listens/*": OBJECT_NAMES,
    f"{ARCHIVE}/streams/*": OBJECT_NAMES,
    f"{ARCHIVE}/quarantine/*": OBJECT_NAMES,
    f"{ARCHIVE}/kpis/*": OBJECT_NAMES,
    f"{ARCHIVE}/catalogs/*": OBJECT_NAMES,
    f"{ARCHIVE}/erasures/*": "each erasure has a record of its own",
    f"{LOGS}:/aws-glue/jobs/*": "Glue has a log group for output and one for errors, the same for all jobs",
    f"{LOGS}:/aws-glue/*": "Glue chooses the group by version and kind of the log",
}


@pytest.fixture(scope="module")
def statements(full_stack: DeployedStack) -> dict[str, list[dict[str, Any]]]:
    """The statements of both roles, with those for a key."""
    return {role: role_statements(full_stack.endpoint_url, role) for role in (AIRFLOW_ROLE, GLUE_ROLE)}


def description_of(action: str) -> dict[str, Any] | None:
    """Return cfn-lint's description of the action: its types of resources, if it has any."""
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

    # A dataset does not hold metrics by namespace.
    assert description_of(statement["Action"]) == {"Resources": ["dataset"]}
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

SCRIPT = "artifacts/glue-scripts/glue_script.py"
HISTORY_OF_DAY = "listens/listen_date=2024-06-25"
JOB, ANOTHER_JOB = "music_streaming_kpis", "another_job"
GLUE_ROLE_ARN, ADMIN_ARN = f"{ROLES}/{GLUE_ROLE}", f"{ROLES}/admin"
TOPIC, ANOTHER_TOPIC = (
    f"arn:aws:sns:us-east-1:{ACCOUNT}:{name}" for name in ("music-streaming-alerts", "another")
)
QUEUES = f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}"
QUEUE, ANOTHER_QUEUE = ({"QueueUrl": f"{QUEUES}/{name}"} for name in ("music-streaming-files", "another"))
ITEM = {"date": {"S": "2024-06-25"}, "track_genre": {"S": "pop"}}


def at(bucket: str, key: str | None = None, **parameters: Any) -> dict[str, Any]:
    """Return the parameters of a call about an object, or about a bucket of the stack."""
    place = {"Bucket": bucket if "bucket" in bucket else f"music-streaming-{bucket}"}
    return place | ({"Key": key} if key else {}) | parameters


def of_table(table: str = "music_kpis_table", **parameters: Any) -> dict[str, Any]:
    return {"TableName": table} | parameters


def of_job(name: str, role: str) -> dict[str, Any]:
    return {"Name": name, "Role": role, "Command": {"Name": "glueetl", "ScriptLocation": "s3://b/k"}}


BY_DAY = {"KeyConditionExpression": "#d = :d", "ExpressionAttributeNames": {"#d": "date"}}
BY_DAY |= {"ExpressionAttributeValues": {":d": {"S": "2024-06-25"}}}
METRIC = {"Namespace": "Another", "MetricData": [{"MetricName": "m", "Value": 1}]}

# Calls that the pipeline does not make: who, service, operation, parameters.
REFUSED: list[tuple[str, str, str, dict[str, Any]]] = [
    # Glue: nothing in the source, only reading in the history, nothing else in the archive.
    (GLUE_ROLE, "s3", "get_object", at("source", "streams/a.csv")),
    (GLUE_ROLE, "s3", "get_object", at("source", "songs/songs.csv")),
    (GLUE_ROLE, "s3", "list_objects_v2", at("source", Prefix="streams/")),
    (GLUE_ROLE, "s3", "head_bucket", at("source")),
    (GLUE_ROLE, "s3", "put_object", at("archive", f"{HISTORY_OF_DAY}/a.parquet", Body=b"")),
    (GLUE_ROLE, "s3", "delete_object", at("archive", f"{HISTORY_OF_DAY}/a.parquet")),
    (GLUE_ROLE, "s3", "delete_object", at("archive", f"{HISTORY_OF_DAY}/a.parquet", VersionId="1")),
    (GLUE_ROLE, "s3", "get_object", at("archive", f"{HISTORY_OF_DAY}/a.parquet", VersionId="1")),
    (GLUE_ROLE, "s3", "get_object", at("archive", "quarantine/r/a.csv")),
    (GLUE_ROLE, "s3", "get_object", at("archive", "streams/2024-06-25/a.csv")),
    (GLUE_ROLE, "s3", "get_object", at("archive", "runs/r/report.json")),
    (GLUE_ROLE, "s3", "list_object_versions", at("archive")),
    (GLUE_ROLE, "s3", "put_object", at("intermediate", f"{RUN}/input/manifest.json", Body=b"")),
    (GLUE_ROLE, "s3", "delete_object", at("intermediate", f"{RUN}/input/listens/part-00000.parquet")),
    (GLUE_ROLE, "s3", "put_object", at("intermediate", RUN, Body=b"")),
    (GLUE_ROLE, "s3", "get_object", at("intermediate", "artifacts/another.py")),
    (GLUE_ROLE, "s3", "put_object", at("intermediate", SCRIPT, Body=b"")),
    (
        GLUE_ROLE,
        "s3",
        "copy_object",
        at("intermediate", f"{RUN}/output/a", CopySource=at("archive", "runs/r/report.json")),
    ),
    (GLUE_ROLE, "s3", "get_object", at("another-bucket", f"{RUN}/input/manifest.json")),
    (GLUE_ROLE, "s3", "put_object", at("another-bucket", f"{RUN}/output/a", Body=b"")),
    (GLUE_ROLE, "dynamodb", "put_item", of_table(Item=ITEM)),
    (GLUE_ROLE, "dynamodb", "get_item", of_table(Key=ITEM)),
    (GLUE_ROLE, "glue", "start_job_run", {"JobName": JOB}),
    (GLUE_ROLE, "glue", "create_job", of_job("of-glue", GLUE_ROLE_ARN)),
    (GLUE_ROLE, "sns", "publish", {"TopicArn": TOPIC, "Message": "m"}),
    (
        GLUE_ROLE,
        "logs",
        "put_log_events",
        {"logGroupName": "/other", "logStreamName": "a", "logEvents": [{"timestamp": 1, "message": "m"}]},
    ),
    # Airflow: nothing is overwritten in the source, deleted from the archive, or read of the history.
    (AIRFLOW_ROLE, "s3", "put_object", at("source", "streams/a.csv", Body=b"")),
    (AIRFLOW_ROLE, "s3", "delete_object", at("source", "songs/songs.csv")),
    (AIRFLOW_ROLE, "s3", "delete_object", at("source", "streams/a.csv", VersionId="1")),
    (AIRFLOW_ROLE, "s3", "get_object", at("source", "private/a.csv")),
    (AIRFLOW_ROLE, "s3", "get_object", at("archive", f"{HISTORY_OF_DAY}/a.parquet")),
    (AIRFLOW_ROLE, "s3", "delete_object", at("archive", f"{HISTORY_OF_DAY}/a.parquet")),
    (AIRFLOW_ROLE, "s3", "delete_object", at("archive", "runs/r/report.json")),
    (AIRFLOW_ROLE, "s3", "delete_object", at("archive", "quarantine/r/a.csv")),
    (AIRFLOW_ROLE, "s3", "put_object", at("archive", "other/a", Body=b"")),
    (AIRFLOW_ROLE, "s3", "put_object", at("archive", "erasures/a.json", Body=b"")),
    (AIRFLOW_ROLE, "s3", "delete_object", at("archive", "erasures/a.json")),
    (
        AIRFLOW_ROLE,
        "s3",
        "copy_object",
        at("archive", "quarantine/a", CopySource=at("archive", f"{HISTORY_OF_DAY}/a.parquet")),
    ),
    (AIRFLOW_ROLE, "s3", "delete_object", at("intermediate", SCRIPT)),
    (AIRFLOW_ROLE, "s3", "get_object", at("intermediate", "snapshots/a.json")),
    (AIRFLOW_ROLE, "s3", "put_object", at("intermediate", "snapshots/a.json", Body=b"")),
    (AIRFLOW_ROLE, "s3", "put_object", at("intermediate", "artifacts/glue-scripts/another.py", Body=b"")),
    (AIRFLOW_ROLE, "s3", "get_object", at("intermediate", "other/a")),
    (AIRFLOW_ROLE, "s3", "get_object", at("intermediate", "artifacts/another.py")),
    (AIRFLOW_ROLE, "s3", "get_object", at("another-bucket", "streams/a.csv")),
    (AIRFLOW_ROLE, "s3", "list_objects_v2", at("another-bucket")),
    (AIRFLOW_ROLE, "s3", "put_bucket_policy", at("source", Policy="{}")),
    (
        AIRFLOW_ROLE,
        "s3",
        "put_bucket_versioning",
        at("archive", VersioningConfiguration={"Status": "Suspended"}),
    ),
    (AIRFLOW_ROLE, "s3", "delete_bucket", at("archive")),
    (AIRFLOW_ROLE, "dynamodb", "put_item", of_table("another_table", Item=ITEM)),
    (AIRFLOW_ROLE, "dynamodb eu-west-1", "put_item", of_table(Item=ITEM)),
    (AIRFLOW_ROLE, "dynamodb", "scan", of_table()),
    (AIRFLOW_ROLE, "dynamodb", "delete_table", of_table()),
    (AIRFLOW_ROLE, "dynamodb", "query", of_table(IndexName="track_genre-date-index", **BY_DAY)),
    (AIRFLOW_ROLE, "glue", "start_job_run", {"JobName": ANOTHER_JOB}),
    (AIRFLOW_ROLE, "glue", "delete_job", {"JobName": JOB}),
    (AIRFLOW_ROLE, "glue", "create_job", of_job(ANOTHER_JOB, GLUE_ROLE_ARN)),
    (AIRFLOW_ROLE, "glue", "create_job", of_job(JOB, ADMIN_ARN)),
    (
        AIRFLOW_ROLE,
        "iam",
        "put_role_policy",
        {"RoleName": GLUE_ROLE, "PolicyName": "p", "PolicyDocument": "{}"},
    ),
    (AIRFLOW_ROLE, "iam", "get_role", {"RoleName": "admin"}),
    (AIRFLOW_ROLE, "logs", "get_log_events", {"logGroupName": "/aws/lambda/other", "logStreamName": "a"}),
    (AIRFLOW_ROLE, "logs", "describe_log_streams", {"logGroupName": "/aws/lambda/other"}),
    (AIRFLOW_ROLE, "sns", "publish", {"TopicArn": ANOTHER_TOPIC, "Message": "m"}),
    (AIRFLOW_ROLE, "sns", "subscribe", {"TopicArn": TOPIC, "Protocol": "email", "Endpoint": "a@example.com"}),
    (AIRFLOW_ROLE, "sqs", "receive_message", ANOTHER_QUEUE),
    (AIRFLOW_ROLE, "sqs", "send_message", QUEUE | {"MessageBody": "m"}),
    (AIRFLOW_ROLE, "sqs", "purge_queue", QUEUE),
    (GLUE_ROLE, "sqs", "receive_message", QUEUE),
    (AIRFLOW_ROLE, "cloudwatch", "put_metric_data", METRIC),
]


@pytest.mark.parametrize(
    ("role", "service", "operation", "parameters"),
    REFUSED,
    ids=[
        f"{role.split('-')[2]}-{operation}-{number}" for number, (role, _, operation, _) in enumerate(REFUSED)
    ],
)
def test_call_outside_of_what_the_pipeline_does_is_refused_by_local_aws(
    full_stack: DeployedStack, role: str, service: str, operation: str, parameters: dict[str, Any]
) -> None:
    connect("s3", full_stack.endpoint_url).create_bucket(Bucket="another-bucket")
    client = client_of(full_stack.endpoint_url, role, *service.split())

    with enforced_policies(full_stack.endpoint_url), pytest.raises(ClientError) as refusal:
        getattr(client, operation)(**parameters)

    assert refusal.value.response["Error"]["Code"] in {"403", "AccessDenied", "AccessDeniedException"}


@pytest.mark.parametrize(
    ("role", "action", "resource", "context"),
    [
        (GLUE_ROLE, "kms:Decrypt", KEY_ARN, {"kms:ViaService": "dynamodb.us-east-1.amazonaws.com"}),
        (
            AIRFLOW_ROLE,
            "kms:Decrypt",
            KEY_ARN.replace("1111", "2222"),
            {"kms:ViaService": "s3.us-east-1.amazonaws.com"},
        ),
        (AIRFLOW_ROLE, "kms:Decrypt", KEY_ARN, {}),
        (
            AIRFLOW_ROLE,
            "kms:ScheduleKeyDeletion",
            KEY_ARN,
            {"kms:ViaService": "s3.us-east-1.amazonaws.com"},
        ),
        (AIRFLOW_ROLE, "iam:PassRole", GLUE_ROLE_ARN, {"iam:PassedToService": "ec2.amazonaws.com"}),
        (AIRFLOW_ROLE, "iam:PassRole", GLUE_ROLE_ARN, {}),
    ],
)
def test_what_only_another_service_could_ask_for_is_not_granted(
    statements: dict[str, list[dict[str, Any]]],
    role: str,
    action: str,
    resource: str,
    context: dict[str, str],
) -> None:
    assert not is_allowed(Request(action, resource, context), statements[role])


@pytest.mark.parametrize(
    ("role", "operation", "parameters"),
    [
        # On Glue, Spark uses a file system of S3 instead of local AWS's mirror; it needs these rights too.
        (GLUE_ROLE, "head_object", at("intermediate", f"{RUN}/output")),
        (GLUE_ROLE, "list_multipart_uploads", at("intermediate")),
        (GLUE_ROLE, "head_object", at("intermediate", f"{RUN}/output/kpis/part-00000.json")),
        (GLUE_ROLE, "delete_object", at("intermediate", f"{RUN}/output/kpis/_temporary/0/")),
        (GLUE_ROLE, "head_object", at("archive", f"{HISTORY_OF_DAY}/r__a.parquet")),
        # A day's folder is not an object: does it exist, how large is it, has a stream written it?
        (GLUE_ROLE, "head_object", at("archive", HISTORY_OF_DAY)),
        (GLUE_ROLE, "head_object", at("archive", f"{HISTORY_OF_DAY}_$folder$")),
        (GLUE_ROLE, "head_object", at("archive", f"{HISTORY_OF_DAY}/_spark_metadata")),
        (GLUE_ROLE, "create_multipart_upload", at("intermediate", f"{RUN}/output/kpis/part-00000.json")),
        (GLUE_ROLE, "abort_multipart_upload", at("intermediate", f"{RUN}/output/a", UploadId="1")),
        (GLUE_ROLE, "list_objects_v2", at("intermediate", Prefix=f"{RUN}/output/")),
        (GLUE_ROLE, "list_objects_v2", at("archive", Prefix=f"{HISTORY_OF_DAY}/")),
        # Large objects are copied and uploaded in parts.
        (
            AIRFLOW_ROLE,
            "upload_part_copy",
            at(
                "archive",
                f"{HISTORY_OF_DAY}/r__a.parquet",
                CopySource=at("intermediate", f"{RUN}/output/a"),
                UploadId="1",
                PartNumber=1,
            ),
        ),
        (AIRFLOW_ROLE, "abort_multipart_upload", at("archive", f"{HISTORY_OF_DAY}/a", UploadId="1")),
        (AIRFLOW_ROLE, "create_multipart_upload", at("intermediate", f"{RUN}/combined/part-00000.parquet")),
    ],
)
def test_call_that_happens_only_on_aws_or_with_large_data_is_allowed(
    full_stack: DeployedStack, role: str, operation: str, parameters: dict[str, Any]
) -> None:
    """The object or upload need not exist: only a caller with the right learns that."""
    client = client_of(full_stack.endpoint_url, role, "s3")

    code = "done"
    with enforced_policies(full_stack.endpoint_url):
        try:
            getattr(client, operation)(**parameters)
        except ClientError as error:
            code = error.response["Error"]["Code"]

    assert code in {"done", "404", "NoSuchKey", "NoSuchUpload"}


def test_airflow_may_take_messages_of_the_queue(full_stack: DeployedStack) -> None:
    connect("sqs", full_stack.endpoint_url).send_message(**QUEUE, MessageBody="m")
    sqs = client_of(full_stack.endpoint_url, AIRFLOW_ROLE, "sqs")

    with enforced_policies(full_stack.endpoint_url):
        messages = sqs.receive_message(**QUEUE, MaxNumberOfMessages=10)["Messages"]
        entries = [
            {"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]} for message in messages
        ]
        deleted = sqs.delete_message_batch(**QUEUE, Entries=entries)

    assert len(deleted["Successful"]) == len(messages) > 0


def test_only_s3_may_send_to_the_queue_and_only_for_the_source_bucket() -> None:
    """The template is checked, because moto leaves policies of queues out."""
    [statement] = properties("StreamsQueuePolicy")["PolicyDocument"]["Statement"]

    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:s3:::${SourceBucketParameter}"}},
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
    }


@pytest.mark.parametrize("bucket", ["SourceBucket", "IntermediateBucket", "ArchiveBucket"])
def test_bucket_refuses_everybody_everything_without_tls(bucket: str) -> None:
    """The template is checked, because local AWS has no TLS and leaves the bucket policies out."""
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
