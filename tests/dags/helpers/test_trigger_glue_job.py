import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowException, AirflowFailException, TaskDeferred
from airflow.models.trigger import Trigger
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError
from botocore.loaders import Loader
from pipeline_support import (
    DAY,
    RUN_ID,
    RUN_KEY,
    GlueDay,
    Pipeline,
    Wire,
    answer,
    answer_after_commit,
    fail,
    fail_after_commit,
)

from glue_job_run_trigger import GlueJobRunTrigger
from helpers import trigger_glue_job
from helpers.aws import job_script
from helpers.contract.keys import output_prefix, report_key
from helpers.contract.settings import AWS_CONN_ID
from helpers.errors import ConfigurationError, ReconciliationError
from helpers.run.glue_output import history_copies
from helpers.trigger_glue_job import ACTIVE, MAX_LOG_EVENTS, MAX_LOG_STREAMS, GlueKpiJobOperator
from local_aws_support import connect, wait_for
from music_streaming_services_dag import music_streaming_pipeline

OTHER_RUN_ID = f"{RUN_ID}_other"
ENDINGS = ("SUCCEEDED", "FAILED", "ERROR", "TIMEOUT", "STOPPED", "EXPIRED")
SLEEPS = "import time\nprint('asleep', flush=True)\ntime.sleep(600)\n"
OUTPUT = "3 rows read from the input"
PRINTS = f"import sys\nprint({OUTPUT!r})\nprint('a warning', file=sys.stderr)\n"
START = "AWSGlue.StartJobRun"
TaskLog = Callable[[], str]
CLOSED = ConnectionClosedError(endpoint_url="http://glue")


def refusal(code: str) -> str:
    return json.dumps({"__type": code, "message": "as the test wants it"})


@dataclass
class Job:
    """The Glue job of the test's pipeline, with the test's own script."""

    pipeline: Pipeline
    script: Path
    glue: Any = field(init=False)

    def __post_init__(self) -> None:
        self.glue = connect("glue", self.pipeline.endpoint_url)
        self.name = self.pipeline.config.glue_job_name
        self.arn = f"arn:aws:glue:us-east-1:123456789012:job/{self.name}"

    def let_runs(self, **tags: str) -> None:
        """Set tags of local AWS; the job need not exist yet."""
        self.glue.tag_resource(
            ResourceArn=self.arn,
            TagsToAdd={f"local-aws:{name.replace('_', '-')}": value for name, value in tags.items()},
        )

    def execute(self, run_id: str = RUN_ID) -> TaskDeferred:
        """Execute the task up to its deferral."""
        with pytest.raises(TaskDeferred) as deferred:
            operator(run_id).execute(context(run_id))
        return deferred.value

    def start(self, run_id: str = RUN_ID) -> str:
        """Execute the task; return the id of the Glue run that it then waits for."""
        trigger: Any = self.execute(run_id).trigger
        return str(trigger.run_id)

    def runs(self) -> list[dict[str, Any]]:
        """The job's runs, newest first."""
        runs: list[dict[str, Any]] = self.glue.get_job_runs(JobName=self.name)["JobRuns"]
        return runs

    def begin(self, script: str) -> str:
        """Start a run with another script, bypassing the task."""
        place = {"Bucket": self.pipeline.config.intermediate_bucket, "Key": "script.py"}
        self.pipeline.s3.put_object(**place, Body=script.encode())
        self.glue.create_job(
            Name=self.name,
            Role=self.pipeline.config.glue_role_name,
            Command={"Name": "glueetl", "ScriptLocation": f"s3://{place['Bucket']}/{place['Key']}"},
        )
        run_id: str = self.glue.start_job_run(JobName=self.name)["JobRunId"]
        return run_id

    def run_ids(self) -> list[str]:
        return [run["Id"] for run in self.runs()]

    def describe(self) -> dict[str, Any]:
        job: dict[str, Any] = self.glue.get_job(JobName=self.name)["Job"]
        return job

    def add_batch(self, run_id: str) -> str:
        """Write the input of another DAG run."""
        self.pipeline.put_input_manifest(rows=3, run_id=run_id)
        return run_id

    def wait(self, run_id: str) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            found: dict[str, Any] = self.glue.get_job_run(JobName=self.name, RunId=run_id)["JobRun"]
            return found

        wait_for(lambda: run()["JobRunState"] not in ACTIVE)
        return run()

    def end(self, run_id: str) -> None:
        self.glue.batch_stop_job_run(JobName=self.name, JobRunIds=[run_id])
        self.wait(run_id)


@pytest.fixture(scope="module", autouse=True)
def _services_are_listed_once() -> Iterator[None]:
    """Creating a client searches the folders of all AWS services, which every hook repeats."""
    with pytest.MonkeyPatch.context() as patch:
        services = cache(Loader().list_available_services)
        patch.setattr(Loader, "list_available_services", lambda _, type_name: services(type_name))
        yield


@pytest.fixture
def job(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Job]:
    """A job whose runs sleep by default; its batch has three listens."""
    job = Job(pipeline, tmp_path / "kpi_script.py")
    job.script.write_text(SLEEPS)
    monkeypatch.setattr(job_script, "SCRIPT", job.script)
    monkeypatch.setattr(trigger_glue_job, "START_WAITS", (0.01, 0.01, 0.01, 0.01))
    connect("iam", pipeline.endpoint_url).create_role(
        RoleName=pipeline.config.glue_role_name, AssumeRolePolicyDocument="{}"
    )
    pipeline.put_input_manifest(rows=3)
    yield job
    try:
        active = [run["Id"] for run in job.runs() if run["JobRunState"] in ACTIVE]
    except job.glue.exceptions.EntityNotFoundException:
        return
    if active:
        job.glue.batch_stop_job_run(JobName=job.name, JobRunIds=active)


@pytest.fixture
def task_log(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> TaskLog:
    """Returns the tasks' log: Airflow 2 passes it to Python's logging, Airflow 3 prints it.

    Airflow 3 may add the logger and the place in the code to a message; they are left out.
    """
    caplog.set_level(logging.INFO)
    place = re.compile(r" +\[[\w.]+\] loc=\S+$", re.MULTILINE)
    return lambda: caplog.text + place.sub("", capfd.readouterr().out)


def operator(run_id: str = RUN_ID) -> GlueKpiJobOperator:
    """The DAG's task as a worker has it at the start of an attempt."""
    task: GlueKpiJobOperator = music_streaming_pipeline().get_task("trigger_glue_job")
    task.render_template_fields({"run_id": run_id})  # type: ignore[typeddict-item]
    return task


def context(run_id: str = RUN_ID) -> Any:
    pushed: dict[str, Any] = {}
    task_instance = SimpleNamespace(
        pushed=pushed, xcom_push=lambda key, value, **_: pushed.update({key: value})
    )
    return {"run_id": run_id, "ti": task_instance, "task_instance": task_instance}


class TestExecute:
    def test_task_starts_a_run_and_gives_its_slot_back_until_it_has_ended(self, job: Job) -> None:
        deferred = job.execute()

        assert isinstance(deferred.trigger, GlueJobRunTrigger)
        assert deferred.trigger.serialize()[1] == {
            "job_name": job.name,
            "run_id": job.run_ids()[0],
            "aws_conn_id": AWS_CONN_ID,
        }
        assert deferred.method_name == "execute_complete"
        assert deferred.timeout is not None
        assert deferred.timeout > timedelta(minutes=job.describe()["Timeout"])
        assert [run["JobRunState"] in ACTIVE for run in job.runs()] == [True]

    def test_run_gets_the_batchs_places_and_the_scripts_hash(self, job: Job, pipeline: Pipeline) -> None:
        job.start()

        arguments = job.runs()[0]["Arguments"]
        script_hash = arguments.pop("--SCRIPT_SHA256")
        config = pipeline.config
        assert arguments == {
            "--S3_SOURCE_PATH": f"s3://{config.intermediate_bucket}/runs/{RUN_KEY}/input/",
            "--S3_HISTORY_PATH": f"s3://{config.archive_bucket}/listens/",
            "--S3_SNAPSHOTS_PATH": f"s3://{config.intermediate_bucket}/snapshots/",
            "--S3_OUTPUT_PATH": f"s3://{config.intermediate_bucket}/runs/{RUN_KEY}/output/",
            "--BATCH_ID": RUN_KEY,
            "--enable-auto-scaling": "true",
        }
        assert len(script_hash) == 16

    def test_days_to_compute_again_are_named_to_the_script(self, job: Job, pipeline: Pipeline) -> None:
        pipeline.put_input_manifest(rows=0, reprocess_dates=[DAY, "2024-06-26"])

        job.start()

        assert job.runs()[0]["Arguments"]["--REPROCESS_DATES"] == f"{DAY},2024-06-26"

    def test_job_is_made_as_the_settings_say(self, job: Job, pipeline: Pipeline) -> None:
        job.start()

        description = job.describe()
        script_location = f"s3://{pipeline.config.intermediate_bucket}/artifacts/glue-scripts/kpi_script.py"
        assert description["GlueVersion"] == "5.1"
        assert description["Role"].endswith(f":role/{pipeline.config.glue_role_name}")
        assert description["Timeout"] == 120
        assert description["MaxRetries"] == 0
        assert description["ExecutionProperty"] == {"MaxConcurrentRuns": 1}
        assert (description["WorkerType"], description["NumberOfWorkers"]) == ("G.1X", 10)
        assert description["Command"]["Name"] == "glueetl"
        assert description["Command"]["ScriptLocation"] == script_location

    def test_job_is_updated_to_changed_settings(
        self, job: Job, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job.end(job.start())
        before = job.describe()
        monkeypatch.setenv("GLUE_WORKER_TYPE", "G.2X")
        monkeypatch.setenv("GLUE_NUMBER_OF_WORKERS", "7")

        job.start()

        after = job.describe()
        assert (after["WorkerType"], after["NumberOfWorkers"]) == ("G.2X", 7)
        unchanged = ("GlueVersion", "Role", "Timeout", "MaxRetries", "Command", "ExecutionProperty")
        assert [after[name] for name in unchanged] == [before[name] for name in unchanged]

    def test_edited_script_replaces_the_one_in_s3(self, job: Job, pipeline: Pipeline) -> None:
        scripts: list[bytes] = []
        for source in (SLEEPS, f"# edited\n{SLEEPS}"):
            job.script.write_text(source)
            job.end(job.start())
            scripts += pipeline.objects(pipeline.config.intermediate_bucket, "artifacts/").values()

        assert scripts == [SLEEPS.encode(), f"# edited\n{SLEEPS}".encode()]
        hashes = [run["Arguments"]["--SCRIPT_SHA256"] for run in job.runs()]
        assert len(set(hashes)) == 2

    def test_script_in_s3_is_run_from_there_and_identified_by_its_content(
        self, job: Job, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket = pipeline.config.intermediate_bucket
        place = {"Bucket": bucket, "Key": "artifacts/glue-scripts/v2/kpis.py"}
        monkeypatch.setenv("GLUE_SCRIPT_LOCATION", f"s3://{bucket}/{place['Key']}")
        job.script.unlink()
        for source in (SLEEPS, SLEEPS, f"# edited\n{SLEEPS}"):
            pipeline.s3.put_object(**place, Body=source.encode())
            job.end(job.start())

        assert job.describe()["Command"]["ScriptLocation"] == f"s3://{bucket}/{place['Key']}"
        assert list(pipeline.objects(bucket, "artifacts/")) == [place["Key"]], "nothing was uploaded"
        edited, again, first = [run["Arguments"]["--SCRIPT_SHA256"] for run in job.runs()]
        assert first == again != edited

    def test_hash_of_the_script_is_the_same_beside_the_dags_and_in_s3(
        self, job: Job, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A succeeded run is therefore adopted even if the script has moved."""
        job.end(job.start())
        bucket = pipeline.config.intermediate_bucket
        monkeypatch.setenv("GLUE_SCRIPT_LOCATION", f"s3://{bucket}/kpis.py")
        pipeline.s3.put_object(Bucket=bucket, Key="kpis.py", Body=SLEEPS.encode())
        job.end(job.start())

        assert len({run["Arguments"]["--SCRIPT_SHA256"] for run in job.runs()}) == 1

    def test_missing_script_fails_without_retry_before_any_call_of_glue(
        self, job: Job, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job.script.unlink()
        wire.requests.clear()

        with pytest.raises(ConfigurationError, match="set GLUE_SCRIPT_LOCATION"):
            operator().execute(context())

        assert wire.count("AWSGlue") == 0

    def test_link_in_the_ui_leads_to_the_run(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trigger_glue_job, "console_url", lambda client: "https://console.aws.amazon.com")
        in_context = context()

        with pytest.raises(TaskDeferred):
            operator().execute(in_context)

        [link] = in_context["ti"].pushed.values()
        assert (link["job_name"], link["job_run_id"]) == (job.name, job.run_ids()[0])

    def test_link_in_the_ui_is_disabled_without_a_console(self, job: Job) -> None:
        in_context = context()

        with pytest.raises(TaskDeferred):
            operator().execute(in_context)

        assert in_context["ti"].pushed == {}

    def test_complete_run_does_nothing(self, job: Job, pipeline: Pipeline, wire: Wire) -> None:
        pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), {"run_key": RUN_KEY})
        wire.requests.clear()

        assert operator().execute(context()) == "complete"
        assert wire.count("AWSGlue") == 0

    def test_run_without_input_fails_without_retry(self, job: Job, pipeline: Pipeline, wire: Wire) -> None:
        with pytest.raises(ReconciliationError, match=r"The input manifest s3://.* does not exist"):
            operator(OTHER_RUN_ID).execute(context(OTHER_RUN_ID))

        assert wire.count("AWSGlue") == 0


class TestAdoption:
    @pytest.mark.scenarios(27)
    def test_active_run_of_the_batch_is_adopted(self, job: Job) -> None:
        first = job.start()

        assert job.start() == first
        assert job.run_ids() == [first]

    def test_active_run_is_adopted_even_if_the_script_was_edited_meanwhile(self, job: Job) -> None:
        """No other run could start while it is active."""
        first = job.start()
        job.script.write_text("print('edited')")

        assert job.start() == first

    @pytest.mark.parametrize("state", [state for state in ENDINGS if state != "SUCCEEDED"])
    def test_run_that_did_not_succeed_is_not_adopted(self, job: Job, state: str) -> None:
        job.let_runs(end_state=state)
        first = job.start()
        job.wait(first)
        job.pipeline.put_glue_output({DAY: GlueDay({"pop": 3}, new=3)})

        assert job.start() != first

    @pytest.fixture
    def succeeded(self, job: Job) -> str:
        """A run of the batch that has succeeded and left its output, over a history of another batch."""
        job.pipeline.put(job.pipeline.config.archive_bucket, self.history_key("earlier"), b"listens")
        job.let_runs(end_state="SUCCEEDED")
        run_id = job.start()
        job.wait(run_id)
        job.pipeline.put_glue_output({DAY: GlueDay({"pop": 5}, new=3)})
        return run_id

    def history_key(self, batch: str) -> str:
        return f"listens/listen_date={DAY}/{batch}__part-00000.parquet"

    @pytest.mark.scenarios(27)
    def test_succeeded_run_is_adopted_if_its_output_is_still_right(self, job: Job, succeeded: str) -> None:
        assert job.start() == succeeded
        assert job.run_ids() == [succeeded]

    @pytest.mark.scenarios(27)
    def test_succeeded_run_is_adopted_if_its_listens_are_in_the_history_already(
        self, job: Job, succeeded: str
    ) -> None:
        """This is the state after a crash within `store_kpis_in_dynamodb` when all tasks are cleared."""
        output = job.pipeline.intermediate()
        for name, key in history_copies(json.loads(output["output/summary.json"])).items():
            job.pipeline.put(job.pipeline.config.archive_bucket, key, output[f"output/{name}"])

        assert job.start() == succeeded

    def test_succeeded_run_is_adopted_even_if_another_batch_has_run_since(
        self, job: Job, succeeded: str
    ) -> None:
        later = job.start(job.add_batch(OTHER_RUN_ID))
        job.wait(later)

        assert job.start() == succeeded
        assert job.run_ids() == [later, succeeded]

    def test_newest_of_several_runs_that_have_succeeded_is_adopted(self, job: Job, succeeded: str) -> None:
        arguments = job.runs()[0]["Arguments"]
        newer = job.glue.start_job_run(JobName=job.name, Arguments=arguments)["JobRunId"]
        job.wait(newer)

        assert job.start() == newer

    @pytest.mark.scenarios(28)
    def test_batch_without_summary_is_computed_again(self, job: Job, succeeded: str) -> None:
        self.delete_output(job, "summary.json")

        assert job.start() != succeeded

    def test_batch_with_the_summary_of_another_one_is_computed_again(self, job: Job, succeeded: str) -> None:
        summary = json.loads(job.pipeline.intermediate()["output/summary.json"])
        key = f"{output_prefix(RUN_KEY)}summary.json"
        job.pipeline.put(job.pipeline.config.intermediate_bucket, key, summary | {"batch_id": "other"})

        assert job.start() != succeeded

    @pytest.mark.scenarios(32)
    def test_batch_is_recomputed_if_another_one_has_added_to_the_history(
        self, job: Job, succeeded: str
    ) -> None:
        job.pipeline.put(job.pipeline.config.archive_bucket, self.history_key("later"), b"listens")

        assert job.start() != succeeded

    def test_batch_is_recomputed_if_the_history_lost_an_object_that_was_read(
        self, job: Job, succeeded: str
    ) -> None:
        job.pipeline.s3.delete_object(
            Bucket=job.pipeline.config.archive_bucket, Key=self.history_key("earlier")
        )

        assert job.start() != succeeded

    def test_batch_is_recomputed_if_the_script_was_edited(self, job: Job, succeeded: str) -> None:
        job.script.write_text(f"# edited\n{SLEEPS}")

        assert job.start() != succeeded

    @pytest.mark.parametrize("kind", ["kpis", "listens"])
    @pytest.mark.scenarios(28, 30)
    def test_batch_is_recomputed_if_a_part_of_its_output_is_gone(
        self, job: Job, succeeded: str, kind: str
    ) -> None:
        """`store_kpis_in_dynamodb` refuses such output and asks to clear this task."""
        [name] = [name for name in job.pipeline.intermediate() if name.startswith(f"output/{kind}/")]
        self.delete_output(job, name.removeprefix("output/"))

        assert job.start() != succeeded

    def test_batch_is_recomputed_if_its_input_has_other_rows_now(self, job: Job, succeeded: str) -> None:
        """This happens if MAX_REJECTED_FRACTION changed and the tasks before this one were cleared."""
        job.pipeline.put_input_manifest(rows=2)

        assert job.start() != succeeded

    def delete_output(self, job: Job, name: str) -> None:
        job.pipeline.s3.delete_object(
            Bucket=job.pipeline.config.intermediate_bucket, Key=output_prefix(RUN_KEY) + name
        )


class TestStart:
    @pytest.mark.parametrize(
        "loss",
        [
            pytest.param(fail_after_commit(CLOSED), id="connection closed"),
            pytest.param(answer_after_commit(503), id="503"),
        ],
    )
    @pytest.mark.scenarios(26)
    def test_run_whose_response_was_lost_is_adopted(self, job: Job, wire: Wire, loss: Any) -> None:
        wire.once(START, loss)

        run_id = job.start()

        assert job.run_ids() == [run_id]
        assert wire.count(START) == 1

    @pytest.mark.scenarios(26)
    def test_run_whose_response_was_lost_is_adopted_even_if_glue_lists_it_late(
        self, job: Job, wire: Wire
    ) -> None:
        """Glue refuses a second start while the run is active, so the search continues."""
        wire.once(START, fail_after_commit(CLOSED))
        wire.once("AWSGlue.GetJobRuns", lambda request, send: send(request))
        wire.once("AWSGlue.GetJobRuns", answer(200, '{"JobRuns": []}'))

        run_id = job.start()

        assert job.run_ids() == [run_id]
        assert wire.count(START) == 2

    @pytest.mark.parametrize(
        "loss",
        [
            pytest.param(fail(CLOSED), id="connection closed"),
            pytest.param(answer(503), id="503"),
            pytest.param(answer(400, refusal("ThrottlingException")), id="throttled"),
        ],
    )
    @pytest.mark.scenarios(26)
    def test_request_that_was_lost_is_sent_again(self, job: Job, wire: Wire, loss: Any) -> None:
        wire.once(START, loss)

        run_id = job.start()

        assert job.run_ids() == [run_id]
        assert wire.count(START) == 2

    @pytest.mark.parametrize(
        ("loss", "error"),
        [
            pytest.param(fail(CLOSED), BotoCoreError, id="connection closed"),
            pytest.param(answer(503), ClientError, id="503"),
        ],
    )
    @pytest.mark.scenarios(38)
    def test_service_that_stays_down_is_a_retryable_error(
        self, job: Job, wire: Wire, loss: Any, error: type[Exception]
    ) -> None:
        for _ in range(20):
            wire.once(START, loss)

        with pytest.raises(error):
            operator().execute(context())

        assert job.run_ids() == []
        assert wire.count(START) == 4

    @pytest.mark.parametrize(
        "code", ["AccessDeniedException", "InvalidInputException", "ResourceNumberLimitExceededException"]
    )
    @pytest.mark.scenarios(44)
    def test_refusal_is_not_asked_for_again(self, job: Job, wire: Wire, code: str) -> None:
        wire.once(START, answer(400, refusal(code)))

        with pytest.raises(ClientError, match=code):
            operator().execute(context())

        assert wire.count(START) == 1
        assert job.run_ids() == []

    def test_another_running_batch_is_a_retryable_error(self, job: Job, wire: Wire) -> None:
        other = job.start(job.add_batch(OTHER_RUN_ID))

        with pytest.raises(ClientError, match="ConcurrentRunsExceededException") as error:
            operator().execute(context())

        assert not isinstance(error.value, AirflowFailException)
        assert job.run_ids() == [other]

        job.end(other)
        assert job.start() != other

    def test_another_batch_that_ends_soon_is_waited_for(
        self, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = job.start(job.add_batch(OTHER_RUN_ID))
        monkeypatch.setattr(trigger_glue_job, "time", SimpleNamespace(sleep=lambda _: job.end(other)))

        run_id = job.start()

        assert job.run_ids() == [run_id, other]


class TestExecuteComplete:
    @pytest.fixture
    def ended(self, job: Job) -> str:
        """A run that has printed and ended."""
        run_id = job.begin(PRINTS)
        assert job.wait(run_id)["JobRunState"] == "SUCCEEDED"
        return run_id

    def event(self, job: Job, run_id: str, state: str, error: str | None = None) -> dict[str, Any]:
        return {"job_name": job.name, "run_id": run_id, "state": state, "error": error}

    def test_run_that_succeeded_is_the_result_and_its_output_is_in_the_log(
        self, job: Job, ended: str, task_log: TaskLog
    ) -> None:
        result = operator().execute_complete(context(), self.event(job, ended, "SUCCEEDED"))

        assert result == ended
        log = task_log()
        assert 0 <= log.index("a warning") < log.index(OUTPUT), "the job's output comes last"
        assert log.rstrip().endswith(OUTPUT)

    def test_log_shows_the_end_of_what_driver_and_executors_wrote(
        self, job: Job, ended: str, task_log: TaskLog
    ) -> None:
        logs = connect("logs", job.pipeline.endpoint_url)
        group = "/aws-glue/jobs/output"

        def write(stream: str, count: int) -> None:
            now = int(time.time() * 1000)
            events = [{"timestamp": now + n, "message": f"{stream} {n}"} for n in range(count)]
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)

        write("jr_of_another_run-driver", 1)
        for number in range(1, 8):
            write(f"{ended}-executor{number}", MAX_LOG_EVENTS + 1)

        operator().execute_complete(context(), self.event(job, ended, "SUCCEEDED"))

        log = task_log()
        shown = [number for number in range(1, 8) if f"End of {ended}-executor{number} in {group}" in log]
        assert shown == list(range(1, MAX_LOG_STREAMS))
        lines = log.splitlines()
        assert f"{ended}-executor1 0" not in lines
        assert f"{ended}-executor1 {MAX_LOG_EVENTS}" in lines
        assert "jr_of_another_run" not in log
        assert log.rstrip().endswith(OUTPUT)

    @pytest.mark.parametrize("state", [state for state in ENDINGS if state != "SUCCEEDED"])
    @pytest.mark.scenarios(29)
    def test_any_other_state_fails_without_retry_and_logs_glues_message_below_the_output(
        self, job: Job, ended: str, task_log: TaskLog, state: str
    ) -> None:
        event = self.event(job, ended, state, "ValueError: no manifest")

        with pytest.raises(AirflowFailException, match=f"ended {state}: ValueError: no manifest") as error:
            operator().execute_complete(context(), event)

        assert ended in str(error.value)
        assert job.name in str(error.value)
        assert "clear this task" in str(error.value)
        assert OUTPUT in task_log()

    def test_end_without_a_message_is_reported_as_such(self, job: Job, ended: str) -> None:
        with pytest.raises(AirflowFailException, match="ended STOPPED: Glue gives no reason"):
            operator().execute_complete(context(), self.event(job, ended, "STOPPED"))

    @pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
    def test_output_that_cannot_be_read_changes_nothing(
        self, job: Job, ended: str, wire: Wire, task_log: TaskLog, state: str
    ) -> None:
        wire.once("DescribeLogStreams", answer(400, refusal("AccessDeniedException")))
        event = self.event(job, ended, state, "its message")

        if state == "SUCCEEDED":
            assert operator().execute_complete(context(), event) == ended
        else:
            with pytest.raises(AirflowFailException, match="its message"):
                operator().execute_complete(context(), event)

        assert f"The output of Glue job run {ended} could not be read" in task_log()

    @pytest.mark.parametrize("state", ["UNKNOWN", "RUNNING", "SOMETHING_NEW"])
    def test_state_that_is_not_final_is_a_retryable_error(self, job: Job, ended: str, state: str) -> None:
        with pytest.raises(AirflowException, match="is unknown: connection lost") as error:
            operator().execute_complete(context(), self.event(job, ended, state, "connection lost"))

        assert not isinstance(error.value, AirflowFailException)

    def test_missing_event_is_a_retryable_error(self) -> None:
        with pytest.raises(AirflowException, match="no event") as error:
            GlueKpiJobOperator(task_id="trigger_glue_job", batch_id=RUN_KEY).execute_complete(context(), None)

        assert not isinstance(error.value, AirflowFailException)


class TestTrigger:
    def events(self, trigger: GlueJobRunTrigger, seconds: float = 10) -> list[Any]:
        async def collect() -> list[Any]:
            return [event.payload async for event in trigger.run()]

        return asyncio.run(asyncio.wait_for(collect(), seconds))

    def trigger_of(self, job: Job, run_id: str) -> GlueJobRunTrigger:
        return GlueJobRunTrigger(job.name, run_id, AWS_CONN_ID)

    @pytest.mark.parametrize("state", ENDINGS)
    @pytest.mark.scenarios(29)
    def test_every_final_state_is_reported_immediately_with_glues_message(
        self, job: Job, wire: Wire, state: str
    ) -> None:
        job.let_runs(end_state=state)
        trigger = self.trigger_of(job, job.begin(""))
        run = job.wait(trigger.run_id)
        wire.requests.clear()

        events = self.events(trigger)

        assert wire.count("AWSGlue.GetJobRun") == 1
        assert events == [
            {
                "job_name": job.name,
                "run_id": trigger.run_id,
                "state": state,
                "error": run.get("ErrorMessage"),
            }
        ]
        assert bool(events[0]["error"]) == (state != "SUCCEEDED")

    def test_event_waits_for_the_end_of_an_active_run(self, job: Job) -> None:
        run_id = job.begin(SLEEPS)
        with pytest.raises(TimeoutError):
            self.events(self.trigger_of(job, run_id), seconds=0.5)

        job.end(run_id)

        assert [event["state"] for event in self.events(self.trigger_of(job, run_id))] == ["STOPPED"]

    def test_end_during_the_wait_is_reported_within_seconds(self, job: Job) -> None:
        run_id = job.begin("import time\ntime.sleep(1)\nraise ValueError('no manifest')\n")

        events = self.events(self.trigger_of(job, run_id), seconds=8)

        assert [(event["state"], event["error"]) for event in events] == [
            ("FAILED", "ValueError: no manifest")
        ]

    def test_run_that_exceeds_its_timeout_is_reported(self, job: Job) -> None:
        job.let_runs(timeout_seconds="0.5")
        run_id = job.begin(SLEEPS)
        job.wait(run_id)

        [event] = self.events(self.trigger_of(job, run_id))

        assert event["state"] == "TIMEOUT"
        assert "longer than its timeout" in event["error"]

    def test_unknown_run_is_reported_and_not_raised(self, job: Job) -> None:
        job.let_runs(end_state="SUCCEEDED")
        job.begin("")

        [event] = self.events(self.trigger_of(job, "jr_unknown"))

        assert (event["state"], event["run_id"]) == ("UNKNOWN", "jr_unknown")
        assert "EntityNotFoundException" in event["error"]

    def test_event_of_an_error_makes_the_task_retry(self, job: Job, wire: Wire) -> None:
        run_id = job.start()
        wire.once("AWSGlue.GetJobRun", answer(400, refusal("AccessDeniedException")))

        [event] = self.events(self.trigger_of(job, run_id))

        with pytest.raises(AirflowException, match=r"AccessDeniedException.*A retry adopts it") as error:
            operator().execute_complete(context(), event)
        assert not isinstance(error.value, AirflowFailException)
        assert job.start() == run_id

    def test_trigger_survives_serialization(self) -> None:
        trigger = GlueJobRunTrigger("a job", "jr_1", "other_aws")

        row = Trigger.from_object(trigger)
        again = resolve_name(row.classpath)(**row.kwargs)

        # Not the identical class: loading the plugins reads the file again.
        assert type(again).__qualname__ == "GlueJobRunTrigger"
        assert (again.job_name, again.run_id, again.aws_conn_id) == ("a job", "jr_1", "other_aws")
        assert again.serialize() == trigger.serialize()
