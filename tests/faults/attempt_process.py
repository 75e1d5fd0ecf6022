"""The code that runs in an attempt's process, and in the process from which attempts are forked."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from botocore.loaders import Loader

from include.commands.environment import airflow_environment
from local_aws_support import RUNNING_LOCAL_AWS
from tests.e2e.deployment import Deployment, connect
from tests.e2e.pipeline_runner import PipelineRunner
from tests.e2e.processes import become
from tests.faults.glue_operator import RunnerWithOperator
from tests.faults.glue_stand_in import GlueStandIn
from tests.faults.safeguards import SAFEGUARDS
from tests.faults.wire import Fault, Wire
from tests.quick_clients import share_sessions_of_hooks


@dataclass(frozen=True)
class Job:
    """The work of an attempt; see `Attempts.make`."""

    endpoint_url: str
    names: dict[str, str]
    airflow_home: Path
    dag_run_id: str
    results: dict[str, Any]
    start: str | None
    until: str | None
    fault: Fault | None
    without: str | None
    with_operator: bool
    reprocess_dates: str | None
    glue_folder: Path


def warm_up() -> None:
    """Import and cache what every attempt needs, in the process from which attempts are forked."""
    loader: Any = Loader
    for name in ("list_available_services", "load_service_model", "load_data_with_path"):
        setattr(loader, name, _remembered(getattr(loader, name)))
    from helpers import (  # noqa: F401
        archive_streams_data,
        delete_files_from_intermediate_bucket,
        list_stream_files,
        move_files_to_intermediate_bucket,
        sense_streaming_data,
        store_kpis_in_dynamodb,
        trigger_glue_job,
    )
    from helpers.aws import clients as aws

    share_sessions_of_hooks(pytest.MonkeyPatch())
    # All attempts share the AWS clients, because creating one takes as long as ten calls.
    shared: Any = cache(aws._client)
    aws._client = shared
    address = os.environ[RUNNING_LOCAL_AWS]
    home = Path(os.environ["AIRFLOW_HOME"])
    with patch.dict(os.environ, airflow_environment(os.environ, urlsplit(address).port or 0, {}, home)):
        for service in ("s3", "dynamodb", "cloudwatch", "glue"):
            connect(service, address)
            shared(service)
    # Otherwise the garbage collector would search all of this in each attempt, a third of an attempt's time.
    gc.freeze()


def _remembered(method: Callable[..., Any]) -> Callable[..., Any]:
    results: dict[Any, Any] = {}

    def remembered(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Each loader of the SDK would read the same files again.
        key = repr((args, kwargs))
        if key not in results:
            results[key] = method(self, *args, **kwargs)
        return results[key]

    return remembered


def run_attempt(connection: Connection, job: Job) -> None:
    """Run the tasks and report their results over the connection."""
    become(dict(os.environ), job.glue_folder.parent / "attempts.log")

    def ask(*message: Any) -> Any:
        connection.send(message)
        return connection.recv()

    wire = Wire(job.fault, pause=lambda: ask("paused"))
    wire.install()
    _make_calls_ordered()
    if job.without:
        SAFEGUARDS[job.without]()
    deployment = Deployment(job.endpoint_url, job.names, job.airflow_home)
    glue = GlueStandIn(lambda arguments: ask("glue", arguments), job.glue_folder)
    runner_class = RunnerWithOperator if job.with_operator else PipelineRunner
    runner = runner_class(deployment, glue.run, job.dag_run_id, job.reprocess_dates)
    runner.results = job.results
    tasks = runner.task_ids
    first = tasks.index(job.start) if job.start else 0
    last = tasks.index(job.until) if job.until else len(tasks) - 1
    error = None
    try:
        for task_id in tasks[first : last + 1]:
            connection.send(("starts", task_id))
            wire.task = task_id
            connection.send(("returned", task_id, runner.run_task(task_id)))
    except Exception as exception:
        error = f"{type(exception).__name__}: {exception}"
        traceback.print_exc()
    connection.send(("ended", error, wire.calls, wire.waits))
    connection.close()
    # A normal exit would wait for threads of the SDK.
    os._exit(0)


def _make_calls_ordered() -> None:
    """Make call number k the same one in each attempt."""
    from helpers import store_kpis_in_dynamodb
    from helpers.run import dispositions

    dispositions.MAX_CONNECTIONS = 1  # type: ignore[attr-defined]
    store_kpis_in_dynamodb.MAX_CONNECTIONS = 1  # type: ignore[attr-defined]
