"""Fixtures of the end-to-end tests: a local AWS, an Airflow and a Spark; each test has its own pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from include.commands.environment import DAGS_DIR, PLUGINS_DIR
from include.local_aws.provision import provision
from local_aws_support import running_server
from tests.e2e.airflow_process import AirflowProcess
from tests.e2e.airflow_services import AirflowServices
from tests.e2e.deployment import Deployment, deploy
from tests.e2e.pipeline_runner import PipelineRunner
from tests.e2e.spark_process import SparkProcess
from tests.quick_clients import share_sessions_of_hooks

MakeRunner = Callable[..., PipelineRunner]
StartServices = Callable[[Deployment, str], AirflowServices]


@pytest.fixture(scope="session", autouse=True)
def _clients_are_made_quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        share_sessions_of_hooks(patch)
        yield


@pytest.fixture(scope="session")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def endpoint_url() -> Iterator[str]:
    """The address of a local AWS that no other test resets."""
    with running_server() as (address, _):
        yield address


@pytest.fixture(scope="session")
def stack(endpoint_url: str, work_dir: Path) -> Deployment:
    """The pipeline as `include/stack.yaml` deploys it."""
    return Deployment(endpoint_url, provision(endpoint_url), work_dir / "airflow")


@pytest.fixture(scope="session")
def make_deployment(stack: Deployment) -> Callable[..., Deployment]:
    """Makes a pipeline with its own buckets and table (versioning=True)."""
    return partial(deploy, stack.endpoint_url, stack.airflow_home, stack.names)


@pytest.fixture
def deployment(make_deployment: Callable[..., Deployment]) -> Deployment:
    """A pipeline for one test, to which nothing was delivered."""
    return make_deployment()


@pytest.fixture
def start_services(tmp_path: Path) -> Iterator[StartServices]:
    """Starts Airflow's real services for a deployment, with a schedule and the default wait for files."""
    started: list[AirflowServices] = []

    def start(deployment: Deployment, schedule: str) -> AirflowServices:
        environment = deployment.environment | {"PIPELINE_SCHEDULE": schedule}
        del environment["SENSOR_TIMEOUT_MINUTES"]
        started.append(AirflowServices(environment, tmp_path, DAGS_DIR, PLUGINS_DIR))
        return started[0]

    yield start
    for services in started:
        services.close()


@pytest.fixture(scope="session")
def airflow(stack: Deployment, work_dir: Path) -> Iterator[AirflowProcess]:
    """An Airflow that runs the real DAG with the real operators."""
    process = AirflowProcess(stack.environment, work_dir / "airflow.log")
    yield process
    process.close()


@pytest.fixture(scope="session")
def spark(stack: Deployment, work_dir: Path) -> Iterator[SparkProcess]:
    """A Spark that runs the Glue script."""
    process = SparkProcess(stack.environment, work_dir / "spark.log")
    yield process
    process.close()


@pytest.fixture(scope="session")
def make_runner(spark: SparkProcess) -> MakeRunner:
    """Makes a runner of a DAG run, a new one unless named (deployment, reprocess_dates=, dag_run_id=)."""
    numbers = count(1)

    def make(
        deployment: Deployment, reprocess_dates: str | None = None, dag_run_id: str | None = None
    ) -> PipelineRunner:
        run_id = dag_run_id or f"manual__2024-07-01T00:00:00+00:00_{next(numbers)}"
        return PipelineRunner(deployment, spark.run_glue_script, run_id, reprocess_dates)

    return make
