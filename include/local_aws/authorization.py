"""Makes IAM's decision on every request, once a client switches the checks on.

A POST of ``0`` to ``/moto-api/reset-auth`` switches them on, ``inf`` off. moto 5.2.5 identifies the caller
and checks the signature. This module decides, because moto has several gaps:

- It ignores conditions.
- It checks every service but S3 against the resource ``*``.
- It requires no rights to the source of a copy.
- It checks a deletion of several keys against the bucket.
- It does not know that trust in an account is trust in every identity of that account.

As in S3, a missing key gives 404 only to a caller that may list the bucket with that key as prefix, and 403
to everyone else. Only the caller's policies are evaluated: no bucket policies, no other policies.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.responses import BaseResponse
from moto.dynamodb.models import dynamodb_backends
from moto.iam.access_control import (
    IAMPolicy,
    IAMPolicyStatement,
    IAMRequest,
    IAMRequestBase,
    S3IAMRequest,
)
from moto.s3 import responses as s3_responses
from moto.s3.responses import S3Response

from include.local_aws.iam_policies import Request, Statement, as_list, is_allowed

Requests = Iterable[Request]

_TRANSACTION_ACTIONS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
_LISTINGS = {"ListBucket", "ListBucketVersions"}


def install() -> None:
    """Replace moto's decisions in this process."""
    s3_responses.ACTION_MAP["BUCKET"]["HEAD"]["DEFAULT"] = "ListBucket"
    s3_responses.ACTION_MAP["KEY"]["HEAD"]["versionId"] = "GetObjectVersion"
    replacements: list[tuple[Any, str, Any]] = [
        (ActionAuthenticatorMixin, "_authenticate_and_authorize_s3_action", _authorize_s3),
        (ActionAuthenticatorMixin, "_authenticate_and_authorize_normal_action", _authorize_other_service),
        (IAMRequestBase, "check_action_permitted", _check_permitted),
        (IAMPolicyStatement, "_check_principal", _trusts),
    ]
    for owner, name, replacement in replacements:
        setattr(owner, name, replacement)


def refused(caller: str, requests: Requests, statements: list[Statement]) -> list[Request]:
    """Return the requests that the statements do not allow.

    Args:
        caller: ARN of the caller; unused here, but code that records the decisions needs it.
        requests: everything that the caller must be allowed to do.
        statements: those of the caller's policies.

    Raises:
        ValueError: a statement has an element or operator that the evaluator does not support.
    """
    return [request for request in requests if not is_allowed(request, statements)]


# moto passes a "resource" to its check; here it is the function that finds the required rights.
def _authorize_s3(self: Any, bucket_name: str | None = None, key_name: str | None = None) -> None:
    self._authenticate_and_authorize_action(S3IAMRequest, partial(_s3_requests, self, bucket_name, key_name))


def _authorize_other_service(self: Any, resource: str = "*") -> None:
    self._authenticate_and_authorize_action(IAMRequest, partial(_other_requests, self, resource))


def _check_permitted(self: IAMRequestBase, find_requests: Callable[[], Requests]) -> None:
    requests = list(find_requests())
    statements = [
        statement
        for policy in self._access_key.collect_policies()
        for statement in as_list(IAMPolicy(policy)._policy_json["Statement"])
    ]
    if refused(self._access_key.arn, requests, statements):
        self._raise_access_denied()
    for request in requests:
        if self._is_assuming_role_operation(request.resource) and not self._check_role_trust_relationship(
            request.resource
        ):
            self._raise_access_denied()


def _trusts(self: IAMPolicyStatement, principal: str) -> bool:
    trusted = as_list((self._statement.get("Principal") or {"AWS": "*"}).get("AWS", []))
    account = principal.split(":")[4]
    return not {"*", principal, f"arn:aws:iam::{account}:root"}.isdisjoint(trusted)


def _s3_requests(response: S3Response, bucket: str | None, key: str | None) -> Iterator[Request]:
    action = response.data["Action"]
    arn = f"arn:aws:s3:::{bucket or '*'}"
    if bucket is None or key is None:
        if action == "DeleteObject":
            return  # several keys; each is checked where it is deleted
        prefix = {"s3:prefix": response.querystring["prefix"][0]} if "prefix" in response.querystring else {}
        yield Request(f"s3:{action}", arn, prefix if action in _LISTINGS else {})
    elif action in {"GetObject", "GetObjectVersion"}:
        version_id = response.querystring.get("versionId", [None])[0]
        yield from _reading(response, bucket, key, version_id)
    elif action == "PutObject":
        yield Request("s3:PutObject", f"{arn}/{key}")
        yield from _use_of_key(response, bucket, "kms:Decrypt", "kms:GenerateDataKey")
        if "x-amz-tagging" in response.headers:
            yield Request("s3:PutObjectTagging", f"{arn}/{key}")
        if source := response.headers.get("x-amz-copy-source"):
            yield from _copying(response, source, f"{arn}/{key}")
    else:
        yield Request(f"s3:{action}", f"{arn}/{key}")
        if action == "DeleteObject" and "If-Match" in response.headers:
            yield Request("s3:GetObject", f"{arn}/{key}")


def _reading(response: S3Response, bucket: str, key: str, version_id: str | None) -> Iterator[Request]:
    arn = f"arn:aws:s3:::{bucket}"
    yield Request(_versioned("s3:GetObject", version_id), f"{arn}/{key}")
    if response.backend.get_object(bucket, key, version_id=version_id) is None:
        yield Request("s3:ListBucket", arn, {"s3:prefix": key})
    else:
        yield from _use_of_key(response, bucket, "kms:Decrypt")


def _copying(response: S3Response, source: str, destination_arn: str) -> Iterator[Request]:
    address = urlparse(source)
    bucket, key = unquote(address.path).lstrip("/").split("/", 1)
    version_id = parse_qs(address.query).get("versionId", [None])[0]
    yield from _reading(response, bucket, key, version_id)
    found = response.backend.get_object(bucket, key, version_id=version_id)
    # A part carries no tags.
    if "uploadId" in response.querystring or found is None:
        return
    if response.backend.tagger.get_tag_dict_for_resource(found.arn):
        yield Request(_versioned("s3:GetObject", version_id) + "Tagging", f"arn:aws:s3:::{bucket}/{key}")
        yield Request("s3:PutObjectTagging", destination_arn)


def _versioned(action: str, version_id: str | None) -> str:
    return f"{action}Version" if version_id else action


def _use_of_key(response: S3Response, bucket: str, *actions: str) -> Iterator[Request]:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    for rule in as_list((response.backend.get_bucket(bucket).encryption or {}).get("Rule", [])):
        key_arn = rule["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID")
        for action in actions if key_arn else ():
            yield Request(action, key_arn, {"kms:ViaService": f"s3.{response.region}.amazonaws.com"})


def _other_requests(response: BaseResponse, resource: str) -> Iterator[Request]:
    service, action = str(response.service_name), response._get_action()
    if (service, action) == ("sts", "GetCallerIdentity"):
        return  # AWS allows it to everyone
    if service in _OTHER_SERVICES:
        yield from _OTHER_SERVICES[service](response, action, _parameters(response))
    else:
        yield Request(f"{service}:{action}", resource)


def _parameters(response: BaseResponse) -> dict[str, Any]:
    if response.automated_parameter_parsing:
        return dict(response.params)
    parameters: dict[str, Any] = json.loads(response.body or "{}")
    return parameters


def _arn(response: BaseResponse, service: str, resource: str) -> str:
    return f"arn:aws:{service}:{response.region}:{response.current_account}:{resource}"


def _dynamodb_requests(response: BaseResponse, action: str, parameters: dict[str, Any]) -> Iterator[Request]:
    changes = (
        [
            (_TRANSACTION_ACTIONS[kind], change)
            for item in parameters["TransactItems"]
            for kind, change in item.items()
        ]
        if action == "TransactWriteItems"
        else [(action, parameters)]
    )
    for one, change in changes:
        name = change.get("TableName", "*")
        table = name if name.startswith("arn:") else _arn(response, "dynamodb", f"table/{name}")
        index = f"/index/{change['IndexName']}" if "IndexName" in change else ""
        yield Request(f"dynamodb:{one}", table + index)
        # DynamoDB decrypts the table's key on behalf of the table's user:
        # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html
        found = dynamodb_backends[response.current_account][response.region].tables.get(name)
        key_arn = ((found.sse_specification if found else None) or {}).get("KMSMasterKeyId")
        if key_arn:
            via = {"kms:ViaService": f"dynamodb.{response.region}.amazonaws.com"}
            yield Request("kms:Decrypt", key_arn, via)


def _glue_requests(response: BaseResponse, action: str, parameters: dict[str, Any]) -> Iterator[Request]:
    name = parameters.get("JobName") or parameters.get("Name")
    yield Request(f"glue:{action}", _arn(response, "glue", f"job/{name}") if name else "*")
    role = parameters.get("Role") or parameters.get("JobUpdate", {}).get("Role")
    if role:
        arn = role if role.startswith("arn:") else f"arn:aws:iam::{response.current_account}:role/{role}"
        yield Request("iam:PassRole", arn, {"iam:PassedToService": "glue.amazonaws.com"})


def _iam_requests(response: BaseResponse, action: str, parameters: dict[str, Any]) -> Iterator[Request]:
    role = f"arn:aws:iam::{response.current_account}:role/{parameters.get('RoleName')}"
    yield Request(f"iam:{action}", role if "RoleName" in parameters else "*")


def _logs_requests(response: BaseResponse, action: str, parameters: dict[str, Any]) -> Iterator[Request]:
    group = f"log-group:{parameters.get('logGroupName', '*')}"
    yield Request(
        f"logs:{action}", _arn(response, "logs", f"{group}:log-stream:{parameters.get('logStreamName', '')}")
    )


def _sns_requests(response: BaseResponse, action: str, parameters: dict[str, Any]) -> Iterator[Request]:
    yield Request(f"sns:{action}", parameters.get("TopicArn") or parameters.get("TargetArn") or "*")


def _sqs_requests(response: BaseResponse, action: str, parameters: dict[str, Any]) -> Iterator[Request]:
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html:
    # the right to an action on one message is that to a batch.
    queue = parameters.get("QueueUrl", "*").rpartition("/")[2]
    yield Request(f"sqs:{action.removesuffix('Batch')}", _arn(response, "sqs", queue))


def _cloudwatch_requests(
    response: BaseResponse, action: str, parameters: dict[str, Any]
) -> Iterator[Request]:
    namespace = {"cloudwatch:namespace": parameters["Namespace"]} if "Namespace" in parameters else {}
    yield Request(f"cloudwatch:{action}", "*", namespace)


_OTHER_SERVICES: dict[str, Callable[[BaseResponse, str, dict[str, Any]], Iterator[Request]]] = {
    "dynamodb": _dynamodb_requests,
    "glue": _glue_requests,
    "iam": _iam_requests,
    "logs": _logs_requests,
    "sns": _sns_requests,
    "sqs": _sqs_requests,
    "cloudwatch": _cloudwatch_requests,
}
