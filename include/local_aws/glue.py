"""moto's Glue API, with job runs that really run.

A run's state follows a child process (``job_process``). Tests may set two tags on a job, even before the job
exists; AWS ignores them:

- ``local-aws:end-state``: every new run immediately ends in this state without running its script.
- ``local-aws:timeout-seconds``: replaces the timeout in minutes.
"""

import threading
from datetime import datetime
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from moto.core.responses import ActionResult
from moto.core.utils import unix_time_millis, utcnow
from moto.glue import models
from moto.glue.exceptions import ConcurrentRunsExceededException, JobRunNotFoundException
from moto.glue.models import FakeJob, FakeJobRun, GlueBackend
from moto.glue.responses import GlueResponse
from moto.logs.models import logs_backends
from moto.moto_api._internal.models import MotoAPIBackend
from moto.sts.models import AssumedRole, sts_backends

from include.local_aws.job_process import JobProcess, Outcome

END_STATE_TAG = "local-aws:end-state"
TIMEOUT_SECONDS_TAG = "local-aws:timeout-seconds"

_LOG_GROUP = "/aws-glue/jobs"
_ACTIVE_STATES = ("STARTING", "RUNNING", "STOPPING")
_DEFAULT_TIMEOUT_MINUTES = 480
_DPUS_PER_WORKER = {"G.025X": 0.25, "G.1X": 1.0, "G.2X": 2.0, "G.4X": 4.0, "G.8X": 8.0}
# Auto scaling never uses fewer: one worker drives, one computes. A local run is as small as that.
_LEAST_WORKERS = 2

_start_lock = threading.RLock()
_log_lock = threading.Lock()
_live_runs: "set[LocalJobRun]" = set()


class LocalJobRun(FakeJobRun):
    """A job run with its own thread and process."""

    def __init__(self, **kwargs: Any) -> None:
        """Take the arguments of moto's run; ``start`` begins the run."""
        self.state = "STARTING"
        super().__init__(**kwargs)
        self._completed_on: datetime | None = None
        self._running_since: datetime | None = None
        self._error_message = ""
        self._glue_version: str | None = None
        self._backend: GlueBackend  # since start
        self._process: JobProcess  # since start
        self._thread: threading.Thread  # since start
        self._lock = threading.Lock()

    @property
    def status(self) -> str:
        """The JobRunState; a plain value, so moto's own state transitions cannot change it."""
        return self.state

    @status.setter
    def status(self, value: str) -> None:
        raise AttributeError("The state of a local job run follows its process.")

    def start(self, job: FakeJob, endpoint_url: str) -> None:
        """Begin the run of ``job``; its S3 is at ``endpoint_url``."""
        self._backend = backend = job.backend
        command: Any = job.command or {}
        tags = backend.get_tags(job.arn)
        self.timeout = self.timeout or _DEFAULT_TIMEOUT_MINUTES
        self._glue_version = job.glue_version
        role = _assume_role(job)
        self._process = JobProcess(
            script=command.get("ScriptLocation", ""),
            arguments={
                "--JOB_NAME": job.name,
                "--JOB_ID": f"j_{self.job_run_id.removeprefix('jr_')}",
                "--JOB_RUN_ID": self.job_run_id,
                **(self.arguments or {}),
            },
            timeout_seconds=float(tags.get(TIMEOUT_SECONDS_TAG, self.timeout * 60)),
            s3=_session().client(
                "s3",
                aws_access_key_id=role.access_key_id,
                aws_secret_access_key=role.secret_access_key,
                aws_session_token=role.session_token,
                endpoint_url=endpoint_url,
                region_name=backend.region_name,
                config=Config(
                    proxies={},
                    s3={"addressing_style": "path"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            ),
            environment={
                "AWS_ENDPOINT_URL": endpoint_url,
                "AWS_DEFAULT_REGION": backend.region_name,
                "AWS_ACCESS_KEY_ID": role.access_key_id,
                "AWS_SECRET_ACCESS_KEY": role.secret_access_key,
                "AWS_SESSION_TOKEN": role.session_token,
            },
            on_started=self._set_running,
            write_log=self._write_log,
        )
        self._thread = threading.Thread(
            target=self._follow, args=(tags.get(END_STATE_TAG),), name=f"glue-{self.job_run_id}", daemon=True
        )
        _live_runs.add(self)
        self._thread.start()

    def stop(self) -> bool:
        """Ask the run to end; it is STOPPED once its output is in S3. Return False if it has ended."""
        with self._lock:
            if self.state not in _ACTIVE_STATES:
                return False
            self._set_state("STOPPING")
        self._process.stop.set()
        return True

    def discard(self) -> None:
        """End the process without writing anything to S3."""
        self._process.discard.set()
        self._process.stop.set()

    def join(self) -> None:
        """Wait until the run has ended."""
        self._thread.join()

    def as_dict(self) -> dict[str, Any]:
        """Return the run as GetJobRun shows it."""
        with self._lock:
            end = self._completed_on or utcnow()
            execution_time = int((end - self._running_since).total_seconds()) if self._running_since else 0
            description = super().as_dict() | {
                "CompletedOn": self._completed_on,
                "ErrorMessage": self._error_message or None,
                "ExecutionTime": execution_time,
                "GlueVersion": self._glue_version,
                "LogGroupName": _LOG_GROUP,
                **self._capacity(execution_time),
            }
        return {name: value for name, value in description.items() if value is not None}

    def _capacity(self, execution_time: int) -> dict[str, Any]:
        dpus = _DPUS_PER_WORKER.get(self.worker_type or "")
        if dpus is None:
            return {}
        capacity = dpus * (self.number_of_workers or 0)
        auto_scaling = (self.arguments or {}).get("--enable-auto-scaling") == "true"
        return {
            "MaxCapacity": capacity,
            "AllocatedCapacity": int(capacity),
            "DPUSeconds": dpus * _LEAST_WORKERS * execution_time
            if auto_scaling and self._completed_on
            else None,
        }

    def _follow(self, end_state: str | None) -> None:
        try:
            if end_state:
                outcome = Outcome(
                    end_state, "" if end_state == "SUCCEEDED" else f"Ended by the tag {END_STATE_TAG}."
                )
            else:
                outcome = self._process.run()
        except Exception as error:
            # After any failure, a run without a thread must not stay RUNNING.
            outcome = Outcome("FAILED", f"Local AWS could not run the job: {type(error).__name__}: {error}")
        with self._lock:
            self._error_message = outcome.error_message
            self._completed_on = utcnow()
            self._set_state(outcome.state)
        _live_runs.discard(self)

    def _set_running(self) -> None:
        for stream in ("output", "error"):
            self._write_log(stream, [])  # exists from the start, so readers of a silent run find the streams
        with self._lock:
            self._running_since = utcnow()
            if self.state == "STARTING":
                self._set_state("RUNNING")

    def _write_log(self, stream: str, lines: list[str]) -> None:
        logs = logs_backends[self._backend.account_id][self._backend.region_name]
        group, name = f"{_LOG_GROUP}/{stream}", f"{self.job_run_id}-driver"  # as Glue 5 calls it
        with _log_lock:
            if group not in logs.groups:
                logs.create_log_group(group, {})
            if name not in logs.groups[group].streams:
                logs.create_log_stream(group, name)
            now = int(unix_time_millis(utcnow()))
            logs.put_log_events(group, name, [{"timestamp": now, "message": line} for line in lines])

    def _set_state(self, state: str) -> None:
        self.modified_on = utcnow()
        self.state = state


def install(endpoint_url: str) -> None:
    """Replace moto's simulated Glue job runs by real ones.

    Args:
        endpoint_url: address of this process's server, where the runs reach S3.
    """
    start_job_run_of_moto = GlueBackend.start_job_run
    reset_of_moto = MotoAPIBackend.reset

    def start_job_run(self: GlueBackend, name: str, *args: Any, **kwargs: Any) -> str:
        with _start_lock:
            job = self.get_job(name)
            active = sum(run.status in _ACTIVE_STATES for run in job.job_runs)
            if active >= job.execution_property.get("MaxConcurrentRuns", 1):
                raise ConcurrentRunsExceededException(f"Concurrent runs exceeded for {name}")
            run_id = start_job_run_of_moto(self, name, *args, **kwargs)
            run: Any = job.get_job_run(run_id)
            run.start(job, endpoint_url)
            return run_id

    def reset(self: MotoAPIBackend) -> None:
        with _start_lock:
            end_all_runs()
            reset_of_moto(self)

    def get_job_runs(self: FakeJob) -> list[FakeJobRun]:
        return self.job_runs[::-1]  # as AWS does, newest first

    replacements: list[tuple[Any, str, Any]] = [
        (models, "FakeJobRun", LocalJobRun),
        (FakeJob, "get_job_runs", get_job_runs),
        (GlueBackend, "start_job_run", start_job_run),
        (GlueResponse, "update_job", _update_job),
        (GlueResponse, "batch_stop_job_run", _batch_stop_job_run),
        (MotoAPIBackend, "reset", reset),
    ]
    for owner, name, replacement in replacements:
        setattr(owner, name, replacement)


def end_all_runs() -> None:
    """Kill the processes of all runs, discard their output, and return when they have ended."""
    with _start_lock:
        runs = list(_live_runs)
        for run in runs:
            run.discard()
        for run in runs:
            run.join()


def _update_job(response: GlueResponse) -> ActionResult:
    name = response._get_param("JobName")
    update = response._get_param("JobUpdate")
    backend = response.glue_backend
    with _start_lock:
        job = backend.get_job(name)
        # As on AWS, values that the update omits are removed or set to their defaults.
        updated = FakeJob(
            name=name,
            role=update.get("Role"),
            command=update.get("Command"),
            description=update.get("Description"),
            log_uri=update.get("LogUri"),
            execution_property=update.get("ExecutionProperty"),
            default_arguments=update.get("DefaultArguments"),
            non_overridable_arguments=update.get("NonOverridableArguments"),
            connections=update.get("Connections"),
            max_retries=update.get("MaxRetries"),
            allocated_capacity=update.get("AllocatedCapacity"),
            timeout=update.get("Timeout"),
            max_capacity=update.get("MaxCapacity"),
            security_configuration=update.get("SecurityConfiguration"),
            tags={},
            notification_property=update.get("NotificationProperty"),
            glue_version=update.get("GlueVersion"),
            number_of_workers=update.get("NumberOfWorkers"),
            worker_type=update.get("WorkerType"),
            code_gen_configuration_nodes=update.get("CodeGenConfigurationNodes"),
            execution_class=update.get("ExecutionClass"),
            source_control_details=update.get("SourceControlDetails"),
            backend=backend,
        )
        updated.created_on = job.created_on
        updated.job_runs = job.job_runs
        backend.jobs[name] = updated
    return ActionResult({"JobName": name})


def _batch_stop_job_run(response: GlueResponse) -> ActionResult:
    job_name = response._get_param("JobName")
    job = response.glue_backend.get_job(job_name)
    stopped, errors = [], []
    for run_id in response._get_param("JobRunIds"):
        submission = {"JobName": job_name, "JobRunId": run_id}
        if refusal := _stop_job_run(job, run_id):
            errors.append(submission | {"ErrorDetail": refusal})
        else:
            stopped.append(submission)
    return ActionResult({"SuccessfulSubmissions": stopped, "Errors": errors})


def _stop_job_run(job: FakeJob, run_id: str) -> dict[str, str] | None:
    with _start_lock:  # a listed run may still be about to start
        try:
            run: Any = job.get_job_run(run_id)
        except JobRunNotFoundException as error:
            return {"ErrorCode": "EntityNotFoundException", "ErrorMessage": error.message}
        if run.stop():
            return None
        message = f"Job run {run_id} cannot be stopped: it is {run.status}."
        return {"ErrorCode": "InvalidInputException", "ErrorMessage": message}


@cache
def _session() -> boto3.Session:
    # Shared by all runs, because each session would load the service models again (13 MB).
    return boto3.Session()


def _assume_role(job: FakeJob) -> AssumedRole:
    # A run acts as the job's role, so moto's IAM enforcement applies the role's policy to it.
    backend = job.backend
    sts = sts_backends[backend.account_id][backend.partition]
    is_arn = job.role.startswith("arn:")
    return sts.assume_role(
        region_name=backend.region_name,
        role_session_name="GlueJobRunnerSession",
        role_arn=job.role if is_arn else f"arn:{backend.partition}:iam::{backend.account_id}:role/{job.role}",
        policy="",
        duration=12 * 3600,
        external_id="",
    )
