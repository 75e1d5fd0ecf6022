import logging
from typing import Any

import pytest
from pipeline_support import RUN_KEY, Pipeline, Wire, answer

from helpers.delete_intermediate_bucket_files import delete_intermediate_bucket_files
from helpers.errors import ReconciliationError
from helpers.run_key import report_key
from local_aws_support import connect


def counted(pipeline: Pipeline) -> list[dict[str, Any]]:
    """The metrics under this pipeline's table."""
    cloudwatch = connect("cloudwatch", pipeline.endpoint_url)
    dimension = {"Name": "KpiTable", "Value": pipeline.config.kpi_table}
    metrics: list[dict[str, Any]] = cloudwatch.list_metrics(Dimensions=[dimension])["Metrics"]
    return metrics


def test_run_that_ended_is_counted_under_its_table(pipeline: Pipeline) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), {})

    delete_intermediate_bucket_files(RUN_KEY, pipeline.config)

    assert counted(pipeline) == [
        {
            "Namespace": "MusicStreamingPipeline",
            "MetricName": "RunsSucceeded",
            "Dimensions": [{"Name": "KpiTable", "Value": pipeline.config.kpi_table}],
        }
    ]


def test_run_that_is_not_complete_is_not_counted(pipeline: Pipeline) -> None:
    with pytest.raises(ReconciliationError):
        delete_intermediate_bucket_files(RUN_KEY, pipeline.config)

    assert counted(pipeline) == []


def test_count_that_is_refused_is_logged_and_fails_no_run(
    pipeline: Pipeline, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), {})
    wire.once("PutMetricData", answer(403))

    with caplog.at_level(logging.WARNING):
        deleted = delete_intermediate_bucket_files(RUN_KEY, pipeline.config)

    assert deleted == 0
    assert counted(pipeline) == []
    assert "not counted in CloudWatch's metric RunsSucceeded" in caplog.text
