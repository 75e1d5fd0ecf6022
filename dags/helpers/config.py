"""The pipeline's settings: environment variables, read in this one place and only when a task runs."""

from __future__ import annotations

import os
from dataclasses import dataclass

from helpers.errors import ConfigurationError

AWS_CONN_ID = "aws_default"

STREAMS_PREFIX = "streams/"
SONGS_PREFIX = "songs/"
USERS_PREFIX = "users/"

STREAM_COLUMNS = ("user_id", "track_id", "listen_time")
SONG_COLUMNS = ("track_id", "track_name", "artists", "track_genre", "duration_ms", "popularity")
USER_COLUMNS = ("user_id", "user_name", "user_country")

ALL_GENRES = "ALL_GENRES"


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

    @classmethod
    def from_env(cls) -> PipelineConfig:
        """Read the settings from the environment.

        Raises:
            ConfigurationError: a required variable is missing, a value has the wrong form, or two
                buckets are the same. The message names the variable.
        """
        config = cls(
            source_bucket=_required("SOURCE_BUCKET_NAME"),
            intermediate_bucket=_required("INTERMEDIATE_BUCKET_NAME"),
            archive_bucket=_required("ARCHIVE_BUCKET_NAME"),
            kpi_table=kpi_table_name(),
            glue_job_name=setting("GLUE_JOB_NAME", "music_streaming_kpis"),
            glue_role_name=setting("GLUE_ROLE_NAME", "music-streaming-glue-role"),
            glue_worker_type=setting("GLUE_WORKER_TYPE", "G.1X"),
            glue_number_of_workers=int(_number("GLUE_NUMBER_OF_WORKERS", 10, at_least=2, whole=True)),
            sensor_timeout_minutes=_number("SENSOR_TIMEOUT_MINUTES", 60),
            max_rejected_fraction=_number("MAX_REJECTED_FRACTION", 0.05, at_most=1),
            archive_storage_class=setting("ARCHIVE_STORAGE_CLASS", "GLACIER_IR"),
        )
        config._require_different_buckets()
        return config

    def _require_different_buckets(self) -> None:
        variables: dict[str, str] = {}
        for variable, bucket in (
            ("SOURCE_BUCKET_NAME", self.source_bucket),
            ("INTERMEDIATE_BUCKET_NAME", self.intermediate_bucket),
            ("ARCHIVE_BUCKET_NAME", self.archive_bucket),
        ):
            if bucket in variables:
                raise ConfigurationError(
                    f"{variables[bucket]} and {variable} both name the bucket {bucket!r}; "
                    "source, intermediate and archive must be three different buckets."
                )
            variables[bucket] = variable


def _required(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigurationError(
            f"The environment variable {name} is not set. Set it in .env (see .env.example) "
            "and restart Airflow, then run again."
        )
    return value


def setting(name: str, default: str) -> str:
    """Return the environment variable without white space around it, or the default where it is empty."""
    return os.environ.get(name, "").strip() or default


def kpi_table_name() -> str:
    """Return the name of the KPI table, which is also that of the DAG's dataset."""
    return setting("KPI_TABLE_NAME", "music_kpis_table")


def pipeline_schedule() -> str:
    """Return the DAG's schedule: a preset or a cron expression."""
    return setting("PIPELINE_SCHEDULE", "@daily")


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
        raise ConfigurationError(f"The environment variable {name} is {text!r}; it must be {kind} {limits}.")
    return value
