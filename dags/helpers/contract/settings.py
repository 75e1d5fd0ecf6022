"""The pipeline's settings: environment variables, read only here and only while a task runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

AWS_CONN_ID = "aws_default"
# The schedule under which each run is followed by the next immediately.
CONTINUOUS = "@continuous"
# Schedules that do not repeat at set times.
TIMELESS = frozenset({CONTINUOUS, "@once"})
# Least SENSOR_TIMEOUT_MINUTES under `@continuous`.
MIN_CONTINUOUS_WAIT = 60


@dataclass(frozen=True)
class PipelineConfig:
    """Settings of a run; see `.env.example` for what each variable means."""

    source_bucket: str
    intermediate_bucket: str
    archive_bucket: str
    kpi_table: str
    glue_job_name: str
    glue_role_name: str
    glue_worker_type: str
    glue_number_of_workers: int
    sensor_timeout_minutes: float
    max_rejected_fraction: float
    archive_storage_class: str
    max_unmatched_fraction: float = 0.2
    max_quarantined_fraction: float = 0.5
    max_catalog_shrinkage: float = 0.2
    max_catalog_age_days: float = 30
    quiet_minutes: float = 0
    glue_script_location: str = ""
    dashboard_url: str = ""
    streams_queue_url: str = ""

    @classmethod
    def from_env(cls) -> PipelineConfig:
        """Read the settings from the environment.

        Raises:
            ConfigurationError: a required variable is missing, a value has the wrong form, or two
                buckets are the same. The message names all wrong variables.
        """
        read: dict[str, Callable[[], Any]] = {
            "source_bucket": lambda: _required("SOURCE_BUCKET_NAME"),
            "intermediate_bucket": lambda: _required("INTERMEDIATE_BUCKET_NAME"),
            "archive_bucket": lambda: _required("ARCHIVE_BUCKET_NAME"),
            "kpi_table": kpi_table_name,
            "glue_job_name": lambda: setting("GLUE_JOB_NAME", "music_streaming_kpis"),
            "glue_role_name": lambda: setting("GLUE_ROLE_NAME", "music-streaming-glue-role"),
            "glue_worker_type": lambda: setting("GLUE_WORKER_TYPE", "G.1X"),
            "glue_number_of_workers": lambda: int(
                _number("GLUE_NUMBER_OF_WORKERS", 10, at_least=2, whole=True)
            ),
            "sensor_timeout_minutes": lambda: _number("SENSOR_TIMEOUT_MINUTES", 18 * 60),
            "max_rejected_fraction": lambda: _number("MAX_REJECTED_FRACTION", 0.05, at_most=1),
            "archive_storage_class": lambda: setting("ARCHIVE_STORAGE_CLASS", "GLACIER_IR"),
            "max_unmatched_fraction": lambda: _number(
                "MAX_UNMATCHED_FRACTION", cls.max_unmatched_fraction, at_most=1
            ),
            "max_quarantined_fraction": lambda: _number(
                "MAX_QUARANTINED_FRACTION", cls.max_quarantined_fraction, at_most=1
            ),
            "max_catalog_shrinkage": lambda: _number(
                "MAX_CATALOG_SHRINKAGE", cls.max_catalog_shrinkage, at_most=1
            ),
            "max_catalog_age_days": lambda: _number("MAX_CATALOG_AGE_DAYS", cls.max_catalog_age_days),
            "quiet_minutes": lambda: _number("QUIET_MINUTES", cls.quiet_minutes, at_most=24 * 60),
            "glue_script_location": _glue_script_location,
            "dashboard_url": _dashboard_url,
            "streams_queue_url": _streams_queue_url,
        }
        values, wrong = {}, []
        for field, value_of in read.items():
            try:
                values[field] = value_of()
            except ValueError as error:
                wrong.append(str(error))
        wrong += _buckets_named_twice(values)
        wrong += _continuous_without_a_wait(values)
        if wrong:
            # Only here, because its base class needs Airflow.
            from helpers.errors import ConfigurationError

            raise ConfigurationError(" ".join(wrong))
        return cls(**values)


def _buckets_named_twice(values: Mapping[str, Any]) -> Iterator[str]:
    variables: dict[str, str] = {}
    for field in ("source_bucket", "intermediate_bucket", "archive_bucket"):
        variable, bucket = f"{field.upper()}_NAME", values.get(field)
        if bucket in variables:
            yield (
                f"{variables[bucket]} and {variable} both name the bucket {bucket!r}; "
                "source, intermediate and archive must be three different buckets."
            )
        elif bucket:
            variables[bucket] = variable


def _continuous_without_a_wait(values: Mapping[str, Any]) -> Iterator[str]:
    wait = values.get("sensor_timeout_minutes", MIN_CONTINUOUS_WAIT)
    if pipeline_schedule() == CONTINUOUS and wait < MIN_CONTINUOUS_WAIT:
        yield (
            f"SENSOR_TIMEOUT_MINUTES is {wait:g} and PIPELINE_SCHEDULE is {CONTINUOUS}: runs without files "
            "would follow each other without a pause. Set the first to at least "
            f"{MIN_CONTINUOUS_WAIT}, or leave it out."
        )


def _required(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise ValueError(
            f"The environment variable {name} is not set. Set it in .env (see .env.example) "
            "and restart Airflow, then run again."
        )
    return value


def setting(name: str, default: str) -> str:
    """Return the environment variable without surrounding white space, or the default if it is empty."""
    return os.environ.get(name, "").strip() or default


def kpi_table_name() -> str:
    """Return the name of the KPI table; the DAG's dataset uses it too."""
    return setting("KPI_TABLE_NAME", "music_kpis_table")


def pipeline_schedule() -> str:
    """Return the DAG's schedule: a preset or a cron expression. The DAG file reads it too."""
    return setting("PIPELINE_SCHEDULE", "@daily")


def streams_queue_url() -> str:
    """Return the address of the queue to which S3 announces stream files; empty for none.

    The DAG file reads it too.
    """
    return setting("STREAMS_QUEUE_URL", "")


def files_are_announced() -> bool:
    """Return whether S3 announces files and the schedule has times for those whose message is lost."""
    return bool(streams_queue_url()) and pipeline_schedule() not in TIMELESS


def folder_address(variable: str, prefix: str) -> str:
    """Return the address of a folder in the bucket that the variable names, for the lineage of tasks.

    Without the variable, its name stands for the bucket, because the DAG is imported without any.
    """
    return f"s3://{setting(variable, variable)}/{prefix}"


def _streams_queue_url() -> str:
    url = streams_queue_url()
    if url and not re.fullmatch(r"https?://[^\s/]+/[0-9]{12}/[A-Za-z0-9_-]{1,80}", url):
        raise ValueError(
            f"The environment variable STREAMS_QUEUE_URL is {url!r}; it must be the address of an SQS queue, "
            "such as https://sqs.us-east-1.amazonaws.com/123456789012/music-streaming-files, or empty."
        )
    return url


def _glue_script_location() -> str:
    location = setting("GLUE_SCRIPT_LOCATION", "")
    if location and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+/(\S*/)?[^\s/]+\.py", location):
        raise ValueError(
            f"The environment variable GLUE_SCRIPT_LOCATION is {location!r}; it must be the address of a "
            "script in S3, such as s3://my-bucket/artifacts/glue-scripts/glue_script.py, or empty."
        )
    return location


def _dashboard_url() -> str:
    url = setting("DASHBOARD_URL", "").rstrip("/")
    if url and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
        raise ValueError(
            f"The environment variable DASHBOARD_URL is {url!r}; it must be the address of the dashboard, "
            "such as https://kpis.example.com, or empty."
        )
    return url


def _number(
    name: str, default: float, at_least: float = 0, at_most: float = float("inf"), whole: bool = False
) -> float:
    text = setting(name, str(default))
    try:
        value = float(int(text)) if whole else float(text)
    except ValueError:
        value = float("nan")
    if not at_least <= value <= at_most:
        kind = "a whole number" if whole else "a number"
        limits = (
            f"of at least {at_least:g}" if at_most == float("inf") else f"from {at_least:g} to {at_most:g}"
        )
        raise ValueError(f"The environment variable {name} is {text!r}; it must be {kind} {limits}.")
    return value
