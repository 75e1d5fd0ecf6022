"""Fixtures of the fault tests: local AWS, a warm Spark, and attempts at runs of one prepared batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_socket import socket_allow_hosts

from include.local_aws.provision import provision
from local_aws_support import REPOSITORY, RUNNING_LOCAL_AWS, running_server
from tests.e2e.deployment import Deployment
from tests.e2e.spark_process import SparkProcess
from tests.faults.attempts import Attempts
from tests.faults.bench import Bench


def allow_processes_of_this_machine() -> None:
    """Allow Unix sockets, by which attempts are started; otherwise only loopback, as in all tests."""
    socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)


@pytest.fixture(autouse=True)
def _processes_of_this_machine_may_be_reached() -> None:
    allow_processes_of_this_machine()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def stack(folder: Path) -> Iterator[Deployment]:
    """The pipeline as `include/stack.yaml` deploys it, in a local AWS that no other test uses."""
    with running_server(("-m", "tests.faults.returning_aws")) as (address, _):
        yield Deployment(address, provision(address), folder / "airflow")


@pytest.fixture(scope="session")
def attempts(stack: Deployment, folder: Path) -> Iterator[Attempts]:
    spark = SparkProcess(stack.environment, folder / "spark.log")
    (folder / "glue").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        # The first attempt starts the process from which attempts are forked.
        patch.setenv("PYTHONPATH", f"{REPOSITORY}:{REPOSITORY / 'dags'}:{REPOSITORY / 'tests'}")
        patch.setenv(RUNNING_LOCAL_AWS, stack.endpoint_url)
        yield Attempts(spark, folder / "glue")
    spark.close()


@pytest.fixture(scope="session")
def bench(
    stack: Deployment, attempts: Attempts, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Bench:
    # The fixtures of the session come before those of its first test.
    allow_processes_of_this_machine()
    own = tmp_path_factory.getbasetemp()
    judged = (own if worker_id == "master" else own.parent) / "judged"
    judged.mkdir(exist_ok=True)
    return Bench(stack, attempts, judged)
