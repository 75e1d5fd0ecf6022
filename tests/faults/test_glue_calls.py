"""Every AWS call of the task trigger_glue_job fails once: Glue still runs the batch exactly once."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.e2e.deployment import Deployment, connect
from tests.faults.attempts import Attempt
from tests.faults.bench import RUN, Bench
from tests.faults.wire import Call, Fault
from tests.scenarios import Scenarios

TASK = "trigger_glue_job"
SCENARIOS = {
    "killed before": 23,
    "killed after": 23,
    "answer lost, 503": 26,
    "answer lost, connection error": 26,
    "unavailable": 38,
    "throttled": 38,
    "connection error": 38,
    "denied": 44,
}


@cache
def calls_of_task(bench: Bench) -> list[Call]:
    """The calls of an undisturbed task."""
    deployment, prepared = prepare(bench)
    attempt = execute(bench, deployment, prepared)
    assert attempt.error is None
    operations = [call.operation for call in attempt.calls]
    assert operations.count("StartJobRun") == 1
    assert {"CreateJob", "GetJobRuns", "GetJobRun"} <= set(operations)
    return attempt.calls


@pytest.mark.scenarios(*set(SCENARIOS.values()))
@pytest.mark.parametrize("kind", SCENARIOS)
def test_batch_runs_once_in_glue_whatever_goes_wrong_at_any_call(
    bench: Bench, scenarios: Scenarios, kind: str
) -> None:
    def endure(fault: Fault) -> None:
        deployment, prepared = prepare(bench)
        attempt = execute(bench, deployment, prepared, fault)
        assert attempt.killed == kind.startswith("killed")
        if attempt.unfinished:
            attempt = execute(bench, deployment, prepared)
        assert attempt.error is None
        assert states_of_runs(deployment) == ["SUCCEEDED"]
        if bench.is_new(deployment, RUN, attempt, attempt.calls):
            attempt = bench.attempts.make(deployment, RUN, attempt.results, "store_kpis_in_dynamodb")
            bench.check(deployment, attempt)

    lost, lasts = kind.startswith("answer lost"), not kind.startswith(("answer lost", "killed"))
    numbers = [number for number, call in enumerate(calls_of_task(bench), 1) if call.mutating or not lost]
    faults = [Fault(kind, number, lasts=lasts, task=TASK) for number in numbers]
    bench.survive(faults, endure, scenarios, lambda fault: [SCENARIOS[kind]])


def prepare(bench: Bench) -> tuple[Deployment, dict[str, Any]]:
    """Return a pipeline in which each run of the Glue job succeeds immediately, and the tasks' results.

    The output of a Glue job exists, but the task has no result.
    """
    deployment, prepared = bench.run.before("store_kpis_in_dynamodb")
    del prepared[TASK]
    name = deployment.names["GLUE_JOB_NAME"]
    connect("glue", deployment.endpoint_url).tag_resource(
        ResourceArn=f"arn:aws:glue:us-east-1:123456789012:job/{name}",
        TagsToAdd={"local-aws:end-state": "SUCCEEDED"},
    )
    return deployment, prepared


def execute(
    bench: Bench, deployment: Deployment, prepared: dict[str, Any], fault: Fault | None = None
) -> Attempt:
    """Run the task as Airflow does."""
    return bench.attempts.make(deployment, RUN, prepared, TASK, until=TASK, fault=fault, with_operator=True)


def states_of_runs(deployment: Deployment) -> list[str]:
    """Return how the runs of the job have ended."""
    glue = connect("glue", deployment.endpoint_url)
    runs = glue.get_job_runs(JobName=deployment.names["GLUE_JOB_NAME"])["JobRuns"]
    return [run["JobRunState"] for run in runs]
