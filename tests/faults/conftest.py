"""What the fault tests share: local AWS, a warm Spark, and attempts at runs of one prepared batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_socket import socket_allow_hosts

from include.local_aws.provision import provision
from local_aws_support import REPOSITORY, running_server
from tests.e2e.deployment import Deployment
from tests.e2e.spark_process import SparkProcess
from tests.faults.attempts import Attempts
from tests.faults.bench import Bench


@pytest.fixture(autouse=True)
def _processes_of_this_machine_may_be_reached() -> None:
    """Attempts are started through a Unix socket; beyond that only loopback, as everywhere."""
    socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def stacks(folder: Path) -> Iterator[list[Deployment]]:
    """The pipeline, deployed to a local AWS per core: one server uses no more than one."""
    with running_server() as (first, _), running_server() as (second, _):
        yield [Deployment(address, provision(address), folder / "airflow") for address in (first, second)]


@pytest.fixture(scope="session")
def attempts(stacks: list[Deployment], folder: Path) -> Iterator[Attempts]:
    environment = stacks[0].environment
    spark = SparkProcess(environment, folder / "spark.log")
    (folder / "glue").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        # The process from which attempts are forked starts with the first of them.
        patch.setenv("PYTHONPATH", f"{REPOSITORY}:{REPOSITORY / 'dags'}:{REPOSITORY / 'tests'}")
        yield Attempts(spark, folder / "glue")
    spark.close()


@pytest.fixture(scope="session")
def bench(stacks: list[Deployment], attempts: Attempts) -> Bench:
    return Bench(stacks, attempts)
