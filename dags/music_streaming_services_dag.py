"""Music streaming pipeline.

Picks up listening events that a music service drops as CSV files into S3, checks them, computes daily KPIs
per genre with AWS Glue (PySpark), stores them in DynamoDB, archives the files and cleans up.

**Flow**

    choose_input → sense_streaming_data → list_stream_files
      → extract_and_combine_streams[n] → validate_csv_files[n]
      → move_files_to_intermediate_bucket → trigger_glue_job → store_kpis_in_dynamodb
      → archive_streams_data → delete_files_from_intermediate_bucket

With the parameter `reprocess_dates`, `choose_input → prepare_reprocessing → trigger_glue_job → …` computes
those days again from the history with today's catalogs, e.g. after a catalog was corrected.

**Reads** `streams/`, `songs/`, `users/` of SOURCE_BUCKET_NAME. **Writes** the table KPI_TABLE_NAME, the
history, the archive, the quarantine and the run report in ARCHIVE_BUCKET_NAME. All settings are environment
variables; `.env.example` explains them.

**Safe to rerun.** The run's files are listed once and pinned to their versions; repeated listens count once;
a day is always computed from all its accepted listens; files are archived only after the KPIs are stored. Any
task may be retried or cleared at any time. A run whose report exists is complete and changes nothing more.

**In this UI.** The note of a run says what it did, with links to its report and to its quarantine;
`archive_streams_data` links to the report, `trigger_glue_job` to the Glue run in AWS's console.

**When a task is red**, the end of its log says why and what to do. Nothing is archived before the KPIs are
stored, so the source files are still there. Mend the cause, then clear the task *and what follows it*:

- `sense_streaming_data`: a setting, bucket or table is missing; the message names it.
- `list_stream_files`, `extract_and_combine_streams`, `validate_csv_files`: S3 cannot be reached, or the
  worker ran out of memory or disk.
- `move_files_to_intermediate_bucket`: `songs` or `users` are missing or wrong: upload them first. Or no file
  had a valid row: then the files are in quarantine, see the run's note, and there is nothing to clear.
- `prepare_reprocessing`: a day without listens: trigger a new run with other days. Or a wrong catalog.
- `trigger_glue_job`: the Glue job failed; the log ends with the job's output.
- `store_kpis_in_dynamodb`: another run came between, or counts differ: clear from `trigger_glue_job` on.
- `archive_streams_data`, `delete_files_from_intermediate_bucket`: S3 cannot be reached. The KPIs are stored.

Rejected files and rows are under `quarantine/<run_key>/` of the archive bucket, with the reasons.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

# The names of Airflow 3, under Airflow 2 too.
from airflow.providers.common.compat.sdk import Asset, Label, Param, TaskGroup, TriggerRule, dag, task

from helpers.config import AWS_CONN_ID, PipelineConfig, kpi_table_name, pipeline_schedule
from helpers.note_run import note_run
from helpers.notify_failure import notify_failure
from helpers.run_key import run_key_of
from helpers.run_links import ArchiveStreamsDataOperator
from helpers.sense_streaming_data import StreamingDataSensor
from helpers.trigger_glue_job import JOB_TIMEOUT_MINUTES, GlueKpiJobOperator

if TYPE_CHECKING:
    from helpers.extract_and_combine_streams import CombinedPart
    from helpers.manifest import MovedInput, Part
    from helpers.store_kpis_in_dynamodb import StoredKpis
    from helpers.validate_csv_files import ValidatedPart

KPI_TABLE = Asset(f"dynamodb://{kpi_table_name()}")

DEFAULT_ARGS = {
    "owner": "data-engineering",
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(hours=2),
    "on_failure_callback": notify_failure,
}


@task.branch
def choose_input(*, params: dict[str, Any] | None = None) -> str:
    """Take new files or, with the parameter `reprocess_dates`, days of the history."""
    reprocess_dates = (params or {}).get("reprocess_dates")
    return "prepare_reprocessing" if reprocess_dates else "sense_streaming_data"


@task(multiple_outputs=False)
def prepare_reprocessing(*, run_id: str | None = None, params: dict[str, Any] | None = None) -> MovedInput:
    """Freeze and move the catalogs for computing days of the history again."""
    from helpers import prepare_reprocessing as helper

    return helper.prepare_reprocessing(
        str(run_id), (params or {})["reprocess_dates"], PipelineConfig.from_env()
    )


@task(multiple_outputs=False)
def list_stream_files(*, run_id: str | None = None) -> list[Part]:
    """Freeze which file versions the run works on."""
    from helpers import list_stream_files as helper

    return helper.list_stream_files(str(run_id), PipelineConfig.from_env())


@task(multiple_outputs=False)
def extract_and_combine_streams(part: Part) -> CombinedPart:
    """Combine the records of one part's files."""
    from helpers import extract_and_combine_streams as helper

    return helper.extract_and_combine_streams(part, PipelineConfig.from_env())


@task(multiple_outputs=False)
def validate_csv_files(combined: CombinedPart) -> ValidatedPart:
    """Separate valid rows from rejected ones."""
    from helpers import validate_csv_files as helper

    return helper.validate_csv_files(combined, PipelineConfig.from_env())


@task(multiple_outputs=False)
def move_files_to_intermediate_bucket(
    validated: list[ValidatedPart], *, run_id: str | None = None
) -> MovedInput:
    """Check the whole run's input and put it where Glue reads."""
    from helpers import move_files_to_intermediate_bucket as helper

    return helper.move_files_to_intermediate_bucket(str(run_id), list(validated), PipelineConfig.from_env())


@task(multiple_outputs=False, outlets=[KPI_TABLE])
def store_kpis_in_dynamodb(*, run_id: str | None = None) -> StoredKpis:
    """Check Glue's output, add to the history, write the KPI items."""
    from helpers import store_kpis_in_dynamodb as helper

    return helper.store_kpis_in_dynamodb(str(run_id), PipelineConfig.from_env())


@task
def delete_files_from_intermediate_bucket(stored: StoredKpis) -> int:
    """Delete the run's temporary objects."""
    from helpers import delete_intermediate_bucket_files as helper

    return helper.delete_intermediate_bucket_files(stored["run_key"], PipelineConfig.from_env())


@dag(
    dag_id="music_streaming_pipeline",
    description="S3 listening events → daily KPIs per genre in DynamoDB",
    doc_md=__doc__,
    schedule=pipeline_schedule(),
    start_date=datetime(2024, 6, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    on_success_callback=note_run,
    on_failure_callback=note_run,
    user_defined_macros={"run_key_of": run_key_of},
    params={
        "reprocess_dates": Param(
            None,
            type=["null", "string"],
            title="Days to compute again",
            description_md="Leave it empty to process **new files**. Or name listen days (UTC) that have "
            "listens, such as `2024-06-25,2024-06-26`: they are **computed again** from the history with the "
            "catalogs that are in the source bucket now, for example after a catalog was corrected.",
        )
    },
    tags=["music", "streaming", "kpi", "s3", "glue", "dynamodb"],
)
def music_streaming_pipeline() -> None:
    """Wire the tasks."""
    chosen = choose_input()
    # Without prefix: the ids of tasks stay what they are, in logs, alerts and commands.
    with TaskGroup("new_files", prefix_group_id=False, tooltip="Take what came, check it, hand it to Glue"):
        sensed = StreamingDataSensor(
            task_id="sense_streaming_data",
            aws_conn_id=AWS_CONN_ID,
            mode="reschedule",
            poke_interval=60,
            soft_fail=True,
            doc_md="Waits for `streams/*.csv*`; only a doorbell: `list_stream_files` decides what is taken.",
        )
        parts = list_stream_files()
        combined = extract_and_combine_streams.expand(part=parts)
        validated = validate_csv_files.expand(combined=combined)
        moved = move_files_to_intermediate_bucket(validated)
    with TaskGroup("days_again", prefix_group_id=False, tooltip="Compute days of the history again"):
        reprocessing = prepare_reprocessing()
    with TaskGroup(
        "kpis", prefix_group_id=False, tooltip="Compute the KPIs with Glue, store them in DynamoDB"
    ):
        computed = GlueKpiJobOperator(
            task_id="trigger_glue_job",
            aws_conn_id=AWS_CONN_ID,
            batch_id="{{ run_key_of(run_id) }}",
            # Counts while the task is deferred, too: Glue's own limit must come first.
            execution_timeout=timedelta(minutes=JOB_TIMEOUT_MINUTES + 30),
            # One of the two ways is always skipped; with no file to process both are, and what follows.
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
            doc_md="Runs `glue_script/glue_script.py`; adopts a run of the same batch rather than start one.",
        )
        stored = store_kpis_in_dynamodb()
    with TaskGroup(
        "finish", prefix_group_id=False, tooltip="Archive or quarantine the files, report, clean up"
    ):
        archived = ArchiveStreamsDataOperator(
            task_id="archive_streams_data",
            stored=stored,
            doc_md="Archives or quarantines the source files, then writes the run report, to which it links.",
        )
        deleted = delete_files_from_intermediate_bucket(stored)

    chosen >> Label("new files") >> sensed >> parts
    chosen >> Label("reprocess_dates") >> reprocessing
    [moved, reprocessing] >> computed >> stored >> archived >> deleted


music_streaming_pipeline()
