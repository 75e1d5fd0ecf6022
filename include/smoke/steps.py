"""The steps of the smoke test; `docs/unproven.md` lists what each one proves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, WaiterError
from rich.console import Console

from helpers.contract.glue_cost import dpu_seconds, estimated_usd
from include.commands.environment import LOCAL_DIR, LOGS_DIR, ROOT, airflow_settings
from include.findings import DENIED
from include.smoke import data
from include.smoke.account import Account
from include.smoke.observed import differences, observe
from include.smoke.removal import (
    SETTLE_SECONDS,
    StackError,
    delete_stack,
    failures_of_stack,
    find_existing,
)

TEMPLATE = ROOT / "include" / "stack.yaml"
# The same as in dags/helpers/notices/run_metrics.py; importing that would load Airflow into this process.
NAMESPACE, METRIC = "MusicStreamingPipeline", "RunsSucceeded"
ROLE_SECONDS = 60
DAG_SECONDS = 30 * 60
METRIC_SECONDS = 5 * 60
ALARM_SECONDS = 10 * 60
# The user's variables that would change the runs or that belong to another Airflow.
_FOREIGN = ("AIRFLOW", "MAX_", "GLUE_", "SENSOR_", "ARCHIVE_", "PIPELINE_", "RUNBOOK_")
# The checkout's .env describes another deployment.
_DOCTOR = """
import os, sys
from pathlib import Path
from include import doctor

doctor.DOTENV = Path(os.devnull)
sys.exit(doctor.main([]))
"""


class StepFailedError(Exception):
    """The step did not show what it should; each argument is a line about it."""


class NotHereError(Exception):
    """A stand-in for AWS cannot show this; the message gives the reason."""


class Steps:
    """The actions in the account, one method per step.

    Attributes:
        outputs: the stack's outputs by the pipeline's variables, once it is deployed.
    """

    def __init__(self, account: Account, external_id: str, console: Console) -> None:
        """Take the account; `external_id` is required to assume the role for Airflow."""
        self.account = account
        self.outputs: dict[str, str] = {}
        self._external_id = external_id
        self._console = console
        self._started = datetime.now(UTC)
        self._log = Path()
        self._run_ids: list[str] = []

    def deploy(self) -> None:
        """Create the stack."""
        cloudformation = self.account.client("cloudformation")
        request = self._stack_request()
        try:
            stack = cloudformation.create_stack(**request)["StackId"]
        except ClientError as error:
            raise StepFailedError(str(error), *self._stack_failures(request["StackName"])) from error
        try:
            cloudformation.get_waiter("stack_create_complete").wait(
                StackName=stack, WaiterConfig={"Delay": 5, "MaxAttempts": 240}
            )
        except WaiterError as error:
            failures = self._stack_failures(stack)
            raise StepFailedError("CloudFormation could not make the stack:", *failures) from error
        outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
        self.outputs = {output["Description"]: output["OutputValue"] for output in outputs}

    def deploy_again(self) -> None:
        """Deploy the same template again: nothing may change."""
        self._require_aws("local AWS's CloudFormation would create the resources again")
        cloudformation, request = self.account.client("cloudformation"), self._stack_request()
        try:
            cloudformation.update_stack(**request)
        except ClientError as error:
            if "No updates are to be performed" in str(error):
                return
            raise
        cloudformation.get_waiter("stack_update_complete").wait(StackName=request["StackName"])
        raise StepFailedError("A second deployment of the same template changed the stack.")

    def role(self) -> None:
        """Assume the role for Airflow by the stack's trust policy, which must require its external id."""
        arn = json.loads(self.outputs["AIRFLOW_CONN_AWS_DEFAULT"])["extra"]["role_arn"]
        # A new role is not known everywhere immediately.
        deadline = time.monotonic() + ROLE_SECONDS
        while True:
            try:
                self._role = self.account.role_session(arn, self._external_id)
                break
            except ClientError as error:
                if time.monotonic() > deadline:
                    raise StepFailedError(
                        f"{self.account.arn} cannot assume {arn}, which takes sts:AssumeRole on it: {error}"
                    ) from error
            time.sleep(5)
        if _is_refused(partial(self.account.role_session, arn, "another-external-id")):
            return
        self._require_aws("local AWS does not look at trust policies, unless it checks rights")
        raise StepFailedError(f"{arn} can be assumed with another external id than the stack's.")

    def first_batch(self) -> None:
        """Deliver catalogs, a file with a bad row and a broken file; run the DAG; compare."""
        self._deliver(data.CATALOGS)
        self._deliver(data.FIRST_BATCH)
        self._run_dag("first-batch")
        self._compare(data.AFTER_FIRST)

    def doctor(self) -> None:
        """Run `make doctor` as the role for Airflow: it may find nothing wrong."""
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                [sys.executable, "-c", _DOCTOR],
                cwd=ROOT,
                env=self._environment(Path(home)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        if done.returncode:
            raise StepFailedError("make doctor found:", *done.stdout.splitlines())

    def late_batch(self) -> None:
        """Deliver late, repeated and next-day listens; run the DAG; compare."""
        self._deliver(data.LATE_BATCH)
        self._run_dag("late-batch")
        self._compare(data.AFTER_LATE)

    def log(self) -> None:
        """Find the Glue job's output in the task's log, and no alert or metric that failed."""
        text = self._log.read_text(errors="replace")
        expected = f"End of {self._run_ids[-1]}-driver in /aws-glue/jobs/output"
        wrong = [f"{self._log} has no line: {expected}"] if expected not in text else []
        wrong += [
            f"{self._log} has: {line}"
            for line in text.splitlines()
            if "No alert was sent" in line or "The run was not counted" in line
        ]
        if wrong:
            raise StepFailedError(*wrong)

    def refusals(self) -> None:
        """Try actions that the role for Airflow has no right to; all of them only read."""
        names, s3 = self.account.names, self._role.client("s3")
        listed = self.account.client("s3").list_objects_v2(Bucket=names.archive_bucket, Prefix="listens/")
        key = listed["Contents"][0]["Key"]
        attempts: dict[str, Callable[[], Any]] = {
            f"read {key} of the history": lambda: s3.get_object(Bucket=names.archive_bucket, Key=key),
            "scan the table": lambda: self._role.client("dynamodb").scan(TableName=names.table),
            "read its own role": lambda: self._role.client("iam").get_role(RoleName=names.airflow_role),
        }
        allowed = [what for what, attempt in attempts.items() if not _is_refused(attempt)]
        if len(allowed) == len(attempts):
            self._require_aws("local AWS checks no rights by default")
        if allowed:
            raise StepFailedError(*(f"The role for Airflow may {what}." for what in allowed))

    def tls(self) -> None:
        """Call each bucket without TLS: the bucket policies must refuse every caller."""
        self._require_aws("local AWS leaves bucket policies out, and has no TLS")
        s3 = self.account.client("s3", use_ssl=False)
        allowed = [
            bucket
            for bucket in self.account.names.buckets
            if not _is_refused(partial(s3.head_bucket, Bucket=bucket))
        ]
        if allowed:
            raise StepFailedError(*(f"{bucket} answers without TLS." for bucket in allowed))

    def query(self) -> None:
        """Query the index in PartiQL, as docs/kpis.md does."""
        self._require_aws("local AWS knows no index in PartiQL")
        table = self.account.names.table
        statement = f'SELECT * FROM "{table}"."track_genre-date-index" WHERE track_genre = \'pop\''
        dynamodb, days = self.account.client("dynamodb"), [data.DAY, data.NEXT_DAY]

        def answer() -> list[str]:
            items = dynamodb.execute_statement(Statement=statement)["Items"]
            return sorted(item["date"]["S"] for item in items)

        # An index follows its table within moments.
        if not _comes_true(lambda: answer() == days, 30):
            raise StepFailedError(f"{statement} has the days {answer()}, expected {days}")

    def count(self) -> None:
        """Find both runs in CloudWatch's metric of succeeded runs."""
        cloudwatch = self.account.client("cloudwatch")

        def total() -> float:
            points = cloudwatch.get_metric_statistics(
                Namespace=NAMESPACE,
                MetricName=METRIC,
                Dimensions=[{"Name": "KpiTable", "Value": self.account.names.table}],
                StartTime=self._started - timedelta(hours=1),
                EndTime=datetime.now(UTC) + timedelta(hours=1),
                Period=3600,
                Statistics=["Sum"],
            )["Datapoints"]
            return float(sum(point["Sum"] for point in points))

        if not _comes_true(lambda: total() == 2, METRIC_SECONDS if self.account.is_aws else 0):
            raise StepFailedError(f"CloudWatch counts {total():g} succeeded runs, expected 2")

    def alarm(self) -> None:
        """Wait until the alarm is OK; it is raised until a run has succeeded."""
        self._require_aws("local AWS evaluates no alarms")
        cloudwatch, name = self.account.client("cloudwatch"), self.account.names.alarm

        def state() -> str:
            [alarm] = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
            return str(alarm["StateValue"])

        if not _comes_true(lambda: state() == "OK", ALARM_SECONDS):
            raise StepFailedError(f"The alarm {name} is {state()} after two runs that succeeded.")

    def delete(self) -> None:
        """Delete the stack: only buckets and table may outlive it."""
        names = self.account.names
        try:
            delete_stack(self.account)
        except StackError as error:
            raise StepFailedError("CloudFormation could not delete the stack:", *error.args) from error
        # The Glue job belongs to the pipeline.
        kept = [
            *(f"bucket {bucket}" for bucket in names.buckets),
            f"table {names.table}",
            f"Glue job {names.job}",
        ]
        if not _comes_true(lambda: find_existing(self.account) == kept, SETTLE_SECONDS):
            found = ", ".join(find_existing(self.account))
            raise StepFailedError(f"The stack left {found}", f"expected {', '.join(kept)}")

    def import_again(self) -> None:
        """Let a new stack import buckets and table, as docs/deploy.md does, then create the rest."""
        self._require_aws("local AWS knows no import")
        from include.local_aws.provision import read_template
        from include.retained import retained

        cloudformation, request = self.account.client("cloudformation"), self._stack_request()
        template, stack = retained(read_template()), {"StackName": request["StackName"]}
        given = {entry["ParameterKey"]: entry["ParameterValue"] for entry in request["Parameters"]}
        imported = []
        for logical_id, resource in template["Resources"].items():
            identifier = "TableName" if resource["Type"] == "AWS::DynamoDB::Table" else "BucketName"
            name = given[resource["Properties"][identifier]["Ref"]]
            imported.append(
                {
                    "ResourceType": resource["Type"],
                    "LogicalResourceId": logical_id,
                    "ResourceIdentifier": {identifier: name},
                }
            )
        change_set = stack | {"ChangeSetName": "import"}
        try:
            cloudformation.create_change_set(
                **request | {"TemplateBody": json.dumps(template)},
                ChangeSetName="import",
                ChangeSetType="IMPORT",
                ResourcesToImport=imported,
            )
            cloudformation.get_waiter("change_set_create_complete").wait(**change_set)
            cloudformation.execute_change_set(**change_set)
            cloudformation.get_waiter("stack_import_complete").wait(**stack)
            cloudformation.update_stack(**request)
            cloudformation.get_waiter("stack_update_complete").wait(**stack)
        except WaiterError as error:
            raise StepFailedError(str(error), *self._stack_failures(request["StackName"])) from error

    def _require_aws(self, why: str) -> None:
        if not self.account.is_aws:
            raise NotHereError(why)

    def _stack_request(self) -> dict[str, Any]:
        names = self.account.names
        parameters = names.parameters(self.account.principal_arn, self._external_id)
        return {
            "StackName": names.stack,
            "TemplateBody": TEMPLATE.read_text(),
            "Parameters": [
                {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
            ],
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
        }

    def _stack_failures(self, stack: str) -> list[str]:
        try:
            return failures_of_stack(self.account, stack)
        except ClientError:
            return []  # there is no stack, or the user may not read it

    def _deliver(self, files: Mapping[str, str]) -> None:
        s3 = self.account.client("s3")
        for key, content in files.items():
            s3.put_object(Bucket=self.account.names.source_bucket, Key=key, Body=content.encode())

    def _environment(self, home: Path) -> dict[str, str]:
        """Return the user's environment with an Airflow whose tasks use the stack's connection."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        settings = {"PYTHONPATH": str(ROOT), "SENSOR_TIMEOUT_MINUTES": "0", "GLUE_NUMBER_OF_WORKERS": "2"}
        return kept | airflow_settings(home) | self.outputs | settings

    def _run_dag(self, label: str) -> None:
        self._log = LOGS_DIR / f"smoke-{self.account.names.suffix}-{label}.log"
        LOCAL_DIR.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=LOCAL_DIR, prefix="airflow-smoke-") as home:
            result = Path(home, "outcome.json")
            # In its own session: Ctrl-C in the terminal must only reach this process.
            process = subprocess.Popen(
                [sys.executable, "-m", "include.smoke.dag_run", str(result), str(self._log)],
                cwd=ROOT,
                env=self._environment(Path(home)),
                start_new_session=True,
            )
            try:
                process.wait(DAG_SECONDS)
            except subprocess.TimeoutExpired:
                raise StepFailedError(
                    f"The run did not end within {DAG_SECONDS // 60} minutes.", f"Its log: {self._log}"
                ) from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            if not result.exists():
                raise StepFailedError("Airflow did not get as far as a run.", f"Its log: {self._log}")
            outcome = json.loads(result.read_text())
        self._show_glue_run()
        if outcome["state"] != "success":
            errors = [f"{task}: {error}" for task, error in outcome["errors"].items()]
            raise StepFailedError(f"The run ended as {outcome['state']}.", *errors, f"Its log: {self._log}")

    def _show_glue_run(self) -> None:
        glue = self.account.client("glue")
        try:
            runs = glue.get_job_runs(JobName=self.account.names.job)["JobRuns"]
        except glue.exceptions.EntityNotFoundException:
            return
        for run in reversed(runs):
            if run["Id"] in self._run_ids or "CompletedOn" not in run:
                continue
            self._run_ids.append(run["Id"])
            seconds = (run["CompletedOn"] - run["StartedOn"]).total_seconds()
            # A stand-in bills nothing.
            cost = f", about {estimated_usd(dpu_seconds(run)):.3f} US dollars" if self.account.is_aws else ""
            self._console.print(
                f"    Glue run {run['Id']}: {run['JobRunState']}, {seconds:.0f} s in all, "
                f"{run.get('ExecutionTime', 0)} s of them executing{cost}",
                markup=False,
                soft_wrap=True,
            )

    def _compare(self, expected: Mapping[str, Any]) -> None:
        if wrong := differences(expected, observe(self.account)):
            raise StepFailedError("The run's results differ from the values computed by hand:", *wrong)


# The order matters: after a failure of the first steps, the rest has nothing to examine.
ESSENTIAL: dict[str, Callable[[Steps], None]] = {
    "deploy": Steps.deploy,
    "role": Steps.role,
    "first-batch": Steps.first_batch,
    "late-batch": Steps.late_batch,
}
FURTHER: dict[str, Callable[[Steps], None]] = {
    "log": Steps.log,
    "doctor": Steps.doctor,
    "refusals": Steps.refusals,
    "tls": Steps.tls,
    "query": Steps.query,
    "deploy-again": Steps.deploy_again,
    "count": Steps.count,
    "alarm": Steps.alarm,
    "delete": Steps.delete,
    "import": Steps.import_again,
}


def _is_refused(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except ClientError as error:
        if error.response["Error"]["Code"] in DENIED:
            return True
        raise
    return False


def _comes_true(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(5)
    return True
