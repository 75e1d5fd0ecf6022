"""Deploys ``include/stack.yaml`` to local AWS.

It leaves out three kinds of resources. The bucket policies refuse requests without TLS, which local AWS does
not have. Local AWS sends no mail and evaluates no alarms, so the e-mail subscription and the alarms are
useless.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

STACK_NAME = "music-streaming-pipeline"
REGION = "us-east-1"
# moto's; importing it from moto would take a second.
ACCOUNT = "123456789012"

_TEMPLATE = Path(__file__).parent.parent / "stack.yaml"


class _TemplateLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML with CloudFormation's short tags, such as ``!Ref``."""


def _expand_short_tag(loader: Any, tag: str, node: yaml.Node) -> dict[str, Any]:
    name = tag if tag == "Ref" else f"Fn::{tag}"
    if not isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_sequence(node, deep=True)}
    value = loader.construct_scalar(node)
    return {name: value.split(".") if tag == "GetAtt" else value}


_TemplateLoader.add_multi_constructor("!", _expand_short_tag)


def read_template() -> dict[str, Any]:
    """Return ``include/stack.yaml`` with its short tags expanded: ``{"Ref": ...}``."""
    template: dict[str, Any] = yaml.load(_TEMPLATE.read_text(), Loader=_TemplateLoader)
    return template


def provision(endpoint_url: str, parameters: Mapping[str, str] | None = None) -> dict[str, str]:
    """Create the pipeline's buckets, table, roles and topic in local AWS; existing ones are kept.

    Args:
        endpoint_url: address of local AWS, such as ``http://127.0.0.1:5555``.
        parameters: parameters of a new stack; the others have the template's defaults.

    Returns:
        The stack's outputs under the names of the pipeline's environment variables, such as
        ``SOURCE_BUCKET_NAME``.

    Raises:
        botocore.exceptions.EndpointConnectionError: local AWS is not running.
        ValueError: the stack exists with other parameters.
    """
    session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)
    options: dict[str, Any] = {"endpoint_url": endpoint_url, "config": Config(proxies={})}
    cloudformation = session.client("cloudformation", **options)
    _deploy(cloudformation, _TEMPLATE.read_text(), parameters or {})
    _apply_what_moto_leaves_out(
        cloudformation, session.client("s3", **options), session.client("dynamodb", **options)
    )
    outputs = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]["Outputs"]
    return {output["Description"]: output["OutputValue"] for output in outputs}


def _deploy(cloudformation: "CloudFormationClient", template: str, parameters: Mapping[str, str]) -> None:
    request: dict[str, Any] = {
        "StackName": STACK_NAME,
        "TemplateBody": template,
        "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
    try:
        stack: Any = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        cloudformation.create_stack(**request)
        return
    values = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack["Parameters"]}
    if values != values | dict(parameters):
        raise ValueError(
            f"moto cannot change the parameters of the stack {STACK_NAME}: start a new local AWS."
        )
    # moto would create the resources again; AWS answers that there is nothing to update.
    deployed: Any = cloudformation.get_template(StackName=STACK_NAME)["TemplateBody"]
    if deployed != template:
        cloudformation.update_stack(**request)


def _apply_what_moto_leaves_out(cloudformation: "CloudFormationClient", s3: Any, dynamodb: Any) -> None:
    template = read_template()
    resources = template["Resources"]
    stack: Any = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    values = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack["Parameters"]}
    for resource in cloudformation.describe_stack_resources(StackName=STACK_NAME)["StackResources"]:
        if "LogicalResourceId" not in resource:  # moto does not support its type
            continue
        properties = resources[resource["LogicalResourceId"]].get("Properties", {})
        name = resource["PhysicalResourceId"]
        if resource["ResourceType"] == "AWS::S3::Bucket":
            _complete_bucket(s3, name, _resolved(properties, values, template["Conditions"]))
        elif resource["ResourceType"] == "AWS::DynamoDB::Table":
            dynamodb.update_continuous_backups(
                TableName=name,
                PointInTimeRecoverySpecification=properties["PointInTimeRecoverySpecification"],
            )


def _resolved(part: Any, parameters: Mapping[str, str], conditions: Mapping[str, Any]) -> Any:
    """Return the part of the template with its parameters and conditions replaced by their values."""
    if isinstance(part, list):
        resolved = [_resolved(element, parameters, conditions) for element in part]
        return [element for element in resolved if element is not None]
    if not isinstance(part, dict):
        return part
    match part:
        case {"Ref": name}:
            value = parameters.get(name)
            return int(value) if value and value.isdecimal() else value
        case {"Fn::If": [name, yes, no]}:
            chosen = yes if _resolved(conditions[name], parameters, conditions) else no
            return _resolved(chosen, parameters, conditions)
        case {"Fn::Not": [condition]}:
            return not _resolved(condition, parameters, conditions)
        case {"Fn::Equals": [one, other]}:
            return _resolved(one, parameters, conditions) == other
        case {"Fn::GetAtt": ["StreamsQueue", "Arn"]}:
            return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{parameters['StreamsQueueParameter']}"
    return {name: _resolved(value, parameters, conditions) for name, value in part.items()}


def _complete_bucket(s3: Any, bucket: str, properties: dict[str, Any]) -> None:
    s3.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"]
    )
    rules = [_lifecycle_rule_of_api(rule) for rule in properties["LifecycleConfiguration"]["Rules"]]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    announced = properties.get("NotificationConfiguration")
    # S3 sends a test message each time that a queue is set.
    if announced and "QueueConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket):
        queues = [
            {
                "QueueArn": queue["Queue"],
                "Events": [queue["Event"]],
                "Filter": {"Key": {"FilterRules": queue["Filter"]["S3Key"]["Rules"]}},
            }
            for queue in announced["QueueConfigurations"]
        ]
        s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"QueueConfigurations": queues}
        )


def _lifecycle_rule_of_api(rule: dict[str, Any]) -> dict[str, Any]:
    expiration = {
        api_name: rule[name]
        for name, api_name in (
            ("ExpirationInDays", "Days"),
            ("ExpiredObjectDeleteMarker", "ExpiredObjectDeleteMarker"),
        )
        if name in rule
    }
    same = ("Status", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
    return {
        "ID": rule["Id"],
        "Filter": {"Prefix": rule.get("Prefix", "")},
        **({"Expiration": expiration} if expiration else {}),
        **{name: rule[name] for name in same if name in rule},
    }
