import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
from botocore.exceptions import ClientError

from kpi_table_support import day_items, make_table, put_items
from local_aws_support import connect, running_server

SERVER_WITH_SMALL_COPIES = """
from include.local_aws import moto_fixes
from include.local_aws.server import serve
moto_fixes.MAX_COPY_BYTES = 10
serve("127.0.0.1", 0)
"""
MISMATCH = '"0123456789abcdef0123456789abcdef"'


@pytest.fixture
def s3(local_aws: str) -> Any:
    return connect("s3", local_aws)


@pytest.fixture(params=["Enabled", "Suspended"], ids=["versioned", "unversioned"])
def bucket(request: pytest.FixtureRequest, s3: Any) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": request.param})
    return name


def keys(s3: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


def test_key_has_at_most_1024_bytes(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="ü" * 512, Body=b"1")
    assert refused(s3.put_object, Bucket=bucket, Key="ü" * 512 + "x", Body=b"1") == "KeyTooLongError"
    copy = {"Bucket": bucket, "Key": "ü" * 512}
    assert refused(s3.copy_object, Bucket=bucket, Key="k" * 1025, CopySource=copy) == "KeyTooLongError"
    assert keys(s3, bucket) == ["ü" * 512]


def test_copy_source_must_match_its_etag(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="source ä", Body=b"1")["ETag"]
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": {"Bucket": bucket, "Key": "source ä"}}
    assert refused(s3.copy_object, CopySourceIfMatch=MISMATCH, **copy) == "PreconditionFailed"
    assert keys(s3, bucket) == ["source ä"]
    s3.copy_object(CopySourceIfMatch=etag, **copy)
    assert keys(s3, bucket) == ["copy", "source ä"]


def test_copied_part_must_match_its_etag(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="source", Body=b"1")["ETag"]
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="copy")["UploadId"]
    part = {
        "Bucket": bucket,
        "Key": "copy",
        "UploadId": upload_id,
        "PartNumber": 1,
        "CopySource": {"Bucket": bucket, "Key": "source"},
    }
    assert refused(s3.upload_part_copy, CopySourceIfMatch=MISMATCH, **part) == "PreconditionFailed"
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="copy", UploadId=upload_id)
    s3.upload_part_copy(CopySourceIfMatch=etag, **part)
    assert len(s3.list_parts(Bucket=bucket, Key="copy", UploadId=upload_id)["Parts"]) == 1


def test_copy_destination_must_meet_its_conditions(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"1")
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": {"Bucket": bucket, "Key": "source"}}
    assert refused(s3.copy_object, IfMatch=MISMATCH, **copy) == "NoSuchKey"
    s3.copy_object(IfNoneMatch="*", **copy)
    assert refused(s3.copy_object, IfNoneMatch="*", **copy) == "PreconditionFailed"
    assert refused(s3.copy_object, IfMatch=MISMATCH, **copy) == "PreconditionFailed"


def test_copy_source_must_not_be_larger_than_a_copy_may_be() -> None:
    with running_server(("-c", SERVER_WITH_SMALL_COPIES)) as (endpoint_url, _):
        s3 = connect("s3", endpoint_url)
        s3.create_bucket(Bucket="bucket")
        for size in (10, 11):
            s3.put_object(Bucket="bucket", Key=f"{size} bytes", Body=b"x" * size)
        s3.copy_object(Bucket="bucket", Key="copy", CopySource={"Bucket": "bucket", "Key": "10 bytes"})
        source = {"Bucket": "bucket", "Key": "11 bytes"}
        assert refused(s3.copy_object, Bucket="bucket", Key="copy", CopySource=source) == "InvalidRequest"
        assert s3.head_object(Bucket="bucket", Key="copy")["ContentLength"] == 10


def test_batch_must_not_have_more_than_25_items(local_aws: str) -> None:
    dynamodb = connect("dynamodb", local_aws)
    table = make_table(dynamodb)
    requests = [
        {"PutRequest": {"Item": {"date": {"S": str(number)}, "track_genre": {"S": "pop"}}}}
        for number in range(26)
    ]
    assert refused(dynamodb.batch_write_item, RequestItems={table: requests}) == "ValidationException"
    assert dynamodb.scan(TableName=table)["Count"] == 0
    dynamodb.batch_write_item(RequestItems={table: requests[:25]})
    assert dynamodb.scan(TableName=table)["Count"] == 25


def test_delete_object_must_match_its_etag(s3: Any, bucket: str) -> None:
    etags = {key: s3.put_object(Bucket=bucket, Key=key, Body=b"1")["ETag"] for key in ("a", "b")}
    assert refused(s3.delete_object, Bucket=bucket, Key="a", IfMatch=MISMATCH) == "PreconditionFailed"
    assert keys(s3, bucket) == ["a", "b"]
    s3.delete_object(Bucket=bucket, Key="a", IfMatch=etags["a"])
    s3.delete_object(Bucket=bucket, Key="b", IfMatch="*")
    assert keys(s3, bucket) == []
    assert refused(s3.delete_object, Bucket=bucket, Key="a", IfMatch=etags["a"]) == "NoSuchKey"


def test_delete_objects_keeps_those_with_another_etag(s3: Any, bucket: str) -> None:
    etags = {
        key: s3.put_object(Bucket=bucket, Key=key, Body=b"1")["ETag"] for key in ("a&<ä>", "b", "c", "d")
    }
    answer = s3.delete_objects(
        Bucket=bucket,
        Delete={
            "Objects": [
                {"Key": "a&<ä>", "ETag": MISMATCH},
                {"Key": "b", "ETag": etags["b"]},
                {"Key": "c"},
                {"Key": "gone", "ETag": MISMATCH},
            ]
        },
    )
    assert sorted(deleted["Key"] for deleted in answer["Deleted"]) == ["b", "c"]
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [
        ("a&<ä>", "PreconditionFailed"),
        ("gone", "NoSuchKey"),
    ]
    assert keys(s3, bucket) == ["a&<ä>", "d"]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "d", "ETag": MISMATCH}]})
    assert [error["Code"] for error in answer["Errors"]] == ["PreconditionFailed"]
    assert keys(s3, bucket) == ["a&<ä>", "d"]


def test_listing_by_folders_leaves_out_those_of_deleted_objects(s3: Any, bucket: str) -> None:
    for key in ("a/b/deleted", "a/c/kept", "a/c/deleted"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    for key in ("a/b/deleted", "a/c/deleted"):
        s3.delete_object(Bucket=bucket, Key=key)

    listed = s3.list_objects_v2(Bucket=bucket, Prefix="a/", Delimiter="/")

    assert listed["CommonPrefixes"] == [{"Prefix": "a/c/"}]
    assert listed["KeyCount"] == 1


@pytest.mark.parametrize("versions_per_page", [1, 2, 3, 1000])
def test_pages_of_a_listing_of_versions_have_every_version_and_deletion_once(
    s3: Any, bucket: str, versions_per_page: int
) -> None:
    for key in ("a", "b/2", "b/1", "b/2", "b/3", "b/2", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    s3.delete_object(Bucket=bucket, Key="b/3")
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket, Prefix="b/", PaginationConfig={"PageSize": versions_per_page}
    )

    listed = [
        (entry["Key"], kind, entry["IsLatest"])
        for page in pages
        for kind in ("Versions", "DeleteMarkers")
        for entry in page.get(kind, [])
    ]

    versioned = s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    old = [("b/2", "Versions", False)] * 2 + [("b/3", "Versions", False)] if versioned else []
    current = [("b/1", "Versions", True), ("b/2", "Versions", True)]
    deleted = [("b/3", "DeleteMarkers", True)] if versioned else []
    assert sorted(listed) == sorted(old + current + deleted)


def test_put_object_must_not_find_the_key(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")
    assert refused(s3.put_object, Bucket=bucket, Key="a", Body=b"2", IfNoneMatch="*") == "PreconditionFailed"
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"
    s3.delete_object(Bucket=bucket, Key="a")
    s3.put_object(Bucket=bucket, Key="a", Body=b"3", IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"3"


def test_of_simultaneous_conditional_puts_of_an_object_one_succeeds(slow_aws: str) -> None:
    s3 = connect("s3", slow_aws)
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)

    def put(number: int) -> str:
        try:
            s3.put_object(Bucket=bucket, Key="key", Body=b"1", IfNoneMatch="*")
        except ClientError as error:
            return error.response["Error"]["Code"]
        return "put"

    with ThreadPoolExecutor(4) as executor:
        answers = sorted(executor.map(put, range(4)))
    assert answers == ["PreconditionFailed"] * 3 + ["put"]


def test_of_simultaneous_conditional_puts_of_an_item_one_succeeds(slow_aws: str) -> None:
    dynamodb = connect("dynamodb", slow_aws)
    table = make_table(dynamodb)

    def put(number: int) -> str:
        item = {"date": {"S": "2024-06-25"}, "track_genre": {"S": "pop"}, "version": {"N": str(number)}}
        try:
            dynamodb.put_item(TableName=table, Item=item, ConditionExpression="attribute_not_exists(version)")
        except ClientError as error:
            return error.response["Error"]["Code"]
        return "put"

    with ThreadPoolExecutor(4) as executor:
        answers = sorted(executor.map(put, range(4)))
    assert answers == ["ConditionalCheckFailedException"] * 3 + ["put"]


def test_inline_policy_of_a_stack_can_be_read(local_aws: str) -> None:
    name = f"role-{uuid.uuid4().hex[:8]}"
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    template = {
        "Resources": {
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "RoleName": name,
                    "AssumeRolePolicyDocument": {},
                    "Policies": [{"PolicyName": "read", "PolicyDocument": {"Statement": [statement]}}],
                },
            }
        }
    }
    connect("cloudformation", local_aws).create_stack(StackName=name, TemplateBody=json.dumps(template))
    policy = connect("iam", local_aws).get_role_policy(RoleName=name, PolicyName="read")
    assert policy["PolicyDocument"] == {"Statement": [statement]}


@pytest.mark.parametrize(
    ("properties", "status"), [({"VersioningConfiguration": {"Status": "Enabled"}}, "Enabled"), ({}, None)]
)
def test_bucket_of_a_stack_has_the_versions_of_its_template(
    local_aws: str, properties: dict[str, Any], status: str | None
) -> None:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": name, **properties}}
    template = json.dumps({"Resources": {"Bucket": bucket}})
    connect("cloudformation", local_aws).create_stack(StackName=name, TemplateBody=template)

    assert connect("s3", local_aws).get_bucket_versioning(Bucket=name).get("Status") == status


def test_query_gives_the_items_of_its_partition_in_order_and_by_pages(local_aws: str) -> None:
    dynamodb = connect("dynamodb", local_aws)
    table = make_table(dynamodb)
    days = [date(2024, 6, day) for day in (25, 24, 26)]
    for day in days:
        put_items(dynamodb, table, day_items(day, {"pop": 3, "rock": 2}))
    of_day: dict[str, Any] = {
        "KeyConditionExpression": "#key = :key",
        "ExpressionAttributeNames": {"#key": "date"},
        "ExpressionAttributeValues": {":key": {"S": "2024-06-25"}},
    }
    of_genre: dict[str, Any] = {
        "IndexName": "track_genre-date-index",
        "KeyConditionExpression": "#key = :key AND #date >= :first",
        "ExpressionAttributeNames": {"#key": "track_genre", "#date": "date"},
        "ExpressionAttributeValues": {":key": {"S": "pop"}, ":first": {"S": "2024-06-25"}},
    }

    def found(**request: Any) -> list[tuple[str, str]]:
        items = dynamodb.query(TableName=table, **request)["Items"]
        return [(item["date"]["S"], item["track_genre"]["S"]) for item in items]

    assert found(**of_day) == [("2024-06-25", genre) for genre in ("ALL_GENRES", "pop", "rock")]
    assert found(**of_genre) == [("2024-06-25", "pop"), ("2024-06-26", "pop")]
    assert found(**of_genre, ScanIndexForward=False, Limit=1) == [("2024-06-26", "pop")]
    assert found(**of_day | {"ExpressionAttributeValues": {":key": {"S": "2024-06-27"}}}) == []
    pages = dynamodb.get_paginator("query").paginate(
        TableName=table, **of_genre, PaginationConfig={"PageSize": 1}
    )
    assert [item["date"]["S"] for page in pages for item in page["Items"]] == ["2024-06-25", "2024-06-26"]
    # The query saw a part of the table and left the table unchanged.
    assert dynamodb.scan(TableName=table)["Count"] == 9


def test_transaction_that_is_refused_changes_nothing(local_aws: str) -> None:
    dynamodb = connect("dynamodb", local_aws)
    table = make_table(dynamodb)
    put_items(dynamodb, table, day_items(date(2024, 6, 25), {"pop": 3, "rock": 2}))
    before = dynamodb.scan(TableName=table)["Items"]

    def key(genre: str) -> dict[str, Any]:
        return {"date": {"S": "2024-06-25"}, "track_genre": {"S": genre}}

    update = {
        "UpdateExpression": "SET listen_count = :count",
        "ExpressionAttributeValues": {":count": {"N": "99"}},
    }
    changes = [
        {"Put": {"TableName": table, "Item": {**key("jazz"), "listen_count": {"N": "1"}}}},
        {"Update": {"TableName": table, "Key": key("pop"), **update}},
        {"Delete": {"TableName": table, "Key": key("rock")}},
    ]
    check = {"TableName": table, "Key": key("ALL_GENRES"), "ConditionExpression": "attribute_not_exists(#d)"}
    failing = {"ConditionCheck": check | {"ExpressionAttributeNames": {"#d": "date"}}}

    refusal = refused(dynamodb.transact_write_items, TransactItems=[*changes, failing])

    assert refusal == "TransactionCanceledException"
    assert dynamodb.scan(TableName=table)["Items"] == before
    dynamodb.transact_write_items(TransactItems=changes)
    assert {
        item["track_genre"]["S"]: item["listen_count"]["N"]
        for item in dynamodb.scan(TableName=table)["Items"]
    } == {"ALL_GENRES": before[0]["listen_count"]["N"], "jazz": "1", "pop": "99"}
