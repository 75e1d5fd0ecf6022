"""The real DAG under the stack's roles; its Glue job reaches S3 by Hadoop's S3A."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import data
from tests.e2e.airflow_process import AirflowProcess
from tests.e2e.observed import observe, read_objects
from tests.e2e.oracle import assert_consistent
from tests.include.conftest import enforced_policies
from tests.s3a.conftest import MAGIC_COMMITTER, S3aAws
from tests.s3a.documented import undocumented

pytestmark = pytest.mark.slow


def test_dag_copes_with_what_a_killed_job_left_and_with_s3as_markers(s3a_aws: S3aAws, tmp_path: Path) -> None:
    deployment = s3a_aws.deployment
    resources = deployment.resources
    deployment.upload_all(data.catalogs())
    deployment.upload("streams/first.csv", data.stream_file(data.listens(1, 300, data.DAYS)))
    airflow = AirflowProcess(s3a_aws.airflow, tmp_path / "airflow.log")
    try:
        s3a_aws.control(MAGIC_COMMITTER, stop_at=("CompleteMultipartUpload", 2))
        with enforced_policies(deployment.endpoint_url):
            killed = airflow.run_dag(s3a_aws.airflow)
        assert killed.task_states["trigger_glue_job"] == "failed"
        assert "STOPPED" in killed.errors["trigger_glue_job"]
        assert s3a_aws.uploads() != []
        assert any("__magic" in key for key in s3a_aws.keys("runs/"))

        s3a_aws.control(MAGIC_COMMITTER)
        with enforced_policies(deployment.endpoint_url):
            cleared = airflow.run_dag(s3a_aws.airflow, logical_date=killed.logical_date)
        assert (cleared.state, cleared.errors) == ("success", {})
        assert_consistent(resources, deployment.delivered)

        deployment.upload("streams/late.csv", data.stream_file(data.listens(2, 100, data.DAYS)))
        with enforced_policies(deployment.endpoint_url):
            late = airflow.run_dag(s3a_aws.airflow)
    finally:
        airflow.close()

    assert (late.state, late.errors) == ("success", {})
    assert_consistent(resources, deployment.delivered)
    assert len(observe(resources).reports) == 2
    assert s3a_aws.keys("runs/") == []
    assert s3a_aws.uploads() == []
    history = read_objects(resources, resources.archive_bucket, "listens/")
    assert {key.rpartition(".")[2] for key in history} == {"parquet"}, (
        "no markers, which are of the output alone"
    )
    requests = s3a_aws.requests()
    assert [request for request in requests if request["status"] == 403] == []
    assert undocumented(requests) == set()
