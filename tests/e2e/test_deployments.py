"""The DAG under Airflow's real services, deployed without the rest of the project, or elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from include.commands.environment import DAGS_DIR, PLUGINS_DIR, ROOT
from tests.e2e import data
from tests.e2e.airflow_services import IS_AIRFLOW_2, AirflowServices
from tests.e2e.deployment import Deployment
from tests.e2e.observed import read_objects
from tests.e2e.oracle import assert_consistent

SCRIPT = ROOT / "glue_script" / "glue_script.py"
TASKS = {
    "choose_input",
    "sense_streaming_data",
    "list_stream_files",
    "extract_and_combine_streams",
    "validate_csv_files",
    "move_files_to_intermediate_bucket",
    "trigger_glue_job",
    "store_kpis_in_dynamodb",
    "archive_streams_data",
    "delete_files_from_intermediate_bucket",
}


@dataclass(frozen=True)
class Layout:
    """Which parts of the project are deployed where, below the deployment's own folder.

    Attributes:
        dags_folder: Airflow's folder of DAGs, the root of a bundle.
        dags: the copy of `dags/`.
        with_script: whether `glue_script/` is beside it; otherwise the script is in S3.
    """

    dags_folder: str
    dags: str
    with_script: bool


LAYOUTS = {
    "dags, plugins and requirements, as on MWAA": Layout("dags", "dags", with_script=False),
    "a dated folder above dags": Layout("main/2026-11-26T08_00_00Z", "main/2026-11-26T08_00_00Z/dags", True),
}


@dataclass(frozen=True)
class Ran:
    layout: Layout
    deployment: Deployment
    services: AirflowServices
    state: str


@pytest.fixture(scope="module", params=LAYOUTS.values(), ids=LAYOUTS.keys())
def ran(
    request: pytest.FixtureRequest,
    make_deployment: Callable[[], Deployment],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ran]:
    """A file was delivered, and the run that Airflow scheduled has ended."""
    layout: Layout = request.param
    folder, deployment = tmp_path_factory.mktemp("deployed"), make_deployment()
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(DAGS_DIR, folder / layout.dags, ignore=left_out)
    shutil.copytree(PLUGINS_DIR, folder / "plugins", ignore=left_out)
    environment = deployment.environment | {"DASHBOARD_URL": "https://kpis.example.com"}
    if layout.with_script:
        shutil.copytree(SCRIPT.parent, (folder / layout.dags).parent / "glue_script", ignore=left_out)
    else:
        place = {"Bucket": deployment.resources.intermediate_bucket, "Key": "artifacts/glue-scripts/v2.py"}
        deployment.resources.s3.put_object(**place, Body=SCRIPT.read_bytes())
        environment |= {"GLUE_SCRIPT_LOCATION": f"s3://{place['Bucket']}/{place['Key']}"}
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(data.listens(1, 50))})
    services = AirflowServices(
        environment, folder / "airflow", folder / layout.dags_folder, folder / "plugins"
    )
    try:
        yield Ran(layout, deployment, services, services.wait_for_run())
    finally:
        services.close()


def test_run_is_green_and_the_kpis_are_right(ran: Ran) -> None:
    states = ran.services.task_states()

    assert ran.state == "success", states
    assert states == dict.fromkeys(TASKS, "success") | {"prepare_reprocessing": "skipped"}
    assert_consistent(ran.deployment.resources, ran.deployment.delivered)


def test_triggerer_waited_for_glue(ran: Ran) -> None:
    of_task, of_trigger = ran.services.task_logs("trigger_glue_job").values()

    assert "fired" in of_trigger
    assert "'state': 'SUCCEEDED'" in of_trigger
    assert "50 rows read" in of_task


def test_no_service_lacks_a_module(ran: Ran) -> None:
    logs = ran.services.logs()

    assert ran.services.import_errors() == []
    for trouble in ("ModuleNotFoundError", "ImportError", "Failed to import plugin"):
        assert {name for name, log in logs.items() if trouble in log} == set()


def test_script_is_taken_from_where_it_was_deployed(ran: Ran) -> None:
    resources = ran.deployment.resources

    [key] = read_objects(resources, resources.intermediate_bucket, "artifacts/")

    name = "glue_script.py" if ran.layout.with_script else "v2.py"
    assert key == f"artifacts/glue-scripts/{name}"


def test_note_of_the_run_says_what_it_did(ran: Ran) -> None:
    assert "Files: 1 = 1 archived + 0 quarantined\n\nRows: 50 = 50 valid" in ran.services.note()


@pytest.mark.skipif(
    IS_AIRFLOW_2, reason="these services of Airflow 2 have no API; make test-browser triggers there"
)
def test_run_that_the_api_triggers_finds_nothing_more_and_says_so(ran: Ran) -> None:
    run_id = ran.services.trigger()

    assert ran.services.wait_for_run(run_id) == "success"
    assert "Nothing to do: there is no new stream file." in ran.services.note(run_id)


def test_link_to_the_report_is_there(ran: Ran) -> None:
    [(value,)] = ran.services.rows("SELECT value FROM xcom WHERE key = 'run_report_link'")

    text = value.decode() if isinstance(value, bytes) else value
    assert "https://kpis.example.com/pipeline?run=" in text
