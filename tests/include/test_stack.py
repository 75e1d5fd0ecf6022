"""The effects of the stack's parameters; test_provision.py covers the stack without them."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jmespath  # type: ignore[import-untyped]
import pytest
from airflow.models.connection import Connection
from cfnlint.api import lint_file  # type: ignore[import-untyped]

from helpers.contract.figures import FIGURES
from helpers.notices.run_metrics import METRIC, NAMESPACE
from include.local_aws.provision import STACK_NAME, provision, read_template
from include.retained import retained
from local_aws_support import REPOSITORY, connect, running_server
from tests.include.conftest import ASTRO_ARN, EXTERNAL_ID, KEY_ARN, DeployedStack
from tests.include.stack_policies.policies import AIRFLOW_ROLE, GLUE_ROLE, role_statements

DEPLOYING = REPOSITORY / "docs" / "deploy.md"
BUCKETS = ["SOURCE_BUCKET_NAME", "INTERMEDIATE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME"]
SEVEN_DAYS = 7 * 24 * 3600


@cache
def template() -> dict[str, Any]:
    return read_template()


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
    """The template is checked, because moto's CloudFormation ignores bucket keys."""
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


def test_given_retention_is_that_of_each_prefix(full_stack: DeployedStack) -> None:
    s3, names = connect("s3", full_stack.endpoint_url), full_stack.environment

    expiring = {
        f"{variable}/{rule['Filter']['Prefix']}": (
            rule.get("Expiration", {}).get("Days"),
            rule["NoncurrentVersionExpiration"]["NoncurrentDays"],
        )
        for variable in ("SOURCE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME")
        for rule in s3.get_bucket_lifecycle_configuration(Bucket=names[variable])["Rules"]
        if "NoncurrentVersionExpiration" in rule
    }

    assert expiring == {
        "SOURCE_BUCKET_NAME/": (None, 30),
        "ARCHIVE_BUCKET_NAME/kpis/": (None, 30),
        "ARCHIVE_BUCKET_NAME/catalogs/": (None, 30),
        "ARCHIVE_BUCKET_NAME/streams/": (400, 30),
        "ARCHIVE_BUCKET_NAME/quarantine/": (100, 30),
        "ARCHIVE_BUCKET_NAME/listens/": (800, 30),
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
    """The limit is 10,240 characters per role, without white space."""
    statements = role_statements(full_stack.endpoint_url, role)

    assert 0 < len(json.dumps(statements, separators=(",", ":"))) < 8000


def test_s3_announces_new_stream_files_and_nothing_else_to_the_given_queue() -> None:
    with running_server() as (endpoint_url, _):
        names = provision(endpoint_url, {"StreamsQueueParameter": "files"})
        provision(endpoint_url)
        s3, sqs = connect("s3", endpoint_url), connect("sqs", endpoint_url)
        for key in ("streams/a.csv", "songs/b.csv"):
            s3.put_object(Bucket=names["SOURCE_BUCKET_NAME"], Key=key, Body=b"")
        s3.delete_object(Bucket=names["SOURCE_BUCKET_NAME"], Key="streams/a.csv")
        queue = names["STREAMS_QUEUE_URL"]

        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]

        test, announced = (json.loads(message["Body"]) for message in messages)
        assert test["Event"] == "s3:TestEvent"
        assert [record["s3"]["object"]["key"] for record in announced["Records"]] == ["streams%2Fa.csv"]


def test_without_a_name_there_is_no_queue() -> None:
    with running_server() as (endpoint_url, _):
        names = provision(endpoint_url)

        assert "STREAMS_QUEUE_URL" not in names
        assert "QueueUrls" not in connect("sqs", endpoint_url).list_queues()


def test_bucket_is_told_of_the_queue_once_it_may_send_to_it() -> None:
    """S3 refuses a queue to which it may not send; moto does not, so the template is checked."""
    source = template()["Resources"]["SourceBucket"]

    assert "StreamsQueuePolicy" in references(source)


def test_parameters_of_a_stack_that_is_there_are_not_silently_left_out(full_stack: DeployedStack) -> None:
    with pytest.raises(ValueError, match=f"cannot change the parameters of the stack {STACK_NAME}"):
        provision(full_stack.endpoint_url, {"KmsKeyArn": KEY_ARN.replace("1111", "2222")})


RETAINED = {"SourceBucket", "IntermediateBucket", "ArchiveBucket", "KpiTable"}


def references(value: Any) -> set[str]:
    """Return the names of resources that the part of a template refers to or depends on."""
    if isinstance(value, str):
        return {name for name in template()["Resources"] if name == value or f"${{{name}" in value}
    if isinstance(value, list):
        return set().union(*map(references, value))
    if isinstance(value, dict):
        return set().union(*map(references, value.values()))
    return set()


def test_buckets_and_table_outlive_the_stack_but_not_a_failed_first_deployment() -> None:
    policies = {
        name: (resource["DeletionPolicy"], resource["UpdateReplacePolicy"])
        for name, resource in template()["Resources"].items()
        if "DeletionPolicy" in resource
    }

    assert policies == dict.fromkeys(RETAINED, ("RetainExceptOnCreate", "Retain"))


def test_table_which_refuses_to_be_deleted_is_made_after_everything_else() -> None:
    resources, before = template()["Resources"], {"KpiTable"}
    while before != (more := before.union(*(references(resources[name]) for name in before))):
        before = more

    assert before == resources.keys()


def test_deleted_stack_leaves_buckets_and_table_with_what_they_hold() -> None:
    with running_server() as (endpoint_url, _):
        names = provision(endpoint_url)
        cloudformation, s3, iam = (connect(name, endpoint_url) for name in ("cloudformation", "s3", "iam"))
        s3.put_object(Bucket=names["ARCHIVE_BUCKET_NAME"], Key="listens/a", Body=b"1")

        cloudformation.delete_stack(StackName=STACK_NAME)

        assert sorted(bucket["Name"] for bucket in s3.list_buckets()["Buckets"]) == sorted(
            names[variable] for variable in BUCKETS
        )
        kept = s3.get_object(Bucket=names["ARCHIVE_BUCKET_NAME"], Key="listens/a")
        assert kept["Body"].read() == b"1"
        assert connect("dynamodb", endpoint_url).list_tables()["TableNames"] == [names["KPI_TABLE_NAME"]]
        assert iam.list_roles()["Roles"] == []


class TestRetained:
    """The resources that a new stack imports; local AWS supports no import."""

    def test_is_valid_and_has_nothing_else(self, tmp_path: Path) -> None:
        file = tmp_path / "retained.json"
        file.write_text(json.dumps(retained(template())))

        cut = json.loads(file.read_text())
        assert cut["Resources"].keys() == RETAINED
        assert "Outputs" not in cut
        assert [match for match in lint_file(file) if match.rule.severity == "error"] == []

    def test_page_on_deploying_imports_each_resource_under_its_name(self) -> None:
        page = DEPLOYING.read_text()
        [listed] = re.findall(r"--resources-to-import '(.+?)'", page, re.DOTALL)

        imported = {entry["LogicalResourceId"]: entry for entry in json.loads(listed)}

        assert imported.keys() == RETAINED
        for name, entry in imported.items():
            assert entry["ResourceType"] == template()["Resources"][name]["Type"]
            [identifier] = entry["ResourceIdentifier"]
            assert identifier in template()["Resources"][name]["Properties"]


class TestAlarm:
    """The alarm's values in the template, because local AWS evaluates no alarms."""

    def test_watches_what_the_pipeline_counts(self) -> None:
        alarm = properties("NoRunSucceededAlarm")

        assert (alarm["Namespace"], alarm["MetricName"]) == (NAMESPACE, METRIC)
        assert alarm["Dimensions"] == [{"Name": "KpiTable", "Value": {"Ref": "KpiTableParameter"}}]

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


class TestAlarmsOnQuality:
    def test_watch_metrics_that_every_run_sends_for_its_table(self) -> None:
        sent = {figure.metric for figure in FIGURES}
        stale, model = properties("StaleListensAlarm"), properties("NewListensModel")
        [listens] = [query["MetricStat"] for query in properties("FewListensAlarm")["Metrics"][:1]]

        watched = [stale, listens["Metric"], model["SingleMetricAnomalyDetector"]]
        for metric in watched:
            assert metric["Namespace"] == NAMESPACE
            assert metric["MetricName"] in sent
            assert metric["Dimensions"] == [{"Name": "KpiTable", "Value": {"Ref": "KpiTableParameter"}}]

    def test_old_listens_ring_at_the_topic_and_hours_without_a_run_change_nothing(self) -> None:
        alarm = properties("StaleListensAlarm")

        assert (alarm["MetricName"], alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == (
            "FreshnessHours",
            "Minimum",
            "GreaterThanThreshold",
            {"Ref": "MaxFreshnessHours"},
        )
        assert alarm["TreatMissingData"] == "ignore"
        assert alarm["AlarmActions"] == [{"Ref": "AlertTopic"}]

    def test_fewer_new_listens_than_the_model_of_the_stack_expects_ring_at_the_topic(self) -> None:
        alarm = properties("FewListensAlarm")
        listens, expected = alarm["Metrics"]
        model = properties("NewListensModel")["SingleMetricAnomalyDetector"]

        assert alarm["ComparisonOperator"] == "LessThanLowerThreshold"
        assert alarm["ThresholdMetricId"] == expected["Id"]
        assert expected["Expression"] == f"ANOMALY_DETECTION_BAND({listens['Id']}, 3)"
        assert (listens["MetricStat"]["Metric"]["MetricName"], listens["MetricStat"]["Stat"]) == (
            model["MetricName"],
            model["Stat"],
        )
        assert alarm["TreatMissingData"] == "ignore"
        assert alarm["AlarmActions"] == [{"Ref": "AlertTopic"}]

    @pytest.mark.parametrize("name", ["StaleListensAlarm", "FewListensAlarm"])
    def test_values_are_taken_by_the_api(self, full_stack: DeployedStack, name: str) -> None:
        table = full_stack.environment["KPI_TABLE_NAME"]
        values = {"MaxFreshnessHours": 48, "KpiTableParameter": table}
        alarm = _resolved(
            properties(name), values | {"AlertTopic": full_stack.environment["ALERT_SNS_TOPIC_ARN"]}
        )
        cloudwatch = connect("cloudwatch", full_stack.endpoint_url)

        cloudwatch.put_metric_alarm(**alarm)

        [made] = cloudwatch.describe_alarms(AlarmNames=[alarm["AlarmName"]])["MetricAlarms"]
        assert (made["ComparisonOperator"], made["EvaluationPeriods"]) == (alarm["ComparisonOperator"], 1)


def _resolved(value: Any, values: dict[str, Any]) -> Any:
    """Return the part of the template with its references replaced."""
    if isinstance(value, list):
        return [_resolved(element, values) for element in value]
    if not isinstance(value, dict):
        return value
    if "Ref" in value:
        return values[value["Ref"]]
    if "Fn::Sub" in value:
        return value["Fn::Sub"]
    return {name: _resolved(element, values) for name, element in value.items()}


def test_command_of_the_page_on_deploying_prints_the_lines_for_dotenv(full_stack: DeployedStack) -> None:
    page = DEPLOYING.read_text()
    [query] = re.findall(r'--query "(Stacks\[0\]\.Outputs.+)" --output text', page)
    stacks = connect("cloudformation", full_stack.endpoint_url).describe_stacks(StackName=STACK_NAME)

    lines = [line for [line] in jmespath.search(query, stacks)]

    assert dict(line.split("=", 1) for line in lines) == full_stack.environment


def test_page_on_deploying_explains_every_parameter_with_its_default() -> None:
    page = DEPLOYING.read_text()
    parameters = template()["Parameters"]
    table = page.partition("| parameter | default |")[2].partition("\n\n")[0]
    explained = set(re.findall(r"`([A-Z][A-Za-z]+)`", table))

    assert explained == parameters.keys()
    retention = ("OldVersionDays", "ArchivedFileDays", "QuarantineDays", "HistoryDays")
    shown = ("HoursWithoutSuccess", "MaxFreshnessHours", "KpiTableDeletionProtection", *retention)
    for name in shown:
        [default] = re.findall(rf"^\| `{name}` \| `?(\w+)`? \|", table, re.MULTILINE)
        assert default == str(parameters[name]["Default"])
