"""Calls of the AWS SDK, and what IAM is asked for when AWS gets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.include.conftest import ACCOUNT, KEY_ARN
from tests.include.stack_policies.evaluator import Request
from tests.include.stack_policies.recorder import Call

REGION = "us-east-1"
_TRANSACTION_ACTIONS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
_LISTINGS = {
    "HeadBucket": "s3:ListBucket",
    "ListObjects": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListObjectVersions": "s3:ListBucketVersions",
}
_UPLOADS = {"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"}


def requests_of(call: Call, tagged_bucket: str = "") -> list[Request]:
    """Return all that the caller must be allowed to do for the call to end well.

    Args:
        call: the call.
        tagged_bucket: the bucket whose objects may have tags, which a copy takes along.

    Raises:
        KeyError: the call is not known here.
    """
    if call.service == "s3":
        return list(_s3_requests(call.operation, call.parameters, tagged_bucket))
    return list(_OTHER_SERVICES[call.service](call.operation, call.parameters))


def key_requests_of(call: Call) -> list[Request]:
    """Return what S3 or DynamoDB asks of the caller's key when bucket or table is encrypted with one.

    A bucket: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html. A table: its key
    was made with it, and DynamoDB decrypts that in the name of who uses the table, see "Monitoring" in
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html. The longer
    list of rights there is asked of who chooses the key for the table, which no task does.
    """
    actions: set[str] = set()
    if call.service == "dynamodb":
        actions = {"kms:Decrypt"}
    for request in requests_of(call) if call.service == "s3" else ():
        if request.action in {"s3:GetObject", "s3:GetObjectVersion"}:
            actions.add("kms:Decrypt")
        elif request.action == "s3:PutObject":
            actions |= {"kms:GenerateDataKey", "kms:Decrypt"}  # the latter for the parts of an upload
    context = {"kms:ViaService": f"{call.service}.{REGION}.amazonaws.com"}
    return [Request(action, KEY_ARN, context) for action in sorted(actions)]


def _s3_requests(operation: str, parameters: Mapping[str, Any], tagged_bucket: str) -> Iterator[Request]:
    bucket_arn = f"arn:aws:s3:::{parameters['Bucket']}"
    object_arn = f"{bucket_arn}/{parameters.get('Key')}"
    if operation in _LISTINGS:
        prefix = {"s3:prefix": parameters["Prefix"]} if "Prefix" in parameters else {}
        yield Request(_LISTINGS[operation], bucket_arn, prefix)
    elif operation in {"GetObject", "HeadObject"}:
        yield Request(_versioned("GetObject", parameters), object_arn)
        yield Request("s3:ListBucket", bucket_arn)  # else a missing object is answered 403, not 404
    elif operation in _UPLOADS:
        yield Request("s3:PutObject", object_arn)
    elif operation in {"CopyObject", "UploadPartCopy"}:
        has_tags = operation == "CopyObject" and parameters["CopySource"]["Bucket"] == tagged_bucket
        yield from _copy_requests(parameters["CopySource"], object_arn, has_tags)
    elif operation in {"DeleteObject", "DeleteObjects"}:
        for entry in parameters["Delete"]["Objects"] if "Delete" in parameters else [parameters]:
            yield Request(_versioned("DeleteObject", entry), f"{bucket_arn}/{entry['Key']}")
            if "IfMatch" in entry:
                yield Request("s3:GetObject", object_arn)
    elif operation == "AbortMultipartUpload":
        yield Request("s3:AbortMultipartUpload", object_arn)
    else:
        raise KeyError(f"s3 {operation}")


def _copy_requests(source: Mapping[str, Any], destination: str, has_tags: bool) -> Iterator[Request]:
    source_arn = f"arn:aws:s3:::{source['Bucket']}/{source['Key']}"
    yield Request(_versioned("GetObject", source), source_arn)
    yield Request("s3:PutObject", destination)
    if has_tags:
        yield Request(_versioned("GetObject", source) + "Tagging", source_arn)
        yield Request("s3:PutObjectTagging", destination)


def _versioned(action: str, parameters: Mapping[str, Any]) -> str:
    return f"s3:{action}Version" if "VersionId" in parameters else f"s3:{action}"


def _dynamodb_requests(operation: str, parameters: Mapping[str, Any]) -> Iterator[Request]:
    if operation == "TransactWriteItems":
        for item in parameters["TransactItems"]:
            [(kind, change)] = item.items()
            yield Request(f"dynamodb:{_TRANSACTION_ACTIONS[kind]}", _table_arn(change))
    elif operation in {"DescribeTable", "GetItem", "Query", "Scan", "PutItem", "UpdateItem", "DeleteItem"}:
        yield Request(f"dynamodb:{operation}", _table_arn(parameters))
    else:
        raise KeyError(f"dynamodb {operation}")


def _table_arn(parameters: Mapping[str, Any]) -> str:
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{parameters['TableName']}"
    return f"{table}/index/{parameters['IndexName']}" if "IndexName" in parameters else table


def _glue_requests(operation: str, parameters: Mapping[str, Any]) -> Iterator[Request]:
    job_name = parameters.get("JobName") or parameters["Name"]
    yield Request(f"glue:{operation}", f"arn:aws:glue:{REGION}:{ACCOUNT}:job/{job_name}")
    role = parameters.get("Role") or parameters.get("JobUpdate", {}).get("Role")
    if role:
        yield Request("iam:PassRole", role, {"iam:PassedToService": "glue.amazonaws.com"})


def _iam_requests(operation: str, parameters: Mapping[str, Any]) -> Iterator[Request]:
    yield Request(f"iam:{operation}", f"arn:aws:iam::{ACCOUNT}:role/{parameters['RoleName']}")


def _logs_requests(operation: str, parameters: Mapping[str, Any]) -> Iterator[Request]:
    group = parameters["logGroupName"]
    yield Request(f"logs:{operation}", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}")


def _sns_requests(operation: str, parameters: Mapping[str, Any]) -> Iterator[Request]:
    topic = parameters.get("TopicArn") or parameters["TargetArn"]
    yield Request(f"sns:{operation}", topic)


def _cloudwatch_requests(operation: str, parameters: Mapping[str, Any]) -> Iterator[Request]:
    yield Request(f"cloudwatch:{operation}", "*", {"cloudwatch:namespace": parameters["Namespace"]})


_OTHER_SERVICES = {
    "dynamodb": _dynamodb_requests,
    "glue": _glue_requests,
    "iam": _iam_requests,
    "logs": _logs_requests,
    "sns": _sns_requests,
    "cloudwatch": _cloudwatch_requests,
}
