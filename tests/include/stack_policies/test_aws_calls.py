from typing import Any

import pytest

from tests.include.conftest import ACCOUNT, KEY_ARN
from tests.include.stack_policies.aws_calls import key_requests_of, requests_of
from tests.include.stack_policies.evaluator import Request
from tests.include.stack_policies.recorder import Call

OBJECT = {"Bucket": "b", "Key": "k"}
VERSION = OBJECT | {"VersionId": "1"}
TABLE = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/t"
JOB = f"arn:aws:glue:us-east-1:{ACCOUNT}:job/j"


def asked(service: str, operation: str, **parameters: Any) -> list[tuple[str, str]]:
    """Return action and resource of what is asked for."""
    found = requests_of(Call(service, operation, parameters), tagged_bucket="tagged")
    return [(request.action, request.resource) for request in found]


@pytest.mark.parametrize(
    ("operation", "parameters", "expected"),
    [
        ("HeadBucket", {"Bucket": "b"}, {"ListBucket b"}),
        ("ListObjectsV2", {"Bucket": "b", "Prefix": "p"}, {"ListBucket b"}),
        ("ListObjectVersions", {"Bucket": "b"}, {"ListBucketVersions b"}),
        ("GetObject", OBJECT, {"GetObject b/k", "ListBucket b"}),
        ("HeadObject", VERSION, {"GetObjectVersion b/k", "ListBucket b"}),
        ("PutObject", OBJECT, {"PutObject b/k"}),
        ("CompleteMultipartUpload", OBJECT, {"PutObject b/k"}),
        ("AbortMultipartUpload", OBJECT, {"AbortMultipartUpload b/k"}),
        ("DeleteObject", OBJECT, {"DeleteObject b/k"}),
        ("DeleteObject", VERSION, {"DeleteObjectVersion b/k"}),
        ("DeleteObject", OBJECT | {"IfMatch": "e"}, {"DeleteObject b/k", "GetObject b/k"}),
        (
            "DeleteObjects",
            {"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}, {"Key": "l", "VersionId": "1"}]}},
            {"DeleteObject b/k", "DeleteObjectVersion b/l"},
        ),
        (
            "CopyObject",
            {"Bucket": "to", "Key": "l", "CopySource": VERSION},
            {"GetObjectVersion b/k", "PutObject to/l"},
        ),
        (
            "CopyObject",
            {"Bucket": "to", "Key": "l", "CopySource": VERSION | {"Bucket": "tagged"}},
            {
                "GetObjectVersion tagged/k",
                "GetObjectVersionTagging tagged/k",
                "PutObject to/l",
                "PutObjectTagging to/l",
            },
        ),
        (
            "UploadPartCopy",
            {"Bucket": "to", "Key": "l", "CopySource": OBJECT | {"Bucket": "tagged"}},
            {"GetObject tagged/k", "PutObject to/l"},
        ),
    ],
)
def test_s3_asks_for_rights_on_source_and_destination(
    operation: str, parameters: dict[str, Any], expected: set[str]
) -> None:
    found = {
        f"{action.removeprefix('s3:')} {resource.removeprefix('arn:aws:s3:::')}"
        for action, resource in asked("s3", operation, **parameters)
    }

    assert found == expected


def test_listing_brings_its_prefix_only_where_it_has_one() -> None:
    with_prefix = Call("s3", "ListObjectsV2", {"Bucket": "b", "Prefix": ""})
    without = Call("s3", "ListObjectsV2", {"Bucket": "b"})

    assert requests_of(with_prefix) == [Request("s3:ListBucket", "arn:aws:s3:::b", {"s3:prefix": ""})]
    assert requests_of(without) == [Request("s3:ListBucket", "arn:aws:s3:::b", {})]


def test_transaction_asks_for_the_right_of_each_of_its_changes() -> None:
    changes = [{kind: {"TableName": "t"}} for kind in ("ConditionCheck", "Put", "Delete", "Update")]

    assert asked("dynamodb", "TransactWriteItems", TransactItems=changes) == [
        ("dynamodb:ConditionCheckItem", TABLE),
        ("dynamodb:PutItem", TABLE),
        ("dynamodb:DeleteItem", TABLE),
        ("dynamodb:UpdateItem", TABLE),
    ]


def test_index_is_a_resource_of_its_own() -> None:
    assert asked("dynamodb", "Query", TableName="t", IndexName="i") == [
        ("dynamodb:Query", f"{TABLE}/index/i")
    ]


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("CreateJob", {"Name": "j", "Role": "arn:role"}),
        ("UpdateJob", {"JobName": "j", "JobUpdate": {"Role": "arn:role"}}),
    ],
)
def test_job_with_a_role_asks_for_the_right_to_pass_it_to_glue(
    operation: str, parameters: dict[str, Any]
) -> None:
    assert requests_of(Call("glue", operation, parameters)) == [
        Request(f"glue:{operation}", JOB),
        Request("iam:PassRole", "arn:role", {"iam:PassedToService": "glue.amazonaws.com"}),
    ]


def test_key_is_asked_for_by_the_service_that_encrypts() -> None:
    def asked_of_key(service: str, operation: str, **parameters: Any) -> set[tuple[str, str]]:
        found = key_requests_of(Call(service, operation, parameters))
        assert {request.resource for request in found} <= {KEY_ARN}
        return {(request.action, request.context["kms:ViaService"]) for request in found}

    s3, dynamodb = "s3.us-east-1.amazonaws.com", "dynamodb.us-east-1.amazonaws.com"
    both = {("kms:Decrypt", s3), ("kms:GenerateDataKey", s3)}
    assert asked_of_key("s3", "GetObject", **OBJECT) == {("kms:Decrypt", s3)}
    assert asked_of_key("s3", "PutObject", **OBJECT) == both
    assert asked_of_key("s3", "CopyObject", **OBJECT, CopySource=VERSION) == both
    assert asked_of_key("s3", "HeadBucket", Bucket="b") == set()
    assert asked_of_key("dynamodb", "PutItem", TableName="t") == {("kms:Decrypt", dynamodb)}
    assert asked_of_key("glue", "GetJob", JobName="j") == set()


@pytest.mark.parametrize(
    "call", [("s3", "PutBucketPolicy"), ("dynamodb", "DeleteTable"), ("ec2", "RunInstances")]
)
def test_call_that_is_not_known_is_an_error(call: tuple[str, str]) -> None:
    with pytest.raises(KeyError):
        asked(*call, Bucket="b")
