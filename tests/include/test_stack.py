"""What the stack's parameters bring about; test_provision.py has the stack as it is without them."""

import json
import re
from functools import cache
from typing import Any

import jmespath  # type: ignore[import-untyped]
import pytest
import yaml
from airflow.models.connection import Connection

from helpers.success_metric import METRIC, NAMESPACE
from include.local_aws.provision import STACK_NAME, _TemplateLoader
from local_aws_support import REPOSITORY, connect
from tests.include.conftest import ASTRO_ARN, EXTERNAL_ID, KEY_ARN, DeployedStack
from tests.include.stack_policies.policies import AIRFLOW_ROLE, GLUE_ROLE, role_statements

BUCKETS = ["SOURCE_BUCKET_NAME", "INTERMEDIATE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME"]
SEVEN_DAYS = 7 * 24 * 3600


@cache
def template() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((REPOSITORY / "include" / "stack.yaml").read_text(), _TemplateLoader)
    return loaded


def properties(resource: str) -> dict[str, Any]:
    found: dict[str, Any] = template()["Resources"][resource]["Properties"]
    return found


@pytest.mark.parametrize("variable", BUCKETS)
def test_given_key_encrypts_every_bucket(full_stack: DeployedStack, variable: str) -> None:
    s3 = connect("s3", full_stack.endpoint_url)

    encryption = s3.get_bucket_encryption(Bucket=full_stack.environment[variable])

    [rule] = encryption["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": KEY_ARN,
    }


@pytest.mark.parametrize("bucket", ["SourceBucket", "IntermediateBucket", "ArchiveBucket"])
def test_buckets_ask_for_the_given_key_once_and_not_for_every_object(bucket: str) -> None:
    """Read in the template: moto's CloudFormation leaves bucket keys out."""
    [rule] = properties(bucket)["BucketEncryption"]["ServerSideEncryptionConfiguration"]

    assert rule["BucketKeyEnabled"] == {"Fn::If": ["UseKmsKey", True, {"Ref": "AWS::NoValue"}]}


def test_given_key_encrypts_the_table() -> None:
    assert properties("KpiTable")["SSESpecification"] == {
        "Fn::If": [
            "UseKmsKey",
            {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": {"Ref": "KmsKeyArn"}},
            {"Ref": "AWS::NoValue"},
        ]
    }


def test_only_who_is_named_with_the_external_id_may_assume_the_airflow_role(
    full_stack: DeployedStack,
) -> None:
    role = connect("iam", full_stack.endpoint_url).get_role(RoleName=AIRFLOW_ROLE)["Role"]

    assert role["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"AWS": ASTRO_ARN},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
        }
    ]


def test_output_is_the_connection_by_which_airflow_assumes_the_role(full_stack: DeployedStack) -> None:
    connection = Connection.from_json(full_stack.environment["AIRFLOW_CONN_AWS_DEFAULT"])

    role = connect("iam", full_stack.endpoint_url).get_role(RoleName=AIRFLOW_ROLE)["Role"]
    assert connection.conn_type == "aws"
    assert connection.extra_dejson == {
        "role_arn": role["Arn"],
        "region_name": "us-east-1",
        "assume_role_kwargs": {"ExternalId": EXTERNAL_ID},
    }


def test_every_output_is_described_by_its_name_as_a_variable() -> None:
    names = {
        name: "".join(f"_{letter}" if letter.isupper() else letter for letter in name).lstrip("_").upper()
        for name in template()["Outputs"]
    }

    assert {name: output["Description"] for name, output in template()["Outputs"].items()} == names


@pytest.mark.parametrize("role", [AIRFLOW_ROLE, GLUE_ROLE])
def test_inline_policies_are_short_enough_for_iam(full_stack: DeployedStack, role: str) -> None:
    """The limit is 10,240 characters a role, white space not counted."""
    statements = role_statements(full_stack.endpoint_url, role)

    assert 0 < len(json.dumps(statements, separators=(",", ":"))) < 8000


def test_parameters_of_a_stack_that_is_there_are_not_silently_left_out(full_stack: DeployedStack) -> None:
    from include.local_aws.provision import provision

    with pytest.raises(ValueError, match=f"cannot change the parameters of the stack {STACK_NAME}"):
        provision(full_stack.endpoint_url, {"KmsKeyArn": KEY_ARN.replace("1111", "2222")})


class TestAlarm:
    """The alarm is not in local AWS, which evaluates none; here are its values."""

    def test_watches_what_the_pipeline_counts(self) -> None:
        alarm = properties("NoRunSucceededAlarm")

        assert (alarm["Namespace"], alarm["MetricName"]) == (NAMESPACE, METRIC)
        assert alarm["Dimensions"] == [{"Name": "KpiTable", "Value": {"Ref": "KpiTable"}}]

    def test_rings_at_the_topic_after_hours_without_a_count(self) -> None:
        alarm = properties("NoRunSucceededAlarm")

        assert alarm["EvaluationPeriods"] == {"Ref": "HoursWithoutSuccess"}
        assert alarm["Period"] == 3600
        assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == (
            "Sum",
            "LessThanThreshold",
            1,
        )
        assert alarm["TreatMissingData"] == "breaching"
        assert alarm["AlarmActions"] == [{"Ref": "AlertTopic"}]

    def test_longest_time_is_one_that_cloudwatch_takes(self) -> None:
        hours = template()["Parameters"]["HoursWithoutSuccess"]["MaxValue"]

        assert hours * properties("NoRunSucceededAlarm")["Period"] <= SEVEN_DAYS

    def test_values_are_taken_by_the_api(self, full_stack: DeployedStack) -> None:
        cloudwatch = connect("cloudwatch", full_stack.endpoint_url)
        alarm = properties("NoRunSucceededAlarm") | {
            "AlarmName": "tried",
            "AlarmDescription": "tried",
            "Dimensions": [{"Name": "KpiTable", "Value": full_stack.environment["KPI_TABLE_NAME"]}],
            "EvaluationPeriods": 26,
            "AlarmActions": [full_stack.environment["ALERT_SNS_TOPIC_ARN"]],
            "OKActions": [full_stack.environment["ALERT_SNS_TOPIC_ARN"]],
        }

        cloudwatch.put_metric_alarm(**alarm)

        [made] = cloudwatch.describe_alarms(AlarmNames=["tried"])["MetricAlarms"]
        assert {name: made[name] for name in alarm} == alarm


def test_command_of_the_readme_prints_the_lines_for_dotenv(full_stack: DeployedStack) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    [query] = re.findall(r'--query "(Stacks\[0\]\.Outputs.+)" --output text', readme)
    stacks = connect("cloudformation", full_stack.endpoint_url).describe_stacks(StackName=STACK_NAME)

    lines = [line for [line] in jmespath.search(query, stacks)]

    assert dict(line.split("=", 1) for line in lines) == full_stack.environment


def test_readme_explains_every_parameter_with_its_default() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    parameters = template()["Parameters"]
    table = readme.partition("| parameter | default |")[2].partition("\n\n")[0]
    explained = set(re.findall(r"`([A-Z][A-Za-z]+)`", table))

    assert explained == parameters.keys()
    for name in ("HoursWithoutSuccess", "KpiTableDeletionProtection"):
        [default] = re.findall(rf"^\| `{name}` \| `?(\w+)`? \|", table, re.MULTILINE)
        assert default == str(parameters[name]["Default"])
