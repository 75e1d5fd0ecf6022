"""The lineage that OpenLineage's provider reports of a run, under the real services of Airflow 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from include.commands.environment import DAGS_DIR, PLUGINS_DIR
from tests.e2e import data
from tests.e2e.airflow_services import IS_AIRFLOW_2, AirflowServices
from tests.e2e.deployment import Deployment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(IS_AIRFLOW_2, reason="the provider is in the lock of Airflow 3; make test-airflow3"),
]


def test_tasks_report_the_folders_and_the_table_that_they_read_and_write(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.upload_all({**data.catalogs(), "streams/a.csv": data.stream_file(data.listens(1, 50))})
    file = tmp_path / "events.jsonl"
    transport = json.dumps({"type": "file", "log_file_path": str(file), "append": True})
    environment = deployment.environment | {"AIRFLOW__OPENLINEAGE__TRANSPORT": transport}
    services = AirflowServices(environment, tmp_path / "airflow", DAGS_DIR, PLUGINS_DIR)
    try:
        assert services.wait_for_run() == "success"
    finally:
        services.close()

    resources = deployment.resources
    source, archive = f"s3://{resources.source_bucket}", f"s3://{resources.archive_bucket}"
    table = f"dynamodb {resources.kpi_table}"
    completed = [event for event in read_events(file) if event["eventType"] == "COMPLETE"]
    assert {
        event["job"]["name"].rpartition(".")[2]: (addresses(event["inputs"]), addresses(event["outputs"]))
        for event in completed
        if event["inputs"] or event["outputs"]
    } == {
        "extract_and_combine_streams": ({f"{source} streams"}, set()),
        "move_files_to_intermediate_bucket": ({f"{source} songs", f"{source} users"}, set()),
        "trigger_glue_job": ({f"{archive} listens"}, set()),
        "store_kpis_in_dynamodb": (set(), {table, f"{archive} listens"}),
        "archive_streams_data": ({f"{source} streams"}, {f"{archive} streams", f"{archive} quarantine"}),
    }


def read_events(file: Path) -> list[dict[str, Any]]:
    """Return the events that were written, one a line."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def addresses(datasets: list[dict[str, Any]]) -> set[str]:
    """Return namespace and name of each dataset."""
    return {f"{dataset['namespace']} {dataset['name'].strip('/')}" for dataset in datasets}
