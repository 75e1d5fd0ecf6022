"""Local AWS with its checks on, called by users who have one policy each."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws_support import connect
from tests.include.conftest import ACCOUNT, KEY_ARN, enforced_policies

# S3 sends no body in response to a HEAD request, so SDKs use the status as code.
REFUSALS = {"AccessDenied", "AccessDeniedException", "403"}


class User:
    """A user of local AWS whose rights are these statements."""

    def __init__(self, endpoint_url: str, *statements: dict[str, Any]) -> None:
        iam, name = connect("iam", endpoint_url), f"user-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=name)
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow"} | one for one in statements]}
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self.endpoint_url = endpoint_url
        self._keys = (key["AccessKeyId"], key["SecretAccessKey"])

    def client(self, service: str) -> Any:
        return connect(service, self.endpoint_url, *self._keys)

    def answer(self, service: str, operation: str, **parameters: Any) -> str:
        """Return `allowed`, `refused`, or the code of another error."""
        call = getattr(self.client(service), operation)
        with enforced_policies(self.endpoint_url):
            try:
                call(**parameters)
            except ClientError as error:
                code = str(error.response["Error"]["Code"])
                return "refused" if code in REFUSALS else code
        return "allowed"


@pytest.fixture
def bucket(local_aws: str) -> str:
    """A bucket with two objects below `runs/`."""
    s3, name = connect("s3", local_aws), f"bucket-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    for key in ("runs/a", "runs/b"):
        s3.put_object(Bucket=name, Key=key, Body=b"1")
    return name


def on_objects(bucket: str, *actions: str, below: str = "") -> dict[str, Any]:
    return {"Action": [f"s3:{action}" for action in actions], "Resource": f"arn:aws:s3:::{bucket}/{below}*"}


def listing(bucket: str, operator: str = "", *prefixes: str) -> dict[str, Any]:
    condition = {"Condition": {operator: {"s3:prefix": list(prefixes)}}} if operator else {}
    return {"Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}", **condition}


@pytest.mark.parametrize("operation", ["get_object", "head_object"])
@pytest.mark.parametrize(
    ("condition", "key", "answer"),
    [
        ((), "runs/missing", "404"),
        (("StringLike", "runs/*"), "runs/missing", "404"),
        (("StringLike", "runs/*"), "other/missing", "refused"),
        (("StringLike", "runs/"), "runs/missing", "refused"),
        (("StringLikeIfExists", "runs/*"), "runs/missing", "404"),
        # The request has a prefix, the key, although the caller gave none.
        (("StringLikeIfExists", "runs/*"), "other/missing", "refused"),
        (("StringEquals", "runs/missing"), "runs/missing", "404"),
    ],
)
def test_missing_key_is_reported_only_to_callers_that_may_list_it(
    local_aws: str, bucket: str, condition: tuple[str, ...], key: str, answer: str, operation: str
) -> None:
    user = User(local_aws, on_objects(bucket, "GetObject"), listing(bucket, *condition))

    found = user.answer("s3", operation, Bucket=bucket, Key=key)
    assert found.replace("NoSuchKey", "404") == answer
    assert user.answer("s3", operation, Bucket=bucket, Key="runs/a") == "allowed"


def test_missing_key_is_not_reported_to_callers_without_the_rights_to_list_and_read(
    local_aws: str, bucket: str
) -> None:
    reader = User(local_aws, on_objects(bucket, "GetObject"))
    lister = User(local_aws, listing(bucket))
    missing = {"Bucket": bucket, "Key": "missing"}

    for user in (reader, lister):
        assert user.answer("s3", "get_object", **missing) == "refused"


def test_missing_source_of_a_copy_is_reported_only_to_callers_that_may_list_it(
    local_aws: str, bucket: str
) -> None:
    copy = {"Bucket": bucket, "Key": "c", "CopySource": {"Bucket": bucket, "Key": "missing"}}
    objects = on_objects(bucket, "GetObject", "PutObject")

    assert User(local_aws, objects).answer("s3", "copy_object", **copy) == "refused"
    assert User(local_aws, objects, listing(bucket)).answer("s3", "copy_object", **copy) == "NoSuchKey"


@pytest.mark.parametrize(
    ("operator", "parameters", "answer"),
    [
        ("StringLike", {"Prefix": "runs/"}, "allowed"),
        ("StringLike", {"Prefix": "other/"}, "refused"),
        ("StringLike", {}, "refused"),
        ("StringLikeIfExists", {}, "allowed"),
        ("StringLikeIfExists", {"Prefix": ""}, "refused"),
    ],
)
def test_listing_is_judged_by_its_prefix(
    local_aws: str, bucket: str, operator: str, parameters: dict[str, str], answer: str
) -> None:
    user = User(local_aws, listing(bucket, operator, "runs/*"))

    assert user.answer("s3", "list_objects_v2", Bucket=bucket, **parameters) == answer


def test_bucket_is_shown_to_who_may_list_it(local_aws: str, bucket: str) -> None:
    assert User(local_aws, listing(bucket)).answer("s3", "head_bucket", Bucket=bucket) == "allowed"
    reader = User(local_aws, on_objects(bucket, "GetObject"))
    assert reader.answer("s3", "head_bucket", Bucket=bucket) == "refused"


def test_each_of_several_keys_is_deleted_or_refused_for_itself(local_aws: str, bucket: str) -> None:
    user = User(local_aws, on_objects(bucket, "DeleteObject", below="runs/a"))
    client = user.client("s3")

    with enforced_policies(local_aws):
        answer = client.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": "runs/a"}, {"Key": "runs/b"}]}
        )

    assert [entry["Key"] for entry in answer["Deleted"]] == ["runs/a"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("runs/b", "AccessDenied")]
    left = connect("s3", local_aws).list_objects_v2(Bucket=bucket)["Contents"]
    assert [entry["Key"] for entry in left] == ["runs/b"]


def test_version_is_deleted_and_read_with_rights_to_versions(local_aws: str, bucket: str) -> None:
    s3 = connect("s3", local_aws)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = {"Bucket": bucket, "Key": "v"}
    version["VersionId"] = s3.put_object(**version, Body=b"1")["VersionId"]
    one = User(local_aws, on_objects(bucket, "GetObject", "DeleteObject"))
    other = User(local_aws, on_objects(bucket, "GetObjectVersion", "DeleteObjectVersion"))

    for operation in ("get_object", "head_object", "delete_object"):
        assert one.answer("s3", operation, **version) == "refused", operation
        assert other.answer("s3", operation, **version) == "allowed", operation


def test_conditional_deletion_reads(local_aws: str, bucket: str) -> None:
    deletion = {"Bucket": bucket, "Key": "runs/a", "IfMatch": "*"}

    assert (
        User(local_aws, on_objects(bucket, "DeleteObject")).answer("s3", "delete_object", **deletion)
        == "refused"
    )
    both = User(local_aws, on_objects(bucket, "DeleteObject", "GetObject"))
    assert both.answer("s3", "delete_object", **deletion) == "allowed"


def test_copy_reads_its_source_and_takes_its_tags_along(local_aws: str, bucket: str) -> None:
    connect("s3", local_aws).put_object(Bucket=bucket, Key="tagged", Body=b"1", Tagging="a=b")
    rights = ["PutObject", "GetObject", "GetObjectTagging", "PutObjectTagging"]

    def copying(source: str, *actions: str) -> str:
        user = User(local_aws, on_objects(bucket, *actions))
        return user.answer(
            "s3", "copy_object", Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": source}
        )

    assert copying("runs/a", "PutObject") == "refused"
    assert copying("runs/a", "PutObject", "GetObject") == "allowed"
    assert copying("tagged", *rights) == "allowed"
    for missing in rights:
        assert copying("tagged", *(right for right in rights if right != missing)) == "refused", missing


def test_copied_part_reads_its_source_and_copies_no_tags(local_aws: str, bucket: str) -> None:
    s3 = connect("s3", local_aws)
    s3.put_object(Bucket=bucket, Key="tagged", Body=b"1", Tagging="a=b")
    upload = {"Bucket": bucket, "Key": "c"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    part = upload | {"PartNumber": 1, "CopySource": {"Bucket": bucket, "Key": "tagged"}}

    writer = User(local_aws, on_objects(bucket, "PutObject"))
    assert writer.answer("s3", "upload_part_copy", **part) == "refused"
    assert (
        User(local_aws, on_objects(bucket, "PutObject", "GetObject")).answer("s3", "upload_part_copy", **part)
        == "allowed"
    )


def test_tags_of_an_upload_take_a_right(local_aws: str, bucket: str) -> None:
    upload = {"Bucket": bucket, "Key": "t", "Body": b"1", "Tagging": "a=b"}

    assert User(local_aws, on_objects(bucket, "PutObject")).answer("s3", "put_object", **upload) == "refused"
    both = User(local_aws, on_objects(bucket, "PutObject", "PutObjectTagging"))
    assert both.answer("s3", "put_object", **upload) == "allowed"


def test_key_of_a_bucket_takes_rights(local_aws: str, bucket: str) -> None:
    connect("s3", local_aws).put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [
                {
                    "ApplyServerSideEncryptionByDefault": {
                        "SSEAlgorithm": "aws:kms",
                        "KMSMasterKeyID": KEY_ARN,
                    }
                }
            ]
        },
    )
    objects, target = on_objects(bucket, "GetObject", "PutObject"), {"Bucket": bucket, "Key": "runs/a"}

    def with_key(service: str, *actions: str) -> User:
        condition = {"StringEquals": {"kms:ViaService": f"{service}.us-east-1.amazonaws.com"}}
        return User(local_aws, objects, {"Action": [*actions], "Resource": KEY_ARN, "Condition": condition})

    reader, writer = with_key("s3", "kms:Decrypt"), with_key("s3", "kms:Decrypt", "kms:GenerateDataKey")
    assert User(local_aws, objects).answer("s3", "get_object", **target) == "refused"
    assert with_key("dynamodb", "kms:Decrypt").answer("s3", "get_object", **target) == "refused"
    assert reader.answer("s3", "get_object", **target) == "allowed"
    assert reader.answer("s3", "put_object", **target, Body=b"2") == "refused"
    assert writer.answer("s3", "put_object", **target, Body=b"2") == "allowed"


@pytest.fixture(scope="module")
def table(local_aws: str) -> str:
    """A table that is encrypted with the key and has an index."""
    name = f"table-{uuid.uuid4().hex[:8]}"
    connect("dynamodb", local_aws).create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("a", "b")],
        KeySchema=[{"AttributeName": "a", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-b",
                "KeySchema": [{"AttributeName": "b", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY_ARN},
    )
    return name


def test_table_and_index_are_resources_and_the_key_of_the_table_takes_a_right(
    local_aws: str, table: str
) -> None:
    arn = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/{table}"
    via = {"StringEquals": {"kms:ViaService": "dynamodb.us-east-1.amazonaws.com"}}
    key = {"Action": "kms:Decrypt", "Resource": KEY_ARN, "Condition": via}
    items = {"Action": ["dynamodb:Query", "dynamodb:PutItem"], "Resource": arn}
    query: dict[str, Any] = {
        "TableName": table,
        "KeyConditionExpression": "a = :v",
        "ExpressionAttributeValues": {":v": {"S": "1"}},
    }
    by_index = query | {"IndexName": "by-b", "KeyConditionExpression": "b = :v"}
    item = {"a": {"S": "1"}}
    change = {"TransactItems": [{"Put": {"TableName": table, "Item": item}}]}
    check = {
        "ConditionCheck": {"TableName": table, "Key": item, "ConditionExpression": "attribute_exists(a)"}
    }

    user = User(local_aws, items, key)
    assert user.answer("dynamodb", "query", **query) == "allowed"
    assert user.answer("dynamodb", "query", **by_index) == "refused"
    assert user.answer("dynamodb", "put_item", TableName="another", Item=item) == "refused"
    assert user.answer("dynamodb", "transact_write_items", **change) == "allowed"
    change["TransactItems"].append(check)
    assert user.answer("dynamodb", "transact_write_items", **change) == "refused"
    assert User(local_aws, items).answer("dynamodb", "query", **query) == "refused"


def test_glue_job_is_a_resource_and_its_role_has_to_be_passed(local_aws: str) -> None:
    name, role = f"job-{uuid.uuid4().hex[:8]}", f"arn:aws:iam::{ACCOUNT}:role/of-job"
    jobs = {"Action": "glue:*", "Resource": f"arn:aws:glue:us-east-1:{ACCOUNT}:job/{name}"}
    job = {"Name": name, "Role": role, "Command": {"Name": "glueetl"}}

    def passing_to(service: str) -> User:
        condition = {"StringEquals": {"iam:PassedToService": service}}
        return User(local_aws, jobs, {"Action": "iam:PassRole", "Resource": role, "Condition": condition})

    assert User(local_aws, jobs).answer("glue", "create_job", **job) == "refused"
    assert passing_to("ec2.amazonaws.com").answer("glue", "create_job", **job) == "refused"
    assert passing_to("glue.amazonaws.com").answer("glue", "create_job", **job) == "allowed"
    reader = User(local_aws, jobs)
    assert reader.answer("glue", "get_job", JobName=name) == "allowed"
    assert reader.answer("glue", "get_job", JobName="another") == "refused"
    update = {"JobName": name, "JobUpdate": {"Role": "of-job", "Command": {"Name": "glueetl"}}}
    assert reader.answer("glue", "update_job", **update) == "refused"


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "action", "resource", "condition"),
    [
        ("iam", "get_role", {"RoleName": "{}"}, "iam:GetRole", "arn:aws:iam::{account}:role/{}", {}),
        (
            "logs",
            "describe_log_streams",
            {"logGroupName": "{}"},
            "logs:DescribeLogStreams",
            "arn:aws:logs:us-east-1:{account}:log-group:{}:*",
            {},
        ),
        (
            "logs",
            "get_log_events",
            {"logGroupName": "g", "logStreamName": "{}"},
            "logs:GetLogEvents",
            "arn:aws:logs:us-east-1:{account}:log-group:g:log-stream:{}",
            {},
        ),
        (
            "sns",
            "publish",
            {"TopicArn": "arn:aws:sns:us-east-1:{account}:{}", "Message": "m"},
            "sns:Publish",
            "arn:aws:sns:us-east-1:{account}:{}",
            {},
        ),
        (
            "cloudwatch",
            "put_metric_data",
            {"Namespace": "{}", "MetricData": [{"MetricName": "m", "Value": 1}]},
            "cloudwatch:PutMetricData",
            "*",
            {"StringEquals": {"cloudwatch:namespace": "{}"}},
        ),
    ],
)
def test_other_services_are_judged_by_resource_and_condition(
    local_aws: str,
    service: str,
    operation: str,
    parameters: dict[str, Any],
    action: str,
    resource: str,
    condition: dict[str, Any],
) -> None:
    def filled_in(value: Any, name: str) -> Any:
        return json.loads(
            json.dumps(value)
            .replace("{account}", ACCOUNT)
            .replace('{}"', f'{name}"')
            .replace("{}:", f"{name}:")
        )

    statement = {"Action": action, "Resource": filled_in(resource, "mine")}
    if condition:
        statement["Condition"] = filled_in(condition, "mine")
    user = User(local_aws, statement)

    assert user.answer(service, operation, **filled_in(parameters, "mine")) != "refused"
    assert user.answer(service, operation, **filled_in(parameters, "another")) == "refused"


@pytest.mark.parametrize(
    ("account", "external_id", "answer"),
    [(ACCOUNT, "agreed", "allowed"), ("999999999999", "agreed", "refused"), (ACCOUNT, "other", "refused")],
)
def test_role_that_trusts_an_account_trusts_everybody_in_it(
    local_aws: str, account: str, external_id: str, answer: str
) -> None:
    role = f"role-{uuid.uuid4().hex[:8]}"
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "agreed"}},
    }
    arn = connect("iam", local_aws).create_role(
        RoleName=role, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )["Role"]["Arn"]
    user = User(local_aws, {"Action": "sts:AssumeRole", "Resource": arn})

    assume = {"RoleArn": arn, "RoleSessionName": "test", "ExternalId": external_id}
    assert user.answer("sts", "assume_role", **assume) == answer


def test_nothing_is_checked_while_the_checks_are_off(local_aws: str, bucket: str) -> None:
    user = User(local_aws, listing(bucket))

    user.client("s3").put_object(Bucket=bucket, Key="k", Body=b"1")
    with enforced_policies(local_aws), pytest.raises(ClientError, match="AccessDenied"):
        user.client("s3").put_object(Bucket=bucket, Key="k", Body=b"1")
