"""`make smoke` on its own local AWS: what it shows, and that nothing with its suffix remains."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import ANY, Stubber
from rich.console import Console

from helpers.notices import run_metrics
from include.smoke import __main__ as command
from include.smoke import claims, data, steps
from include.smoke.account import Account, ForeignResourceError
from include.smoke.names import Names
from include.smoke.observed import differences
from include.smoke.removal import Removal
from include.smoke.steps import NotHereError, StepFailedError, Steps
from local_aws_support import REPOSITORY, connect, process_runs, running_server, wait_for
from tests.include.conftest import ACCOUNT, enforced_policies

SUFFIX = "0123456789"
NAMES = Names(SUFFIX)
# Its suffix differs in one digit.
NEIGHBOUR = "music-smoke-0123456788-source"
ADMIN = {"Effect": "Allow", "Action": "*", "Resource": "*"}
ALL_STEPS = {**steps.ESSENTIAL, **steps.FURTHER}


@pytest.fixture(autouse=True)
def _signals_reach_the_test() -> Iterator[None]:
    """PySpark's handler and Hypothesis's callback, both left by other tests, would take them."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()
    yield
    gc.enable()
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def endpoint_url() -> Iterator[str]:
    """A local AWS in which others have a bucket, a table, a role, a job and logs of Glue."""
    with running_server() as (url, _):
        connect("s3", url).create_bucket(Bucket=NEIGHBOUR)
        connect("s3", url).put_object(Bucket=NEIGHBOUR, Key="k", Body=b"1")
        connect("dynamodb", url).create_table(
            TableName="others",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        )
        connect("iam", url).create_role(RoleName="others", AssumeRolePolicyDocument="{}")
        connect("glue", url).create_job(
            Name="others", Role="others", Command={"Name": "glueetl", "ScriptLocation": "s3://b/k"}
        )
        logs = connect("logs", url)
        logs.create_log_group(logGroupName="/aws-glue/jobs/output")
        logs.create_log_stream(logGroupName="/aws-glue/jobs/output", logStreamName="jr_others-driver")
        yield url


def state(endpoint_url: str) -> dict[str, Any]:
    """Return everything in local AWS except users."""
    of = partial(connect, endpoint_url=endpoint_url)
    logs = of("logs")
    s3 = of("s3")
    buckets = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    return {
        "stacks": [stack["StackName"] for stack in of("cloudformation").describe_stacks()["Stacks"]],
        "buckets": {
            bucket: [entry["Key"] for entry in s3.list_object_versions(Bucket=bucket).get("Versions", [])]
            for bucket in buckets
        },
        "tables": of("dynamodb").list_tables()["TableNames"],
        "roles": [role["RoleName"] for role in of("iam").list_roles()["Roles"]],
        "jobs": [job["Name"] for job in of("glue").get_jobs()["Jobs"]],
        "topics": of("sns").list_topics()["Topics"],
        "alarms": of("cloudwatch").describe_alarms()["MetricAlarms"],
        "logs": {
            group["logGroupName"]: [
                stream["logStreamName"]
                for stream in logs.describe_log_streams(logGroupName=group["logGroupName"])["logStreams"]
            ]
            for group in logs.describe_log_groups()["logGroups"]
        },
    }


@pytest.fixture(autouse=True)
def _nothing_stays(endpoint_url: str) -> Iterator[None]:
    before = state(endpoint_url)
    yield
    assert state(endpoint_url) == before


def user_environment(endpoint_url: str, *statements: dict[str, Any]) -> dict[str, str]:
    """Return the variables of a new user with these statements as rights, or of nobody."""
    keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    if statements:
        iam, name = connect("iam", endpoint_url), f"user-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=name)
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    return {
        **keys,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def but(*actions: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the statements of an administrator without these rights."""
    return ADMIN, {"Effect": "Deny", "Action": list(actions), "Resource": "*"}


Smoke = Callable[..., tuple[int, str]]


@pytest.fixture
def smoke(endpoint_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Smoke:
    """Runs the command in this process; returns exit status and output.

    With statements for a user, every right of that user is checked; otherwise none is.
    """

    def run(*arguments: str, user: tuple[dict[str, Any], ...] = (), only: str = "", **settings: str) -> Any:
        for name, value in (user_environment(endpoint_url, *user) | settings).items():
            monkeypatch.setenv(name, value)
        if only:
            monkeypatch.setattr(command, "ESSENTIAL", {name: ALL_STEPS[name] for name in only.split()})
            monkeypatch.setattr(command, "FURTHER", {})
        capfd.readouterr()
        with enforced_policies(endpoint_url) if user else nullcontext():
            status = command.main(arguments)
        return status, "".join(capfd.readouterr())

    return run


@pytest.fixture
def fixed_suffix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda size: SUFFIX if size == 5 else "an-external-id")


def start_command(endpoint_url: str, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return subprocess.Popen(
        [sys.executable, "-m", "include.smoke", "--yes"],
        cwd=REPOSITORY,
        env=kept | user_environment(endpoint_url, ADMIN) | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_whole_run_of_an_administrator_while_every_right_is_checked(endpoint_url: str) -> None:
    process = start_command(endpoint_url, MAX_REJECTED_FRACTION="0", ARCHIVE_STORAGE_CLASS="STANDARD")
    with enforced_policies(endpoint_url):
        output, _ = process.communicate(timeout=600)

    assert process.returncode == 0, output
    results = dict(re.findall(r"^([a-z-]+)\n(?:    .*\n)*  (passed|not here|failed)", output, re.MULTILINE))
    assert results == dict.fromkeys(ALL_STEPS, "passed") | dict.fromkeys(
        ("tls", "query", "deploy-again", "alarm", "import"), "not here"
    )
    assert "123456789012, region us-east-1, as arn:aws:iam::123456789012:user/" in output
    assert "a stand-in, not AWS" in output
    # Objects and their versions come and go.
    assert re.search(r"emptied bucket .*-intermediate: [0-9]{2,} object versions and delete markers", output)
    assert len(re.findall(r"Glue run jr_\w+: SUCCEEDED, \d+ s in all", output)) == 2
    for step, proven in claims.claims_by_step().items():
        for claim in proven:
            assert (f"  {step:<12}  {claim}\n" in output) == (results[step] == "passed")


def test_what_is_not_as_computed_by_hand_is_shown_and_all_is_removed(
    smoke: Smoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = f"item {data.DAY} pop"
    changed = data.AFTER_FIRST | {item: data.AFTER_FIRST[item] | {"listen_count": 11}}
    monkeypatch.setattr(data, "AFTER_FIRST", changed)

    status, output = smoke("--yes")

    assert status == 1
    assert f"{item}: listen_count: Decimal('10'), expected 11" in output
    assert "Failed: first-batch" in output
    assert "late-batch\n" not in output
    assert "nothing is left" in output


def test_ctrl_c_while_glue_runs_removes_all(endpoint_url: str) -> None:
    glue = connect("glue", endpoint_url)

    def running_job() -> str | None:
        for job in glue.get_jobs()["Jobs"]:
            runs = glue.get_job_runs(JobName=job["Name"])["JobRuns"]
            if [run["JobRunState"] for run in runs] == ["RUNNING"]:
                return str(job["Name"])
        return None

    process = start_command(endpoint_url)
    wait_for(running_job, 120)
    [airflow] = children(process.pid)
    process.send_signal(signal.SIGINT)
    # A second signal, as from an impatient user, does not stop the removal.
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)

    assert process.returncode == 130, output
    assert "Interrupted." in output
    assert "stopping jr_" in output
    assert "Still removing everything that was created; please wait." in output
    assert "nothing is left" in output
    assert not process_runs(airflow)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_output_that_went_away_does_not_end_the_removal(endpoint_url: str) -> None:
    process = start_command(endpoint_url)
    assert process.stdout is not None
    wait_for(lambda: "role\n" in process.stdout.readline(), 120)
    process.stdout.close()

    assert process.wait(timeout=300) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_right_after_the_stack_was_made_removes_it(
    smoke: Smoke, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    deploy = Steps.deploy

    def deploy_and_interrupt(self: Steps) -> None:
        deploy(self)
        os.kill(os.getpid(), number)

    monkeypatch.setitem(ALL_STEPS, "deploy", deploy_and_interrupt)
    handler = signal.getsignal(signal.SIGINT)
    status, output = smoke("--yes", only="deploy")

    assert status == 130
    assert "deleting stack music-smoke-" in output
    assert signal.getsignal(signal.SIGINT) is handler


def test_error_that_nobody_foresaw_removes_all(smoke: Smoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Steps) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setitem(ALL_STEPS, "role", fail)
    status, output = smoke("--yes", only="deploy role")

    assert status == 1
    assert "ZeroDivisionError: unforeseen" in output
    assert "nothing is left" in output


@pytest.mark.usefixtures("fixed_suffix")
class TestNamesThatAreTaken:
    @pytest.mark.parametrize("kind", ["stack", "bucket", "table", "role", "topic", "job"])
    def test_nothing_is_made_or_removed(self, smoke: Smoke, endpoint_url: str, kind: str) -> None:
        make, delete = OTHERS[kind]
        make(endpoint_url)
        try:
            before = state(endpoint_url)

            status, output = smoke("--yes")

            assert status == 1
            assert "Error: There is already: " in output
            assert SUFFIX in output
            assert state(endpoint_url) == before
        finally:
            delete(endpoint_url)


TEMPLATE_OF_OTHERS = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
OTHERS: dict[str, tuple[Callable[[str], Any], Callable[[str], Any]]] = {
    "stack": (
        lambda url: connect("cloudformation", url).create_stack(
            StackName=NAMES.stack, TemplateBody=TEMPLATE_OF_OTHERS
        ),
        lambda url: connect("cloudformation", url).delete_stack(StackName=NAMES.stack),
    ),
    "bucket": (
        lambda url: connect("s3", url).create_bucket(Bucket=NAMES.archive_bucket),
        lambda url: connect("s3", url).delete_bucket(Bucket=NAMES.archive_bucket),
    ),
    "table": (
        lambda url: connect("dynamodb", url).create_table(
            TableName=NAMES.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        ),
        lambda url: connect("dynamodb", url).delete_table(TableName=NAMES.table),
    ),
    "role": (
        lambda url: connect("iam", url).create_role(RoleName=NAMES.glue_role, AssumeRolePolicyDocument="{}"),
        lambda url: connect("iam", url).delete_role(RoleName=NAMES.glue_role),
    ),
    "topic": (
        lambda url: connect("sns", url).create_topic(Name=NAMES.topic),
        lambda url: connect("sns", url).delete_topic(
            TopicArn=f"arn:aws:sns:us-east-1:{ACCOUNT}:{NAMES.topic}"
        ),
    ),
    "job": (
        lambda url: connect("glue", url).create_job(
            Name=NAMES.job, Role="r", Command={"Name": "glueetl", "ScriptLocation": "s3://b/k"}
        ),
        lambda url: connect("glue", url).delete_job(JobName=NAMES.job),
    ),
}


class TestBeforeAnythingIsMade:
    @pytest.mark.parametrize("answer", ["", "n\n", "account\n"])
    def test_who_does_not_say_yes_gets_nothing(
        self, smoke: Smoke, monkeypatch: pytest.MonkeyPatch, answer: str
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))

        status, output = smoke()

        assert status == 1
        assert "Create this in account 123456789012? [y/N]" in output
        assert re.search(r"bucket +music-smoke-[0-9a-f]{10}-archive\n", output)
        assert "About 0.10 US dollars" in output
        assert "Nothing was created" in output

    def test_yes_is_an_answer(self, smoke: Smoke, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))

        status, output = smoke(only="deploy")

        assert status == 0, output

    def test_signal_at_the_question_ends_it(self, smoke: Smoke, monkeypatch: pytest.MonkeyPatch) -> None:
        class Waiting:
            def readline(self) -> str:
                os.kill(os.getpid(), signal.SIGINT)
                return "y\n"

        monkeypatch.setattr(sys, "stdin", Waiting())

        status, output = smoke()

        assert status == 130
        assert "Nothing was created" in output

    def test_without_credentials_it_says_how_to_get_some(
        self, smoke: Smoke, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        status, output = smoke("--yes", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")

        assert status == 1
        assert "Error: AWS: Unable to locate credentials -> log in (aws sso login)" in output

    def test_without_a_region_it_says_how_to_set_one(self, smoke: Smoke) -> None:
        status, output = smoke("--yes", AWS_DEFAULT_REGION="")

        assert status == 1
        assert "set AWS_DEFAULT_REGION" in output

    def test_profile_that_does_not_exist_is_named(self, smoke: Smoke) -> None:
        status, output = smoke("--yes", AWS_PROFILE="nobody")

        assert status == 1
        assert "nobody" in output
        assert "correct AWS_PROFILE" in output

    def test_credentials_that_are_refused_are_named(self, smoke: Smoke, endpoint_url: str) -> None:
        with enforced_policies(endpoint_url):
            status, output = smoke("--yes")

        assert status == 1
        assert "InvalidClientTokenId" in output
        assert "renew the credentials" in output

    def test_no_aws_at_the_address_is_said(self, smoke: Smoke) -> None:
        status, output = smoke("--yes", AWS_ENDPOINT_URL="http://127.0.0.1:9")

        assert status == 1
        assert "Could not connect" in output
        assert "AWS_ENDPOINT_URL" in output

    def test_root_user_is_refused_since_it_cannot_assume_roles(
        self, smoke: Smoke, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Sts:
            def get_caller_identity(self) -> dict[str, str]:
                return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:root"}

        monkeypatch.setattr(Account, "client", lambda self, service: Sts())

        status, output = smoke("--yes")

        assert status == 1
        assert "root user of account 123456789012" in output

    def test_who_may_not_look_whether_a_name_is_taken_makes_nothing(
        self, smoke: Smoke, endpoint_url: str
    ) -> None:
        status, output = smoke("--yes", user=but("glue:GetJob"))

        assert status == 1
        assert "access denied (GetJob)" in output
        assert "Nothing was created" in output


class TestMissingRights:
    def test_stack_cannot_be_made(self, smoke: Smoke, endpoint_url: str) -> None:
        status, output = smoke("--yes", user=but("cloudformation:CreateStack"))

        assert status == 1
        assert "AccessDenied" in output
        assert "CreateStack" in output
        assert "Failed: deploy\n" in output

    def test_role_cannot_be_assumed(
        self, smoke: Smoke, endpoint_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steps, "ROLE_SECONDS", 0)
        status, output = smoke("--yes", user=but("sts:AssumeRole"))

        assert status == 1
        assert "takes sts:AssumeRole on it" in output
        assert "nothing is left" in output

    @pytest.mark.parametrize(
        ("action", "left"),
        [
            ("s3:DeleteBucket", "bucket music-smoke-0123456789-source"),
            ("s3:DeleteObjectVersion", "bucket music-smoke-0123456789-source"),
            ("cloudformation:DeleteStack", "stack music-smoke-0123456789"),
            ("dynamodb:DeleteTable", "table music-smoke-0123456789-kpis"),
        ],
    )
    def test_what_cannot_be_removed_is_named_with_the_command_that_removes_it(
        self,
        smoke: Smoke,
        endpoint_url: str,
        monkeypatch: pytest.MonkeyPatch,
        fixed_suffix: None,
        action: str,
        left: str,
    ) -> None:
        def deploy_and_deliver(self: Steps) -> None:
            Steps.deploy(self)
            self._deliver(data.CATALOGS)

        monkeypatch.setitem(ALL_STEPS, "deploy", deploy_and_deliver)
        status, output = smoke("--yes", user=but(action), only="deploy")

        assert status == 1
        assert re.search(
            rf"^  {left}: .*{action.partition(':')[2].removesuffix('Version')}", output, re.M
        ) or ("AccessDenied" in output and f"  {left}: " in output)
        assert f"make smoke REMOVE={SUFFIX}" in output
        assert left.split()[1] in str(state(endpoint_url))

        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        status, output = smoke("--remove", SUFFIX)
        assert status == 0, output
        assert f"Remove this from account {ACCOUNT}?" in output
        assert "nothing is left" in output

    def test_other_things_are_not_removed_by_a_suffix(self, smoke: Smoke) -> None:
        for suffix in ("abc", "music-smoke", "0123456789-source", "ABCDEF0123"):
            status, output = smoke("--yes", "--remove", suffix)
            assert (status, "not a suffix of a smoke test" in output) == (1, True)

    def test_error_that_nobody_foresaw_does_not_keep_the_rest_from_being_removed(
        self, smoke: Smoke, endpoint_url: str, monkeypatch: pytest.MonkeyPatch, fixed_suffix: None
    ) -> None:
        def fail(self: Removal, bucket: str) -> None:
            raise RuntimeError("unforeseen")

        with monkeypatch.context() as patched:
            patched.setattr(Removal, "_empty", fail)
            patched.setattr(Removal, "_delete_bucket", fail)
            status, output = smoke("--yes", only="deploy")

        assert status == 1
        assert f"bucket {NAMES.archive_bucket}: unforeseen" in output
        assert NAMES.table not in state(endpoint_url)["tables"]
        assert smoke("--yes", "--remove", SUFFIX)[0] == 0

    def test_backup_that_dynamodb_keeps_is_reported_and_the_table_is_removed(self, smoke: Smoke) -> None:
        status, output = smoke("--yes", user=but("dynamodb:UpdateContinuousBackups"), only="deploy")

        assert status == 0
        assert "DynamoDB will keep a backup of the table for 35 days" in output

    def test_unused_suffix_is_not_an_error(self, smoke: Smoke) -> None:
        status, output = smoke("--remove", SUFFIX)

        assert (status, f"Nothing carries the suffix {SUFFIX}." in output) == (0, True)

    def test_nothing_is_removed_unless_the_user_says_yes(
        self, smoke: Smoke, endpoint_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make, delete = OTHERS["bucket"]
        make(endpoint_url)
        monkeypatch.setattr(sys, "stdin", io.StringIO("no\n"))
        try:
            status, _ = smoke("--remove", SUFFIX)
            assert status == 1
            assert NAMES.archive_bucket in state(endpoint_url)["buckets"]
        finally:
            delete(endpoint_url)


# CloudFormation fails after creating everything and rolls nothing back: the worst case for the removal.
FAILING_SERVER = """
from moto.cloudformation.models import Event, Stack

create = Stack.create_resources

def fail(stack):
    create(stack)
    stack.status = "ROLLBACK_COMPLETE"
    for resource, type_, reason in (
        ("GlueRole", "AWS::IAM::Role", "API: iam:CreateRole User: you is not authorized"),
        ("SourceBucket", "AWS::S3::Bucket", "Resource creation cancelled"),
    ):
        event = Event(stack.stack_id, stack.name, resource, "", type_, "CREATE_FAILED", reason, "")
        stack.events.append(event)

Stack.create_resources = fail
from include.local_aws.server import serve
serve("127.0.0.1", 0)
"""


def test_reasons_for_which_a_stack_could_not_be_made_are_those_of_its_events(smoke: Smoke) -> None:
    with running_server(("-c", FAILING_SERVER)) as (url, _):
        status, output = smoke("--yes", AWS_ENDPOINT_URL=url)
        left = state(url)

    assert status == 1
    assert "GlueRole (AWS::IAM::Role): API: iam:CreateRole User: you is not authorized" in output
    assert "cancelled" not in output
    assert "first-batch" not in output
    assert "nothing is left" in output
    assert not any(left.values())


class TestGuard:
    """A call that names a resource without the suffix is not made, whatever the code requests."""

    @pytest.fixture
    def account(self, endpoint_url: str, monkeypatch: pytest.MonkeyPatch) -> Account:
        for name, value in user_environment(endpoint_url).items():
            monkeypatch.setenv(name, value)
        return Account(NAMES)

    @pytest.mark.parametrize(
        ("service", "operation", "parameters"),
        [
            ("s3", "delete_bucket", {"Bucket": NEIGHBOUR}),
            ("s3", "delete_objects", {"Bucket": NEIGHBOUR, "Delete": {"Objects": [{"Key": "k"}]}}),
            ("s3", "put_object", {"Bucket": NEIGHBOUR, "Key": NAMES.stack, "Body": b""}),
            ("dynamodb", "delete_table", {"TableName": "others"}),
            ("cloudformation", "delete_stack", {"StackName": "music-streaming-pipeline"}),
            ("glue", "delete_job", {"JobName": "others"}),
            ("iam", "delete_role", {"RoleName": "others"}),
            ("logs", "delete_log_group", {"logGroupName": "/aws-glue/jobs/output"}),
            (
                "logs",
                "delete_log_stream",
                {"logGroupName": "/aws-glue/jobs/output", "logStreamName": "jr_others-driver"},
            ),
            ("sts", "assume_role", {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/x", "RoleSessionName": "s"}),
        ],
    )
    def test_refuses(
        self, account: Account, service: str, operation: str, parameters: dict[str, Any]
    ) -> None:
        with pytest.raises(ForeignResourceError, match="was not made"):
            getattr(account.client(service), operation)(**parameters)

    def test_lets_pass_what_carries_the_suffix(self, account: Account, endpoint_url: str) -> None:
        connect("s3", endpoint_url).create_bucket(Bucket=NAMES.source_bucket)

        account.client("s3").delete_bucket(Bucket=NAMES.source_bucket)


class TestStepsThatOnlyAwsPasses:
    """These steps' requests fit the API's models, and each possible answer is judged correctly."""

    @pytest.fixture
    def on_aws(self, monkeypatch: pytest.MonkeyPatch, endpoint_url: str) -> Steps:
        for name, value in user_environment(endpoint_url).items():
            monkeypatch.setenv(name, value)
        made = Steps(Account(NAMES), "an-external-id", Console(file=io.StringIO()))
        monkeypatch.setattr(Account, "is_aws", True)
        for name in ("METRIC_SECONDS", "ALARM_SECONDS"):
            monkeypatch.setattr(steps, name, 0)
        return made

    @pytest.fixture
    def stub(self, on_aws: Steps, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Stubber]:
        def make(service: str) -> Stubber:
            client = on_aws.account.client(service)
            stubber = Stubber(client)
            stubber.activate()
            monkeypatch.setattr(on_aws.account, "client", lambda *_, **__: client)
            return stubber

        return make

    def test_buckets_must_refuse_what_comes_without_tls(self, on_aws: Steps, stub: Any) -> None:
        s3 = stub("s3")
        for bucket in NAMES.buckets:
            s3.add_client_error("head_bucket", "403", expected_params={"Bucket": bucket})

        on_aws.tls()

        s3.assert_no_pending_responses()

    def test_bucket_that_answers_without_tls_is_named(self, on_aws: Steps, stub: Any) -> None:
        s3 = stub("s3")
        s3.add_client_error("head_bucket", "403")
        s3.add_response("head_bucket", {})
        s3.add_client_error("head_bucket", "403")

        with pytest.raises(StepFailedError, match=f"{NAMES.intermediate_bucket} answers without TLS"):
            on_aws.tls()

    def test_clients_without_tls_ask_aws_by_plain_http(self, on_aws: Steps, monkeypatch: Any) -> None:
        monkeypatch.delenv("AWS_ENDPOINT_URL")

        assert on_aws.account.client("s3", use_ssl=False).meta.endpoint_url.startswith("http://s3.")

    def test_index_must_answer_with_both_days(self, on_aws: Steps, stub: Any) -> None:
        statement = f'SELECT * FROM "{NAMES.table}"."track_genre-date-index" WHERE track_genre = \'pop\''
        items = [{"date": {"S": day}} for day in (data.NEXT_DAY, data.DAY)]
        stub("dynamodb").add_response("execute_statement", {"Items": items}, {"Statement": statement})

        on_aws.query()

    def test_second_deployment_must_have_nothing_to_do(self, on_aws: Steps, stub: Any) -> None:
        cloudformation = stub("cloudformation")
        cloudformation.add_client_error(
            "update_stack",
            "ValidationError",
            "No updates are to be performed.",
            expected_params=on_aws._stack_request(),
        )

        on_aws.deploy_again()

    def test_second_deployment_that_changes_something_is_a_failure(self, on_aws: Steps, stub: Any) -> None:
        cloudformation = stub("cloudformation")
        cloudformation.add_response("update_stack", {"StackId": "id"})
        cloudformation.add_response("describe_stacks", {"Stacks": [stack("UPDATE_COMPLETE")]})

        with pytest.raises(StepFailedError, match="changed the stack"):
            on_aws.deploy_again()

    def test_new_stack_imports_each_retained_resource_under_its_name(self, on_aws: Steps, stub: Any) -> None:
        cloudformation = stub("cloudformation")
        of_stack = {"StackName": NAMES.stack}
        change_set = of_stack | {"ChangeSetName": "import"}
        imported = [
            {"ResourceType": type_, "LogicalResourceId": logical, "ResourceIdentifier": {key: name}}
            for type_, logical, key, name in (
                ("AWS::S3::Bucket", "SourceBucket", "BucketName", NAMES.source_bucket),
                ("AWS::S3::Bucket", "IntermediateBucket", "BucketName", NAMES.intermediate_bucket),
                ("AWS::S3::Bucket", "ArchiveBucket", "BucketName", NAMES.archive_bucket),
                ("AWS::DynamoDB::Table", "KpiTable", "TableName", NAMES.table),
            )
        ]
        request = on_aws._stack_request()
        cloudformation.add_response(
            "create_change_set",
            {"Id": "i"},
            request
            | change_set
            | {"TemplateBody": ANY, "ChangeSetType": "IMPORT", "ResourcesToImport": imported},
        )
        cloudformation.add_response("describe_change_set", {"Status": "CREATE_COMPLETE"}, change_set)
        cloudformation.add_response("execute_change_set", {}, change_set)
        cloudformation.add_response("describe_stacks", {"Stacks": [stack("IMPORT_COMPLETE")]}, of_stack)
        cloudformation.add_response("update_stack", {"StackId": "i"}, request)
        cloudformation.add_response("describe_stacks", {"Stacks": [stack("UPDATE_COMPLETE")]}, of_stack)

        on_aws.import_again()

        cloudformation.assert_no_pending_responses()

    def test_import_that_fails_shows_the_reasons(self, on_aws: Steps, stub: Any) -> None:
        cloudformation = stub("cloudformation")
        cloudformation.add_response("create_change_set", {"Id": "i"})
        cloudformation.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": "no"})
        event = {
            "StackId": "i",
            "EventId": "e",
            "StackName": NAMES.stack,
            "Timestamp": datetime.now(UTC),
            "LogicalResourceId": "KpiTable",
            "ResourceType": "AWS::DynamoDB::Table",
            "ResourceStatus": "IMPORT_FAILED",
            "ResourceStatusReason": "differs",
        }
        cloudformation.add_response("describe_stack_events", {"StackEvents": [event]})

        with pytest.raises(StepFailedError) as failure:
            on_aws.import_again()
        assert "KpiTable (AWS::DynamoDB::Table): differs" in failure.value.args

    def test_alarm_must_go_off(self, on_aws: Steps, endpoint_url: str) -> None:
        cloudwatch = connect("cloudwatch", endpoint_url)
        cloudwatch.put_metric_alarm(
            AlarmName=NAMES.alarm,
            MetricName="m",
            Namespace="n",
            Period=3600,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="LessThanThreshold",
            Statistic="Sum",
        )
        try:
            cloudwatch.set_alarm_state(AlarmName=NAMES.alarm, StateValue="OK", StateReason="r")
            on_aws.alarm()
            cloudwatch.set_alarm_state(AlarmName=NAMES.alarm, StateValue="ALARM", StateReason="r")
            with pytest.raises(StepFailedError, match="is ALARM after two runs"):
                on_aws.alarm()
        finally:
            cloudwatch.delete_alarms(AlarmNames=[NAMES.alarm])

    def test_runs_that_cloudwatch_does_not_count_are_a_failure(self, on_aws: Steps) -> None:
        with pytest.raises(StepFailedError, match="counts 0 succeeded runs, expected 2"):
            on_aws.count()

    def test_on_a_stand_in_they_are_not_made(self, on_aws: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Account, "is_aws", False)

        for step in (on_aws.tls, on_aws.query, on_aws.deploy_again, on_aws.import_again, on_aws.alarm):
            with pytest.raises(NotHereError, match="local AWS"):
                step()


def stack(status: str) -> dict[str, Any]:
    return {"StackName": NAMES.stack, "CreationTime": datetime.now(UTC), "StackStatus": status}


@pytest.mark.parametrize("host", ["s3.eu-central-1.amazonaws.com", "sts.cn-north-1.amazonaws.com.cn"])
def test_aws_is_distinguished_from_a_stand_in_by_its_address(
    host: str, endpoint_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in user_environment(endpoint_url).items():
        monkeypatch.setenv(name, value)
    account = Account(NAMES)

    assert not account.is_aws
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://{host}")
    assert account.is_aws


def test_each_step_proves_claims_and_each_claim_names_a_step() -> None:
    listed = claims.claims_by_step()
    rows = [
        line
        for line in claims.DOCUMENT.read_text().splitlines()
        if line.startswith("| ") and not line.startswith(("| claim", "| ---"))
    ]

    assert listed.keys() == ALL_STEPS.keys()
    others = [row for row in rows if re.search(r"\| nothing here[:,] .+ \|$", row)]
    assert len(rows) == sum(map(len, listed.values())) + len(others)
    names = [row.split(" | ")[0] for row in rows]
    assert len(names) == len(set(names))


def test_metric_is_the_one_that_the_pipeline_counts_in() -> None:
    assert (steps.NAMESPACE, steps.METRIC) == (run_metrics.NAMESPACE, run_metrics.METRIC)


def test_differences_name_what_is_missing_what_is_too_much_and_what_is_other() -> None:
    expected = {"same": 1, "missing": 2, "item": {"same": 3, "other": 4}}
    found = {"same": 1, "too much": 5, "item": {"same": 3, "other": 6}}

    assert differences(expected, found) == [
        "item: other: 6, expected 4",
        "missing: missing, expected 2",
        "too much: 5, expected none",
    ]
