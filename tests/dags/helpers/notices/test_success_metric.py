import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pipeline_support import RUN_KEY, Pipeline, Wire, answer

from helpers.contract.keys import report_key
from helpers.delete_files_from_intermediate_bucket import delete_files_from_intermediate_bucket
from helpers.errors import ReconciliationError
from local_aws_support import connect


def report(age: timedelta = timedelta(), reprocess_dates: tuple[str, ...] = ()) -> dict[str, Any]:
    completed_at = (datetime.now(UTC) - age).isoformat()
    return {
        "status": "complete",
        "completed_at": completed_at,
        "reprocess_dates": list(reprocess_dates),
        "files": [],
    }


def counted(pipeline: Pipeline) -> list[dict[str, Any]]:
    """The metrics under this pipeline's table."""
    cloudwatch = connect("cloudwatch", pipeline.endpoint_url)
    dimension = {"Name": "KpiTable", "Value": pipeline.config.kpi_table}
    metrics: list[dict[str, Any]] = cloudwatch.list_metrics(Dimensions=[dimension])["Metrics"]
    return metrics


def test_run_that_ended_is_counted_under_its_table(pipeline: Pipeline) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), report())

    delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    assert counted(pipeline) == [
        {
            "Namespace": "MusicStreamingPipeline",
            "MetricName": "RunsSucceeded",
            "Dimensions": [{"Name": "KpiTable", "Value": pipeline.config.kpi_table}],
        }
    ]


def test_cleared_task_of_an_old_run_counts_at_the_time_when_the_run_was_complete(pipeline: Pipeline) -> None:
    cloudwatch: Any = connect("cloudwatch", pipeline.endpoint_url)
    three_days = timedelta(days=3)
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), report(age=three_days))

    delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    def count_between(start: datetime, end: datetime) -> float:
        points = cloudwatch.get_metric_statistics(
            Namespace="MusicStreamingPipeline",
            MetricName="RunsSucceeded",
            Dimensions=[{"Name": "KpiTable", "Value": pipeline.config.kpi_table}],
            StartTime=start,
            EndTime=end,
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in points)

    now, hour = datetime.now(UTC), timedelta(hours=1)
    assert count_between(now - 26 * hour, now + hour) == 0
    assert count_between(now - three_days - hour, now - three_days + hour) == 1


def test_run_that_computes_days_again_is_not_counted(pipeline: Pipeline) -> None:
    again = report(reprocess_dates=("2024-06-25",))
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), again)

    delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    assert counted(pipeline) == []


def test_run_without_a_valid_row_is_not_counted_when_its_last_task_is_cleared(pipeline: Pipeline) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), {"status": "no_valid_rows"})

    delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    assert counted(pipeline) == []


def test_run_that_is_not_complete_is_not_counted(pipeline: Pipeline) -> None:
    with pytest.raises(ReconciliationError):
        delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    assert counted(pipeline) == []


def test_count_that_is_refused_is_logged_and_fails_no_run(
    pipeline: Pipeline, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), report())
    wire.once("PutMetricData", answer(403))

    with caplog.at_level(logging.WARNING):
        deleted = delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    assert deleted == 0
    assert counted(pipeline) == []
    assert "not counted in CloudWatch's metric RunsSucceeded" in caplog.text
