from __future__ import annotations

from pipeline_support import Pipeline

from helpers.aws.history import list_days


def test_days_of_the_history_are_listed_in_order(pipeline: Pipeline) -> None:
    bucket = pipeline.config.archive_bucket
    assert list_days(pipeline.s3, bucket) == []

    for key in ("2024-06-26/a__1.parquet", "2024-06-25/a__1.parquet", "2024-06-25/b__1.parquet"):
        pipeline.put(bucket, f"listens/listen_date={key}", b"")
    pipeline.put(bucket, "runs/x/report.json", b"")

    assert list_days(pipeline.s3, bucket) == ["2024-06-25", "2024-06-26"]
