import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pipeline_support import RUN_KEY, Pipeline, Wire, answer

from helpers.contract.figures import FIGURES
from helpers.contract.keys import report_key
from helpers.delete_files_from_intermediate_bucket import delete_files_from_intermediate_bucket
from helpers.errors import ReconciliationError
from local_aws_support import connect


def report(age: timedelta = timedelta(), **changes: Any) -> dict[str, Any]:
    """Return a report of a run that ended `age` ago, as reports were before they had all figures."""
    completed_at = datetime.now(UTC) - age
    totals = {"files": 2, "rows": 10, "rejected": 1, "new": 7, "repeated": 2}
    return {
        "status": "complete",
        "frozen_at": (completed_at - timedelta(minutes=3)).isoformat(),
        "completed_at": completed_at.isoformat(),
        "reprocess_dates": [],
        "totals": totals,
        "files": [],
    } | changes


def counted(pipeline: Pipeline) -> list[str]:
    """The names of the metrics under this pipeline's table."""
    cloudwatch = connect("cloudwatch", pipeline.endpoint_url)
    dimension = {"Name": "KpiTable", "Value": pipeline.config.kpi_table}
    metrics = cloudwatch.list_metrics(Namespace="MusicStreamingPipeline", Dimensions=[dimension])["Metrics"]
    return sorted(metric["MetricName"] for metric in metrics)


def datapoint(pipeline: Pipeline, metric: str) -> tuple[float, str]:
    """The only value of the metric within the last hours, and its unit."""
    now, hours = datetime.now(UTC), timedelta(hours=2)
    [point] = connect("cloudwatch", pipeline.endpoint_url).get_metric_statistics(
        Namespace="MusicStreamingPipeline",
        MetricName=metric,
        Dimensions=[{"Name": "KpiTable", "Value": pipeline.config.kpi_table}],
        StartTime=now - hours,
        EndTime=now + hours,
        Period=6 * 3600,
        Statistics=["Sum"],
    )["Datapoints"]
    return point["Sum"], point["Unit"]


def test_run_that_ended_is_counted_with_its_figures_in_one_call(pipeline: Pipeline, wire: Wire) -> None:
    newest_listen = (datetime.now(UTC) - timedelta(hours=5)).isoformat()
    full = report(
        newest_listen=newest_listen, glue={"job_runs": 1, "dpu_seconds": 90.0, "estimated_usd": 0.011}
    )
    full["totals"]["late"] = 3
    full["files"] = [
        {
            "key": "streams/a.csv",
            "etag": "e",
            "last_modified": "2024-06-25T00:00:00+00:00",
            "disposition": "quarantine",
            "size": 512,
        }
    ]
    full["checks"] = [{"name": "unmatched_users_fraction", "value": 0.25, "verdict": "accepted"}]
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), full)

    delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    assert wire.count("PutMetricData") == 1
    assert counted(pipeline) == sorted(["RunsSucceeded", *(figure.metric for figure in FIGURES)])
    exact = {
        "RunsSucceeded": (1, "Count"),
        "NewListens": (7, "Count"),
        "LateListens": (3, "Count"),
        "QuarantinedBytes": (512, "Bytes"),
        "UnmatchedShare": (0.25, "None"),
        "Duration": (180, "Seconds"),
        "GlueDpuSeconds": (90, "None"),
        "GlueCostUsd": (0.011, "None"),
    }
    assert {metric: datapoint(pipeline, metric) for metric in exact} == exact
    assert datapoint(pipeline, "FreshnessHours")[0] == pytest.approx(5, abs=0.1)


def test_figures_that_a_report_lacks_are_not_sent(pipeline: Pipeline) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), report())

    delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    absent = {"LateListens", "FreshnessHours", "UnmatchedShare", "GlueDpuSeconds", "GlueCostUsd"}
    assert counted(pipeline) == sorted({"RunsSucceeded", *(figure.metric for figure in FIGURES)} - absent)


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
    again = report(reprocess_dates=["2024-06-25"])
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
