"""`make doctor` examines the full stack; each test's settings have one thing that is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from botocore.exceptions import ClientError

from helpers.aws import job_script
from include import doctor
from include.findings import failed
from local_aws_support import REPOSITORY, connect
from tests.e2e.observed import Resources, snapshot
from tests.include.conftest import ACCOUNT, DeployedStack, enforced_policies

CSV = b"header\n"


@pytest.fixture(autouse=True)
def _no_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "DOTENV", tmp_path / ".env")


@pytest.fixture(scope="module")
def settings(full_stack: DeployedStack) -> Iterator[dict[str, str]]:
    """The environment of a user of Airflow 2 who has filled in everything; the catalogs exist."""
    s3, bucket = connect("s3", full_stack.endpoint_url), full_stack.environment["SOURCE_BUCKET_NAME"]
    sns, sqs = (connect(service, full_stack.endpoint_url) for service in ("sns", "sqs"))
    sqs.create_queue(QueueName="on-call")
    sns.subscribe(
        TopicArn=full_stack.environment["ALERT_SNS_TOPIC_ARN"],
        Protocol="sqs",
        Endpoint=f"arn:aws:sqs:us-east-1:{ACCOUNT}:on-call",
    )
    keys = ("songs/songs.csv", "users/users.csv")
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=CSV)
    yield {
        **{name: os.environ[name] for name in ("PATH", "AIRFLOW_HOME") if name in os.environ},
        **full_stack.environment,
        "STREAMS_QUEUE_URL": "",
        "AWS_ENDPOINT_URL": full_stack.endpoint_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for key in keys:
        s3.delete_object(Bucket=bucket, Key=key)


def examine(settings: dict[str, str], *arguments: str) -> int:
    """Run the command with these variables and no others; return its exit status."""
    with patch.dict(os.environ, settings, clear=True):
        return doctor.main(list(arguments))


def test_whole_deployment_is_found_fine_and_left_as_it_is(
    full_stack: DeployedStack, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    resources = Resources(
        connect("s3", full_stack.endpoint_url),
        connect("dynamodb", full_stack.endpoint_url),
        *(settings[f"{kind}_BUCKET_NAME"] for kind in ("SOURCE", "INTERMEDIATE", "ARCHIVE")),
        settings["KPI_TABLE_NAME"],
    )
    before = snapshot(resources)

    status = examine(settings)

    output = capsys.readouterr().out
    assert status == 0, output
    assert "wrong" not in output
    assert "INFO" not in output, "Airflow, which is imported for the settings, would log what boto3 does"
    assert "Everything that could be checked is fine." in output
    assert "assumed-role/music-streaming-airflow-role/" in output, "as whom Airflow's tasks ask"
    assert (
        "music-streaming-source: to list streams/, songs/, users/; to read streams/, songs/, users/" in output
    )
    assert "not checked  rights of the Glue role itself" in output
    assert snapshot(resources) == before


def test_settings_of_dotenv_count_where_the_environment_has_none(
    settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{name}={value}" for name, value in settings.items() if name.endswith("_NAME")]
    doctor.DOTENV.write_text("\n".join(["# a comment", "", *lines, "KPI_TABLE_NAME=of-dotenv", ""]))
    others = {name: value for name, value in settings.items() if not name.endswith("_NAME")}

    assert examine(others) == 1
    assert "table of-dotenv (KPI_TABLE_NAME): does not exist" in capsys.readouterr().out
    assert examine(settings) == 0, "what the environment has comes first"


def make_wrong_table(stack: DeployedStack, name: str, indexed: bool) -> None:
    keys = ["date", "track_genre"] if indexed else ["date"]
    connect("dynamodb", stack.endpoint_url).create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        KeySchema=[
            {"AttributeName": key, "KeyType": kind}
            for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
        ],
    )


def make_role(stack: DeployedStack, name: str, **changed: Any) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "glue.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust | changed]})
    connect("iam", stack.endpoint_url).create_role(RoleName=name, AssumeRolePolicyDocument=document)


@pytest.fixture(scope="module")
def wrong_things(full_stack: DeployedStack) -> None:
    """The resources that the tests' settings name."""
    connect("s3", full_stack.endpoint_url).create_bucket(Bucket="without-versioning")
    make_wrong_table(full_stack, "without_sort_key", indexed=False)
    make_wrong_table(full_stack, "without_index", indexed=True)
    make_role(full_stack, "role-of-lambda", Principal={"Service": "lambda.amazonaws.com"})
    make_role(full_stack, "role-denied-to-glue", Effect="Deny")
    make_role(full_stack, "role-that-glue-may-only-tag", Action="sts:TagSession")


TOPIC = "arn:aws:sns:us-east-1:123456789012:no-such-topic"


@pytest.mark.parametrize(
    ("changed", "finding", "remedy"),
    [
        ({"SOURCE_BUCKET_NAME": ""}, "variable SOURCE_BUCKET_NAME is not set", "Set it in .env"),
        ({"MAX_REJECTED_FRACTION": "5"}, "must be a number from 0 to 1", "correct it"),
        ({"GLUE_SCRIPT_LOCATION": "dags/kpis.py"}, "it must be the address of a script in S3", "correct it"),
        ({"PIPELINE_SCHEDULE": "every day"}, "PIPELINE_SCHEDULE is 'every day'", "a cron expression"),
        (
            {"SOURCE_BUCKET_NAME": "gone"},
            "bucket gone (SOURCE_BUCKET_NAME): does not exist",
            "deploy include/stack",
        ),
        ({"ARCHIVE_BUCKET_NAME": "without-versioning"}, "versioning is off", "put-bucket-versioning"),
        (
            {"SOURCE_BUCKET_NAME": "without-versioning"},
            "s3://without-versioning/songs/: no CSV file",
            "upload one",
        ),
        ({"KPI_TABLE_NAME": "gone"}, "table gone (KPI_TABLE_NAME): does not exist", "deploy include/stack"),
        ({"KPI_TABLE_NAME": "without_sort_key"}, "its key is {'HASH': 'date'}", "deploy with another name"),
        (
            {"KPI_TABLE_NAME": "without_index"},
            "has no index track_genre-date-index",
            "import it into the stack",
        ),
        ({"GLUE_ROLE_NAME": "gone"}, "role gone (GLUE_ROLE_NAME): does not exist", "deploy include/stack"),
        ({"GLUE_ROLE_NAME": "role-of-lambda"}, "Glue may not assume it", "let glue.amazonaws.com"),
        ({"GLUE_ROLE_NAME": "role-denied-to-glue"}, "Glue may not assume it", "let glue.amazonaws.com"),
        (
            {"GLUE_ROLE_NAME": "role-that-glue-may-only-tag"},
            "Glue may not assume it",
            "let glue.amazonaws.com",
        ),
        ({"AIRFLOW_CONN_AWS_DEFAULT": "{"}, "AIRFLOW_CONN_AWS_DEFAULT: ", "take the line from the stack"),
        (
            {"STREAMS_QUEUE_URL": f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/gone"},
            "queue (STREAMS_QUEUE_URL): does not exist",
            "deploy include/stack",
        ),
        (
            {"STREAMS_QUEUE_URL": f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/on-call"},
            "S3 announces no files of music-streaming-source to it",
            "as StreamsQueueParameter",
        ),
        (
            {"ALERT_SNS_TOPIC_ARN": TOPIC},
            "topic (ALERT_SNS_TOPIC_ARN): does not exist",
            "deploy include/stack",
        ),
        (
            {"AWS_DEFAULT_REGION": "eu-west-1", "AIRFLOW_CONN_AWS_DEFAULT": ""},
            "is in us-east-1, the pipeline in eu-west-1",
            "AWS_DEFAULT_REGION",
        ),
        (
            {"AWS_DEFAULT_REGION": "", "AIRFLOW_CONN_AWS_DEFAULT": ""},
            "You must specify a region",
            "set AWS_DEFAULT_REGION",
        ),
        ({"AWS_ACCESS_KEY_ID": ""}, "Unable to locate credentials", "aws sso login"),
        ({"AWS_PROFILE": "no-such"}, "(no-such) could not be found", "AWS_PROFILE"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect", "AWS_ENDPOINT_URL"),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_named_with_its_remedy(
    settings: dict[str, str],
    wrong_things: None,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str],
    finding: str,
    remedy: str,
) -> None:
    chosen = {name: value for name, value in (settings | changed).items() if value}

    status = examine(chosen)

    output = capsys.readouterr().out
    problems = output.partition("wrong  ")[2]
    assert status == 1, output
    assert finding in problems
    assert remedy in problems
    assert "to fix." in output


def test_script_that_is_not_python_is_found(
    settings: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    script = tmp_path / "glue_script.py"
    script.write_text("def broken(:\n")
    monkeypatch.setattr(job_script, "SCRIPT", script)

    assert examine(settings) == 1
    assert f"Glue script {script}: invalid syntax" in capsys.readouterr().out


def test_script_in_s3_is_looked_for_under_the_role(
    full_stack: DeployedStack, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    s3, bucket = connect("s3", full_stack.endpoint_url), settings["INTERMEDIATE_BUCKET_NAME"]
    key = "artifacts/glue-scripts/v2.py"
    location = {"GLUE_SCRIPT_LOCATION": f"s3://{bucket}/{key}"}

    assert examine(settings | location) == 1
    output = capsys.readouterr().out
    assert (
        f"wrong        The Glue script s3://{bucket}/{key}, named by GLUE_SCRIPT_LOCATION, does not" in output
    )
    assert f"-> Upload it: aws s3 cp glue_script/glue_script.py s3://{bucket}/{key}" in output

    s3.put_object(Bucket=bucket, Key=key, Body=(REPOSITORY / "glue_script" / "glue_script.py").read_bytes())
    assert examine(settings | location) == 0
    assert f"fine         Glue script s3://{bucket}/{key}" in capsys.readouterr().out

    s3.put_object(Bucket=bucket, Key=key, Body=b"def broken(:\n")
    assert examine(settings | location) == 1
    assert f"Glue script s3://{bucket}/{key}: invalid syntax" in capsys.readouterr().out
    s3.delete_object(Bucket=bucket, Key=key)


def test_script_in_a_bucket_that_the_role_may_not_read_is_found(
    full_stack: DeployedStack, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    s3 = connect("s3", full_stack.endpoint_url)
    s3.create_bucket(Bucket="of-another-team")
    s3.put_object(Bucket="of-another-team", Key="kpis.py", Body=b"")
    limited = new_user(full_stack, "reader-of-nothing") | {"AIRFLOW_CONN_AWS_DEFAULT": ""}

    with enforced_policies(full_stack.endpoint_url):
        status = examine(settings | limited | {"GLUE_SCRIPT_LOCATION": "s3://of-another-team/kpis.py"})

    output = capsys.readouterr().out
    assert status == 1
    assert "named by GLUE_SCRIPT_LOCATION, may not be read with these credentials" in output
    assert "s3://music-streaming-intermediate/artifacts/glue-scripts/" in output


def test_script_that_was_not_deployed_is_found(
    settings: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(job_script, "SCRIPT", tmp_path / "glue_script.py")

    assert examine(settings) == 1

    output = capsys.readouterr().out
    assert (
        f"wrong        The Glue script {tmp_path / 'glue_script.py'} cannot be read (No such file" in output
    )
    assert "-> Deploy the folder glue_script/ beside dags/, or upload glue_script.py to S3" in output


def test_topic_whose_messages_nobody_gets_is_warned_of(
    full_stack: DeployedStack, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    topic = connect("sns", full_stack.endpoint_url).create_topic(Name="without-subscriber")["TopicArn"]

    assert examine(settings | {"ALERT_SNS_TOPIC_ARN": topic}) == 0

    output = capsys.readouterr().out
    assert f"warning      topic {topic}: nobody gets its messages" in output
    assert f"aws sns subscribe --topic-arn {topic}" in output
    assert "see the warning" in output


def new_user(stack: DeployedStack, name: str, *actions: str) -> dict[str, str]:
    """Return the variables of a new user's access key."""
    iam: Any = connect("iam", stack.endpoint_url)
    iam.create_user(UserName=name)
    if actions:
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=allowing(*actions))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def allowing(*actions: str) -> str:
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_queue_that_nothing_reads_on_airflow_2_is_a_warning(
    full_stack: DeployedStack, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    queue = full_stack.environment["STREAMS_QUEUE_URL"]

    assert examine(settings | {"STREAMS_QUEUE_URL": queue}) == 0

    output = capsys.readouterr().out
    assert f"warning      queue {queue}: nothing reads it, so files do not start runs" in output
    assert "wrong" not in output


@pytest.mark.parametrize("is_installed", [True, False])
def test_queue_that_files_start_runs_by_needs_a_package(
    full_stack: DeployedStack,
    settings: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_installed: bool,
) -> None:
    queue = full_stack.environment["STREAMS_QUEUE_URL"]
    monkeypatch.setattr("helpers.run.schedule.runs_start_by_event", lambda: True)
    monkeypatch.setattr("include.aws_checks.find_spec", lambda _: object() if is_installed else None)

    assert examine(settings | {"STREAMS_QUEUE_URL": queue}) == (not is_installed)

    output = capsys.readouterr().out
    assert f"queue {queue}, to which S3 announces the files of music-streaming-source" in output
    assert ("install the amazon provider with its extra" in output) == (not is_installed)


def test_right_that_the_role_of_the_connection_lacks_is_found(
    full_stack: DeployedStack, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    of_identity = new_user(full_stack, "workload-identity", "dynamodb:*", "sts:*")
    make_role(full_stack, "lacking", Principal={"AWS": "*"})
    rights = ("s3:*", "dynamodb:Describe*", "kms:*", "glue:*", "iam:*", "sns:*")
    connect("iam", full_stack.endpoint_url).put_role_policy(
        RoleName="lacking", PolicyName="p", PolicyDocument=allowing(*rights)
    )
    connection = {"conn_type": "aws", "extra": {"role_arn": f"arn:aws:iam::{ACCOUNT}:role/lacking"}}
    changed = {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection)} | of_identity

    with enforced_policies(full_stack.endpoint_url):
        status = examine(settings | changed)

    output = capsys.readouterr().out
    assert status == 1
    assert "assumed-role/lacking/" in output
    wrong = [line for line in output.splitlines() if line.startswith("wrong")]
    assert wrong == ["wrong        right to write to the table: access denied (PutItem)"]


def test_role_of_the_connection_that_cannot_be_assumed_is_found(
    full_stack: DeployedStack, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    of_stranger = new_user(full_stack, "stranger", "s3:*")

    with enforced_policies(full_stack.endpoint_url):
        status = examine(settings | of_stranger)

    output = capsys.readouterr().out
    assert status == 1
    assert "role of AIRFLOW_CONN_AWS_DEFAULT: cannot be assumed" in output
    assert "AccessDenied" in output
    assert "compare role_arn and ExternalId" in output


def test_credentials_without_any_right_are_distinguished_from_missing_things(
    full_stack: DeployedStack, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    of_nobody = new_user(full_stack, "nobody") | {"AIRFLOW_CONN_AWS_DEFAULT": ""}

    with enforced_policies(full_stack.endpoint_url):
        status = examine(settings | of_nobody)

    output = capsys.readouterr().out
    assert status == 1
    for what in ("bucket music-streaming-source", "table music_kpis_table", "role music-streaming-glue-role"):
        assert any(
            line.startswith("wrong") and what in line and "access denied" in line
            for line in output.splitlines()
        )
    assert "not checked  topic" in output
    assert "may be somebody else's" in output
    assert "right to list s3://music-streaming-archive/quarantine/: access denied (ListObjectsV2)" in output
    assert "does not exist" not in output
    assert "Traceback" not in output


def test_without_settings_local_aws_is_examined_or_reported_missing(
    full_stack: DeployedStack, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = {name: settings[name] for name in ("PATH", "AIRFLOW_HOME")}

    assert examine(path, "--aws-port", full_stack.endpoint_url.rpartition(":")[2]) == 0
    assert "the stack in local AWS at" in capsys.readouterr().out

    assert examine(path, "--aws-port", "9") == 1
    output = capsys.readouterr().out
    assert "no local AWS on port 9" in output
    assert "cp .env.example .env" in output


def test_command_needs_nothing_that_the_image_of_airflow_has_not() -> None:
    script = "import sys; sys.modules |= dict.fromkeys(('moto', 'rich', 'pyspark')); import include.doctor"

    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("code", "status", "remedy"),
    [
        ("ExpiredToken", 400, "renew the credentials"),
        ("InvalidAccessKeyId", 403, "renew the credentials"),
        ("ThrottlingException", 400, "try again in some minutes"),
        ("InternalError", 500, "try again in some minutes"),
        ("ValidationException", 400, "DescribeTable answered ValidationException"),
    ],
)
def test_any_other_error_of_aws_has_a_remedy_by_its_kind(code: str, status: int, remedy: str) -> None:
    response: Any = {
        "Error": {"Code": code, "Message": "m"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }

    finding = failed("table t", ClientError(response, "DescribeTable"))

    assert finding.state == "wrong"
    assert code in finding.what
    assert remedy in finding.remedy
