import json
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.request import Request, urlopen

import pytest
from cfnlint.api import lint_file  # type: ignore[import-untyped]

from include.local_aws.provision import provision
from local_aws_support import ACTIVE_STATES, REPOSITORY, WRITE_TO_OUTPUT, connect, wait_for
from tests.include.conftest import enforced_policies

# The operator uploads the job's script here.
SCRIPT_KEY = "artifacts/glue-scripts/glue_script.py"
BUCKETS = ["music-streaming-archive", "music-streaming-intermediate", "music-streaming-source"]
ROLE = "music-streaming-glue-role"


APPEND = """
    (output / "new").write_text("1")
    (output / "stale").unlink(missing_ok=True)
"""


@pytest.fixture(scope="module")
def environment(local_aws: str) -> dict[str, str]:
    """The variables that provisioning an empty local AWS returns."""
    urlopen(Request(f"{local_aws}/moto-api/reset", method="POST"))
    return provision(local_aws)


def rules_of(s3: Any, bucket: str) -> dict[str, dict[str, Any]]:
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    return {rule["ID"]: rule for rule in rules}


def state_of(endpoint_url: str) -> Any:
    """The provisioned resources, with their creation times."""
    s3, dynamodb, iam, sns, cloudformation = (
        connect(name, endpoint_url) for name in ("s3", "dynamodb", "iam", "sns", "cloudformation")
    )
    state = [
        s3.list_buckets()["Buckets"],
        *([rules_of(s3, bucket), s3.get_bucket_versioning(Bucket=bucket)["Status"]] for bucket in BUCKETS),
        *([s3.list_objects_v2(Bucket=bucket)["KeyCount"]] for bucket in BUCKETS),
        dynamodb.describe_table(TableName="music_kpis_table")["Table"],
        dynamodb.scan(TableName="music_kpis_table")["Items"],
        iam.list_roles()["Roles"],
        iam.get_role_policy(RoleName=ROLE, PolicyName="music-streaming-kpis")["PolicyDocument"],
        sns.list_topics()["Topics"],
        cloudformation.list_stacks()["StackSummaries"],
    ]
    return json.loads(json.dumps(state, default=str))


def test_template_is_valid() -> None:
    assert lint_file(REPOSITORY / "include" / "stack.yaml") == []


def test_outputs_are_the_variables_of_the_pipeline_and_policies_for_people(
    environment: dict[str, str],
) -> None:
    policies = {name: environment[name] for name in ("FORGET_USERS_POLICY_ARN", "REPLAY_POLICY_ARN")}
    assert all(arn.startswith("arn:aws:iam::123456789012:policy/") for arn in policies.values())
    assert environment == {
        "SOURCE_BUCKET_NAME": "music-streaming-source",
        "INTERMEDIATE_BUCKET_NAME": "music-streaming-intermediate",
        "ARCHIVE_BUCKET_NAME": "music-streaming-archive",
        "KPI_TABLE_NAME": "music_kpis_table",
        "GLUE_JOB_NAME": "music_streaming_kpis",
        "GLUE_ROLE_NAME": ROLE,
        "ALERT_SNS_TOPIC_ARN": "arn:aws:sns:us-east-1:123456789012:music-streaming-alerts",
        **policies,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def test_second_call_changes_nothing(local_aws: str, environment: dict[str, str]) -> None:
    connect("s3", local_aws).put_object(Bucket=BUCKETS[0], Key="kept", Body=b"1")
    item = {"date": {"S": "2024-06-25"}, "track_genre": {"S": "kept"}}
    connect("dynamodb", local_aws).put_item(TableName="music_kpis_table", Item=item)
    before = state_of(local_aws)
    assert provision(local_aws) == environment
    assert state_of(local_aws) == before


def test_changed_template_is_applied_and_keeps_the_data(
    local_aws: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3 = connect("s3", local_aws)
    s3.put_object(Bucket="music-streaming-source", Key="kept", Body=b"1")
    template = (REPOSITORY / "include" / "stack.yaml").read_text()
    (tmp_path / "stack.yaml").write_text(template.replace("NoncurrentDays: 7", "NoncurrentDays: 3"))
    monkeypatch.setattr("include.local_aws.provision._TEMPLATE", tmp_path / "stack.yaml")
    assert provision(local_aws) == environment
    rule = rules_of(s3, "music-streaming-intermediate")["expire-noncurrent-versions"]
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 3}

    monkeypatch.undo()
    assert provision(local_aws) == environment
    rule = rules_of(s3, "music-streaming-intermediate")["expire-noncurrent-versions"]
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7}
    assert s3.get_object(Bucket="music-streaming-source", Key="kept")["Body"].read() == b"1"


@pytest.mark.parametrize("bucket", BUCKETS)
def test_buckets_are_versioned_encrypted_and_private(
    local_aws: str, environment: dict[str, str], bucket: str
) -> None:
    s3 = connect("s3", local_aws)
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert encryption["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    abort = rules_of(s3, bucket)["abort-incomplete-uploads"]
    assert abort["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


def test_only_what_is_temporary_expires(local_aws: str, environment: dict[str, str]) -> None:
    s3 = connect("s3", local_aws)
    expiring = {
        bucket: {
            rule["Filter"]["Prefix"]: {
                name: rule[name] for name in ("Expiration", "NoncurrentVersionExpiration") if name in rule
            }
            for name, rule in rules_of(s3, bucket).items()
            if name != "abort-incomplete-uploads"
        }
        for bucket in BUCKETS
    }
    assert expiring == {
        "music-streaming-archive": {
            "kpis/": {"NoncurrentVersionExpiration": {"NoncurrentDays": 90}},
            "catalogs/": {"NoncurrentVersionExpiration": {"NoncurrentDays": 90}},
        },
        "music-streaming-intermediate": {
            "runs/": {"Expiration": {"Days": 7}},
            "snapshots/": {"Expiration": {"Days": 7}},
            "athena-results/": {"Expiration": {"Days": 7}},
            "": {
                "Expiration": {"ExpiredObjectDeleteMarker": True},
                "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
            },
        },
        "music-streaming-source": {
            "": {
                "Expiration": {"ExpiredObjectDeleteMarker": True},
                "NoncurrentVersionExpiration": {"NoncurrentDays": 90},
            }
        },
    }
    assert not any("Transitions" in rule for bucket in BUCKETS for rule in rules_of(s3, bucket).values())


def test_glue_role_may_do_what_the_job_does_and_no_more(local_aws: str, environment: dict[str, str]) -> None:
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam = connect("iam", local_aws)
    iam.create_user(UserName="tester")
    iam.put_user_policy(UserName="tester", PolicyName="all", PolicyDocument=json.dumps(everything))
    key = iam.create_access_key(UserName="tester")["AccessKey"]
    s3, glue = (
        connect(name, local_aws, key["AccessKeyId"], key["SecretAccessKey"]) for name in ("s3", "glue")
    )
    intermediate, archive = environment["INTERMEDIATE_BUCKET_NAME"], environment["ARCHIVE_BUCKET_NAME"]
    s3.put_object(Bucket=intermediate, Key=SCRIPT_KEY, Body=dedent(WRITE_TO_OUTPUT + APPEND).encode())
    s3.put_object(Bucket=intermediate, Key="runs/r/input/manifest.json", Body=b"{}")
    s3.put_object(Bucket=intermediate, Key="runs/r/output/stale", Body=b"1")
    s3.put_object(Bucket=archive, Key="listens/listen_date=2024-06-25/a", Body=b"1")
    s3.put_object(Bucket=archive, Key="runs/r/report.json", Body=b"{}")
    glue.create_job(
        Name="role-test",
        Role=environment["GLUE_ROLE_NAME"],
        Command={"Name": "glueetl", "ScriptLocation": f"s3://{intermediate}/{SCRIPT_KEY}"},
    )

    def run(**arguments: str) -> tuple[str, str]:
        run_id = glue.start_job_run(
            JobName="role-test", Arguments={f"--{name}": uri for name, uri in arguments.items()}
        )["JobRunId"]

        def describe() -> Any:
            return glue.get_job_run(JobName="role-test", RunId=run_id)["JobRun"]

        wait_for(lambda: describe()["JobRunState"] not in ACTIVE_STATES)
        return describe()["JobRunState"], describe().get("ErrorMessage", "")

    output = f"s3://{intermediate}/runs/r/output/"
    with enforced_policies(local_aws):
        allowed = run(
            S3_SOURCE_PATH=f"s3://{intermediate}/runs/r/input/",
            S3_HISTORY_PATH=f"s3://{archive}/listens/",
            OUTPUT=output,
        )
        reading_reports = run(INPUT=f"s3://{archive}/runs/", OUTPUT=output)
        writing_history = run(OUTPUT=f"s3://{archive}/listens/")

    assert allowed == ("SUCCEEDED", "")
    written = s3.list_objects_v2(Bucket=intermediate, Prefix="runs/r/output/")["Contents"]
    assert [entry["Key"] for entry in written] == ["runs/r/output/new"]
    for (state, message), operation in ((reading_reports, "GetObject"), (writing_history, "PutObject")):
        assert state == "FAILED"
        assert f"(AccessDenied) when calling the {operation} operation" in message


def test_table_answers_by_day_and_by_genre(local_aws: str, environment: dict[str, str]) -> None:
    dynamodb = connect("dynamodb", local_aws)
    for date, genre in (("2024-06-26", "jazz"), ("2024-06-25", "jazz"), ("2024-06-25", "ALL_GENRES")):
        dynamodb.put_item(
            TableName="music_kpis_table",
            Item={"date": {"S": date}, "track_genre": {"S": genre}, "n": {"N": "1"}},
        )
    trend = dynamodb.query(
        TableName="music_kpis_table",
        IndexName="track_genre-date-index",
        KeyConditionExpression="track_genre = :genre",
        ExpressionAttributeValues={":genre": {"S": "jazz"}},
    )["Items"]
    assert [(item["date"]["S"], item["n"]["N"]) for item in trend] == [
        ("2024-06-25", "1"),
        ("2024-06-26", "1"),
    ]
    table = dynamodb.describe_table(TableName="music_kpis_table")["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionProtectionEnabled"]
    backups = dynamodb.describe_continuous_backups(TableName="music_kpis_table")[
        "ContinuousBackupsDescription"
    ]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
