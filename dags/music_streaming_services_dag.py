"""Music streaming pipeline.

Picks up listening events that a music service uploads as CSV files to S3, checks them, computes daily KPIs
per genre with AWS Glue (PySpark), stores them in DynamoDB, archives the files and cleans up.

**Flow**

    choose_input → sense_streaming_data → list_stream_files
      → extract_and_combine_streams[n] → validate_csv_files[n]
      → move_files_to_intermediate_bucket → trigger_glue_job → store_kpis_in_dynamodb
      → archive_streams_data → delete_files_from_intermediate_bucket

With the parameter `reprocess_dates`, such as `2024-06-25` or `2024-06-01..2024-06-30`, `choose_input →
prepare_reprocessing → trigger_glue_job → …` reprocesses those days from the history with the current
catalogs, e.g. after a catalog was corrected.

**Reads** `streams/`, `songs/`, `users/` of SOURCE_BUCKET_NAME. **Writes** the table KPI_TABLE_NAME, and the
history, the archive, the quarantine and the run report in ARCHIVE_BUCKET_NAME. All settings are environment
variables; `.env.example` explains them.

**Safe to rerun.** The run's files are listed once and pinned to their versions. Repeated listens count once.
A day's KPIs always cover all its accepted listens. Files are archived only after the KPIs are stored. Any
task may be retried or cleared at any time. A run whose report exists is complete and changes nothing more.

**In this UI.** A run's note summarizes the run. Note and `archive_streams_data` link to the run in the
dashboard (DASHBOARD_URL) or to its report in AWS's console, `trigger_glue_job` to the Glue run there.

**When a task fails**, the end of its log names the cause and the next step. Nothing is archived before the
KPIs are stored, so the source files are still there. Fix the cause, then clear the task *and its downstream
tasks*:

- `sense_streaming_data`: a setting, bucket, table or the Glue script is missing; the message names it.
- `list_stream_files`, `extract_and_combine_streams`, `validate_csv_files`: S3 cannot be reached, or the
  worker ran out of memory or disk.
- `move_files_to_intermediate_bucket`: `songs` or `users` are wrong: upload them and trigger a new run. Or no
  file had a valid row: then the files are in quarantine, see the run's note, and there is nothing to clear.
- `prepare_reprocessing`: a day has no listens: trigger a new run with other days. Or a catalog is wrong.
- `trigger_glue_job`: the Glue job failed; the log ends with the job's output.
- `store_kpis_in_dynamodb`: another run interfered, or counts differ: clear `trigger_glue_job` and its
  downstream tasks. Or names in a catalog are too long for an item: upload a corrected one and trigger a new
  run.
- `archive_streams_data`, `delete_files_from_intermediate_bucket`: S3 cannot be reached. The KPIs are stored.

Rejected files and rows are under `quarantine/<run_key>/` of the archive bucket, with the reasons.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Airflow 3's names, which this package also offers under Airflow 2.
from airflow.providers.common.compat.lineage.entities import File
from airflow.providers.common.compat.sdk import Asset, Label, Param, TaskGroup, TriggerRule, dag, task

# Airflow 3 puts a bundle's root on the path, which may be a parent of this folder.
sys.path.insert(0, str(Path(__file__).parent))

from helpers.archive_streams_data import ArchiveStreamsDataOperator
from helpers.contract.days import DAYS_PATTERN
from helpers.contract.keys import SNAPSHOTS_PREFIX, input_prefix, output_prefix, run_key_of
from helpers.contract.settings import (
    AWS_CONN_ID,
    CONTINUOUS,
    PipelineConfig,
    folder_address,
    kpi_table_name,
    pipeline_schedule,
)
from helpers.notices.note_run import note_run
from helpers.notices.notify_failure import notify_failure
from helpers.run.schedule import dag_schedule
from helpers.sense_streaming_data import StreamingDataSensor
from helpers.trigger_glue_job import JOB_TIMEOUT_MINUTES, GlueKpiJobOperator

if TYPE_CHECKING:
    from helpers.contract.records import CombinedPart, MovedInput, Part, StoredKpis, ValidatedPart

INTERMEDIATE = "s3://{{ settings().intermediate_bucket }}/"
TABLE_ADDRESS = f"dynamodb://{kpi_table_name()}"
KPI_TABLE = Asset(TABLE_ADDRESS)

# Lineage. OpenLineage takes the address of any file from inlets and outlets, but no asset of DynamoDB.
STREAMS, SONGS, USERS = (
    File(folder_address("SOURCE_BUCKET_NAME", prefix)) for prefix in ("streams/", "songs/", "users/")
)
HISTORY, ARCHIVED, QUARANTINED = (
    File(folder_address("ARCHIVE_BUCKET_NAME", prefix)) for prefix in ("listens/", "streams/", "quarantine/")
)
KPIS = File(TABLE_ADDRESS)

DEFAULT_ARGS = {
    "owner": "data-engineering",
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(hours=2),
    "on_failure_callback": notify_failure,
    "on_skipped_callback": note_run,
}


@task.branch
def choose_input(*, params: dict[str, Any] | None = None) -> str:
    """Choose the branch: new files or, with the parameter `reprocess_dates`, days of the history."""
    reprocess_dates = (params or {}).get("reprocess_dates")
    return "prepare_reprocessing" if reprocess_dates else "sense_streaming_data"


@task(multiple_outputs=False, inlets=[SONGS, USERS])
def prepare_reprocessing(*, run_id: str | None = None, params: dict[str, Any] | None = None) -> MovedInput:
    """Freeze and move the catalogs for reprocessing days of the history."""
    from helpers import prepare_reprocessing as helper

    given = params or {}
    return helper.prepare_reprocessing(
        str(run_id), given["reprocess_dates"], PipelineConfig.from_env(), bool(given.get("accept_checks"))
    )


@task(multiple_outputs=False)
def list_stream_files(*, run_id: str | None = None) -> list[Part]:
    """Fix the list of file versions that the run works on."""
    from helpers import list_stream_files as helper

    return helper.list_stream_files(str(run_id), PipelineConfig.from_env())


@task(multiple_outputs=False, inlets=[STREAMS])
def extract_and_combine_streams(part: Part) -> CombinedPart:
    """Combine the records of one part's files."""
    from helpers import extract_and_combine_streams as helper

    return helper.extract_and_combine_streams(part, PipelineConfig.from_env())


@task(multiple_outputs=False)
def validate_csv_files(combined: CombinedPart) -> ValidatedPart:
    """Separate valid rows from rejected ones."""
    from helpers import validate_csv_files as helper

    return helper.validate_csv_files(combined, PipelineConfig.from_env())


@task(multiple_outputs=False, inlets=[SONGS, USERS])
def move_files_to_intermediate_bucket(
    validated: list[ValidatedPart], *, run_id: str | None = None, params: dict[str, Any] | None = None
) -> MovedInput:
    """Check the whole run's input and move it to the Glue job's input prefix."""
    from helpers import move_files_to_intermediate_bucket as helper

    accept_checks = bool((params or {}).get("accept_checks"))
    return helper.move_files_to_intermediate_bucket(
        str(run_id), list(validated), PipelineConfig.from_env(), accept_checks
    )


@task(multiple_outputs=False, outlets=[KPI_TABLE, KPIS, HISTORY])
def store_kpis_in_dynamodb(*, run_id: str | None = None) -> StoredKpis:
    """Check the Glue job's output, add listens to the history, write the KPI items."""
    from helpers import store_kpis_in_dynamodb as helper

    return helper.store_kpis_in_dynamodb(str(run_id), PipelineConfig.from_env())


@task
def delete_files_from_intermediate_bucket(stored: StoredKpis) -> int:
    """Delete the run's temporary objects."""
    from helpers import delete_files_from_intermediate_bucket as helper

    return helper.delete_files_from_intermediate_bucket(stored["run_key"], PipelineConfig.from_env())


@dag(
    dag_id="music_streaming_pipeline",
    description="S3 listening events → daily KPIs per genre in DynamoDB",
    doc_md=__doc__,
    schedule=dag_schedule(),
    start_date=datetime(2024, 6, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    # Under this schedule, a run follows a failed one immediately. Airflow pauses the DAG after five failures.
    max_consecutive_failed_dag_runs=5 if pipeline_schedule() == CONTINUOUS else 0,
    default_args=DEFAULT_ARGS,
    # Templates call these, so settings are read while a task runs and not while this file is parsed.
    user_defined_macros={
        "run_key_of": run_key_of,
        "input_prefix": input_prefix,
        "output_prefix": output_prefix,
        "settings": PipelineConfig.from_env,
    },
    params={
        "reprocess_dates": Param(
            None,
            type=["null", "string"],
            pattern=DAYS_PATTERN,
            title="Days to reprocess",
            description_md="Leave it empty to process **new files**. Or name listen days (UTC) that have "
            "listens, such as `2024-06-25,2024-06-26`, or ranges, such as `2024-06-01..2024-06-30`: they "
            "are **reprocessed** from the history with the current catalogs of the source bucket, for "
            "example after a catalog was corrected. One run takes all of them. For more than a month, "
            "trigger a run for each month: they wait for each other, and a failure concerns one month.",
        ),
        "accept_checks": Param(
            False,
            type="boolean",
            title="Accept the data as it is",
            description_md="Failed checks, such as too many listens of unknown tracks, do not stop the "
            "run. The run report records that they were accepted.",
        ),
    },
    tags=["music", "streaming", "kpi", "s3", "glue", "dynamodb"],
)
def music_streaming_pipeline() -> None:
    """Wire the tasks."""
    chosen = choose_input()
    # Without a prefix, task ids are independent of their group, in logs, alerts and commands.
    with TaskGroup("ingest", prefix_group_id=False, tooltip="Check the delivered files, hand them to Glue"):
        sensed = StreamingDataSensor(
            task_id="sense_streaming_data",
            aws_conn_id=AWS_CONN_ID,
            mode="reschedule",
            poke_interval=60,
            soft_fail=True,
            doc_md="Waits for a CSV file in `streams/`; `list_stream_files` lists the files of the run",
        )
        parts = list_stream_files()
        combined = extract_and_combine_streams.expand(part=parts)
        validated = validate_csv_files.expand(combined=combined)
        moved = move_files_to_intermediate_bucket(validated)
    with TaskGroup("reprocess", prefix_group_id=False, tooltip="Reprocess days of the history"):
        reprocessing = prepare_reprocessing()
    with TaskGroup("compute", prefix_group_id=False, tooltip="Run the Glue job, write to DynamoDB"):
        computed = GlueKpiJobOperator(
            task_id="trigger_glue_job",
            inlets=[HISTORY],
            aws_conn_id=AWS_CONN_ID,
            batch_id="{{ run_key_of(run_id) }}",
            job_name="{{ settings().glue_job_name }}",
            iam_role_name="{{ settings().glue_role_name }}",
            s3_bucket="{{ settings().intermediate_bucket }}",
            create_job_kwargs={
                "GlueVersion": "5.1",
                "WorkerType": "{{ settings().glue_worker_type }}",
                "Timeout": JOB_TIMEOUT_MINUTES,
            },
            script_args={
                "--BATCH_ID": "{{ run_key_of(run_id) }}",
                "--S3_SOURCE_PATH": INTERMEDIATE + "{{ input_prefix(run_key_of(run_id)) }}",
                "--S3_HISTORY_PATH": "s3://{{ settings().archive_bucket }}/listens/",
                "--S3_SNAPSHOTS_PATH": INTERMEDIATE + SNAPSHOTS_PREFIX,
                "--S3_OUTPUT_PATH": INTERMEDIATE + "{{ output_prefix(run_key_of(run_id)) }}",
                # With auto scaling, GLUE_NUMBER_OF_WORKERS is the maximum.
                "--enable-auto-scaling": "true",
            },
            # Airflow counts the time while the task is deferred, so Glue's own limit must come first.
            execution_timeout=timedelta(minutes=JOB_TIMEOUT_MINUTES + 30),
            # One branch is always skipped. If there is no file to process, both are, and so are the
            # downstream tasks.
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
            doc_md="Runs `glue_script/glue_script.py`; adopts an existing run of the same batch.",
        )
        stored = store_kpis_in_dynamodb()
    with TaskGroup("archive", prefix_group_id=False, tooltip="Move the source files, write the report"):
        archived = ArchiveStreamsDataOperator(
            task_id="archive_streams_data",
            inlets=[STREAMS],
            outlets=[ARCHIVED, QUARANTINED],
            stored=stored,
            doc_md="Archives or quarantines the source files, then writes the run report and links to it.",
        )
        deleted = delete_files_from_intermediate_bucket(stored)

    chosen >> Label("new files") >> sensed >> parts
    chosen >> Label("dates") >> reprocessing
    [moved, reprocessing] >> computed >> stored >> archived >> deleted


music_streaming_pipeline()
