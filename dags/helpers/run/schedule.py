"""Schedule of the DAG: the times of PIPELINE_SCHEDULE and, on Airflow 3, the files that S3 announces."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import Asset

from helpers.contract.settings import (
    AWS_CONN_ID,
    files_are_announced,
    folder_address,
    pipeline_schedule,
    streams_queue_url,
)

try:
    from airflow.sdk import AssetWatcher  # type: ignore[import-not-found]
except ImportError:  # Airflow 2, which starts no runs by outside events
    AssetWatcher = None

# SQS waits so long for a message before it answers that there is none; it allows no more.
POLL_SECONDS = 20
# The most that SQS returns in one answer.
MESSAGES = 10


def runs_start_by_event() -> bool:
    """Return whether a file that S3 announces starts a run, so that no run needs to wait for one."""
    return bool(AssetWatcher) and files_are_announced()


def dag_schedule() -> Any:
    """Return the schedule of the DAG, in the form that Airflow's `dag` takes."""
    if not runs_start_by_event():
        return pipeline_schedule()
    from airflow.providers.amazon.aws.triggers.sqs import SqsSensorTrigger

    try:
        from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable
    except ImportError:  # Airflow 3.0 and 3.1
        from airflow.timetables.assets import AssetOrTimeSchedule  # type: ignore[import-not-found]
        from airflow.timetables.trigger import CronTriggerTimetable

    trigger = SqsSensorTrigger(
        sqs_queue=streams_queue_url(),
        aws_conn_id=AWS_CONN_ID,
        max_messages=MESSAGES,
        wait_time_seconds=POLL_SECONDS,
        waiter_delay=0,
    )
    streams = Asset(
        folder_address("SOURCE_BUCKET_NAME", "streams/"),
        watchers=[AssetWatcher(name="announced_stream_files", trigger=trigger)],
    )
    times = CronTriggerTimetable(pipeline_schedule(), timezone="UTC")
    return AssetOrTimeSchedule(timetable=times, assets=[streams])
