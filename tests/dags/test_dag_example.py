import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException, ParamValidationError
from airflow.models import DAG
from airflow.models.dagbag import DagBag
from airflow.operators.branch import BranchMixIn
from airflow.providers.common.compat.lineage.entities import File
from airflow.providers.common.compat.sdk import Asset, MappedOperator, TriggerRule

import run_note_plugin
from helpers.contract.keys import run_key_of
from helpers.notices.note_run import note_run
from helpers.notices.notify_failure import notify_failure
from helpers.trigger_glue_job import JOB_TIMEOUT_MINUTES

try:
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:  # Airflow 2
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

REPOSITORY = Path(__file__).parents[2]
DAGS = REPOSITORY / "dags"
DAG_ID = "music_streaming_pipeline"
RUN_ID = "manual__2024-06-26T00:00:00+00:00"
BUCKETS = {
    "SOURCE_BUCKET_NAME": "source",
    "INTERMEDIATE_BUCKET_NAME": "intermediate",
    "ARCHIVE_BUCKET_NAME": "archive",
}
SETTINGS = (
    *BUCKETS,
    "KPI_TABLE_NAME",
    "GLUE_JOB_NAME",
    "GLUE_ROLE_NAME",
    "GLUE_WORKER_TYPE",
    "GLUE_NUMBER_OF_WORKERS",
    "PIPELINE_SCHEDULE",
    "SENSOR_TIMEOUT_MINUTES",
    "STREAMS_QUEUE_URL",
    "QUIET_MINUTES",
    "MAX_REJECTED_FRACTION",
    "ARCHIVE_STORAGE_CLASS",
    "ALERT_SNS_TOPIC_ARN",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)
DOWNSTREAM = {
    "choose_input": {"sense_streaming_data", "prepare_reprocessing"},
    "sense_streaming_data": {"list_stream_files"},
    "prepare_reprocessing": {"trigger_glue_job"},
    "list_stream_files": {"extract_and_combine_streams"},
    "extract_and_combine_streams": {"validate_csv_files"},
    "validate_csv_files": {"move_files_to_intermediate_bucket"},
    "move_files_to_intermediate_bucket": {"trigger_glue_job"},
    "trigger_glue_job": {"store_kpis_in_dynamodb"},
    "store_kpis_in_dynamodb": {"archive_streams_data", "delete_files_from_intermediate_bucket"},
    "archive_streams_data": {"delete_files_from_intermediate_bucket"},
    "delete_files_from_intermediate_bucket": set(),
}


@pytest.fixture(scope="session")
def dag_bag() -> Iterator[DagBag]:
    """Airflow's view of the DAGs folder when no variable of the pipeline is set."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in SETTINGS:
            patch.delenv(variable, raising=False)
        yield DagBag(DAGS)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in SETTINGS:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def dag(dag_bag: DagBag) -> DAG:
    return dag_bag.dags[DAG_ID]


def load_dag() -> DAG:
    """The DAG in the environment of the test."""
    return DagBag(DAGS).dags[DAG_ID]


def schedule_of(dag: DAG) -> str:
    """The schedule as the scheduler sees it."""
    read: DAG = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    return read.timetable.summary


def assets_of(task: Any) -> list[Any]:
    """The outlets that Airflow records as updated."""
    return [outlet for outlet in task.outlets if isinstance(outlet, Asset)]


def addresses(entities: Sequence[Any]) -> list[str]:
    """The addresses that OpenLineage reports."""
    return [entity.url for entity in entities if isinstance(entity, File)]


def downstream_ids(dag: DAG) -> dict[str, set[str]]:
    return {task.task_id: task.downstream_task_ids for task in dag.tasks}


class TestDag:
    def test_folder_holds_one_dag_and_no_import_error_without_any_variable(self, dag_bag: DagBag) -> None:
        assert dag_bag.import_errors == {}
        assert list(dag_bag.dags) == [DAG_ID]

    def test_dag_has_a_description_and_docs(self, dag: DAG) -> None:
        assert set(dag.tags) == {"music", "streaming", "kpi", "s3", "glue", "dynamodb"}
        assert dag.description
        assert dag.doc_md
        assert {name for name in DOWNSTREAM if name not in dag.doc_md} == set()
        assert {task.owner for task in dag.tasks} == {"data-engineering"}

    def test_tasks_follow_each_other(self, dag: DAG) -> None:
        assert downstream_ids(dag) == DOWNSTREAM

    def test_graph_shows_what_tasks_do_together_and_why_it_branches(self, dag: DAG) -> None:
        groups = {
            group_id: set(group.children)
            for group_id, group in dag.task_group.get_task_group_dict().items()
            if group_id
        }

        assert groups == {
            "ingest": {
                "sense_streaming_data",
                "list_stream_files",
                "extract_and_combine_streams",
                "validate_csv_files",
                "move_files_to_intermediate_bucket",
            },
            "reprocess": {"prepare_reprocessing"},
            "compute": {"trigger_glue_job", "store_kpis_in_dynamodb"},
            "archive": {"archive_streams_data", "delete_files_from_intermediate_bucket"},
        }
        labels = {task_id: info["label"] for task_id, info in dag.edge_info["choose_input"].items()}
        assert labels == {"sense_streaming_data": "new files", "prepare_reprocessing": "dates"}

    def test_run_is_one_whose_note_the_plugin_knows(self, dag: DAG) -> None:
        assert dag.dag_id == run_note_plugin.DAG_ID

    def test_every_task_leaves_a_note_when_it_is_skipped(self, dag: DAG) -> None:
        for task in dag.tasks:
            callbacks = task.on_skipped_callback
            assert callbacks in (note_run, [note_run], (note_run,)), task.task_id

    def test_parts_are_mapped_tasks(self, dag: DAG) -> None:
        mapped = {task.task_id for task in dag.tasks if isinstance(task, MappedOperator)}

        assert mapped == {"extract_and_combine_streams", "validate_csv_files"}

    def test_only_the_glue_task_runs_after_a_skipped_branch(self, dag: DAG) -> None:
        rules = {task.task_id: task.trigger_rule for task in dag.tasks}

        assert rules.pop("trigger_glue_job") == TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
        assert set(rules.values()) == {TriggerRule.ALL_SUCCESS}

    @pytest.mark.parametrize("task_id", DOWNSTREAM)
    def test_task_has_backoff_a_timeout_and_a_failure_callback(self, dag: DAG, task_id: str) -> None:
        task: Any = dag.get_task(task_id)

        assert task.retries >= 2
        assert task.retry_exponential_backoff
        assert timedelta(0) < task.retry_delay < task.max_retry_delay <= timedelta(minutes=10)
        assert isinstance(task.execution_timeout, timedelta)
        assert task.on_failure_callback in (notify_failure, [notify_failure])

    def test_glue_has_the_time_that_its_job_may_take(self, dag: DAG) -> None:
        """Airflow ends even a deferred task after its execution timeout, counted from the task's start."""
        task: Any = dag.get_task("trigger_glue_job")

        assert task.execution_timeout > timedelta(minutes=JOB_TIMEOUT_MINUTES)

    def test_runs_do_not_overlap_and_the_past_is_not_caught_up_with(self, dag: DAG) -> None:
        assert dag.max_active_runs == 1
        assert dag.catchup is False

    def test_sensor_occupies_no_slot_while_it_waits_and_skips_when_nothing_comes(self, dag: DAG) -> None:
        sensor: Any = dag.get_task("sense_streaming_data")

        assert sensor.mode == "reschedule"
        assert sensor.soft_fail is True
        assert sensor.poke_interval == 60

    def test_glue_job_gets_the_settings_and_the_runs_folders(
        self, dag: DAG, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for variable, bucket in BUCKETS.items():
            monkeypatch.setenv(variable, bucket)
        monkeypatch.setenv("GLUE_WORKER_TYPE", "G.2X")
        task: Any = copy(dag.get_task("trigger_glue_job"))
        run_key = run_key_of(RUN_ID)

        task.render_template_fields({"run_id": RUN_ID})

        assert task.batch_id == run_key
        assert (task.job_name, task.iam_role_name) == ("music_streaming_kpis", "music-streaming-glue-role")
        assert task.s3_bucket == "intermediate"
        assert task.create_job_kwargs == {"GlueVersion": "5.1", "WorkerType": "G.2X", "Timeout": 120}
        assert task.script_args == {
            "--BATCH_ID": run_key,
            "--S3_SOURCE_PATH": f"s3://intermediate/runs/{run_key}/input/",
            "--S3_HISTORY_PATH": "s3://archive/listens/",
            "--S3_SNAPSHOTS_PATH": "s3://intermediate/snapshots/",
            "--S3_OUTPUT_PATH": f"s3://intermediate/runs/{run_key}/output/",
            "--enable-auto-scaling": "true",
        }


class TestVariables:
    def test_stored_kpis_are_the_dags_dataset(self, dag: DAG) -> None:
        datasets = {task.task_id: assets_of(task) for task in dag.tasks if assets_of(task)}

        assert datasets == {"store_kpis_in_dynamodb": [Asset("dynamodb://music_kpis_table")]}

    def test_dataset_is_named_after_the_table(
        self, clean_environment: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KPI_TABLE_NAME", " other_table ")

        task = load_dag().get_task("store_kpis_in_dynamodb")

        assert assets_of(task) == [Asset("dynamodb://other_table")]

    def test_lineage_names_source_history_archive_and_table(
        self, clean_environment: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for variable, bucket in BUCKETS.items():
            monkeypatch.setenv(variable, bucket)
        tasks = load_dag().tasks

        inlets = {task.task_id: addresses(task.inlets) for task in tasks if task.inlets}
        outlets = {task.task_id: addresses(task.outlets) for task in tasks if task.outlets}

        catalogs = ["s3://source/songs/", "s3://source/users/"]
        assert inlets == {
            "prepare_reprocessing": catalogs,
            "extract_and_combine_streams": ["s3://source/streams/"],
            "move_files_to_intermediate_bucket": catalogs,
            "trigger_glue_job": ["s3://archive/listens/"],
            "archive_streams_data": ["s3://source/streams/"],
        }
        assert outlets == {
            "store_kpis_in_dynamodb": ["dynamodb://music_kpis_table", "s3://archive/listens/"],
            "archive_streams_data": ["s3://archive/streams/", "s3://archive/quarantine/"],
        }

    def test_pipeline_runs_daily(self, dag: DAG) -> None:
        assert schedule_of(dag) == "0 0 * * *"

    @pytest.mark.parametrize(
        ("value", "schedule"),
        [
            ("0 */6 * * *", "0 */6 * * *"),
            ("@continuous", "@continuous"),
            (" @hourly ", "0 * * * *"),
            ("", "0 0 * * *"),
            ("  ", "0 0 * * *"),
        ],
        ids=["set", "continuous", "with white space", "empty", "blank"],
    )
    def test_schedule_is_that_of_the_variable(
        self, clean_environment: None, monkeypatch: pytest.MonkeyPatch, value: str, schedule: str
    ) -> None:
        monkeypatch.setenv("PIPELINE_SCHEDULE", value)

        assert schedule_of(load_dag()) == schedule

    @pytest.mark.parametrize(("schedule", "failures"), [("@continuous", 5), ("@daily", 0)])
    def test_dag_is_paused_after_failures_only_where_runs_follow_each_other_immediately(
        self, clean_environment: None, monkeypatch: pytest.MonkeyPatch, schedule: str, failures: int
    ) -> None:
        monkeypatch.setenv("PIPELINE_SCHEDULE", schedule)

        read = DagSerialization.from_dict(DagSerialization.to_dict(load_dag()))

        assert read.max_consecutive_failed_dag_runs == failures


class TestParsing:
    def test_scheduler_that_reads_the_dag_loads_no_library_for_data(self, clean_environment: None) -> None:
        script = (
            "import sys, music_streaming_services_dag;"
            "loaded = {name.partition('.')[0] for name in sys.modules};"
            "assert 'airflow' in loaded;"
            "print(loaded & {'pandas', 'numpy', 'pyarrow', 'pyspark'})"
        )
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env={**os.environ, "PYTHONPATH": str(DAGS)},
            capture_output=True,
            text=True,
        )

        assert process.returncode == 0, process.stderr
        assert process.stdout == "set()\n"

    def test_project_as_a_bundle_holds_the_one_dag_and_no_import_error(self, tmp_path: Path) -> None:
        """The root of a checkout, as Git gives it to Airflow: other files must not be read as DAGs."""
        for name in ("dags", "plugins", "glue_script", "include", "tests", "dashboard"):
            shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / ".airflowignore", tmp_path)
        script = (
            f"from airflow.models.dagbag import DagBag; bag = DagBag({str(tmp_path)!r});"
            "print(list(bag.dags), bag.import_errors)"
        )
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {
            "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(tmp_path / "plugins"),
        }

        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            cwd="/",
            env=environment,
            capture_output=True,
            text=True,
        )

        assert process.stdout.splitlines()[-1:] == [f"['{DAG_ID}'] {{}}"], process.stdout + process.stderr

    def test_dag_that_is_read_again_is_stored_the_same(self, dag: DAG, clean_environment: None) -> None:
        """Otherwise the scheduler would see a change whenever it reads the file."""
        assert DagSerialization.to_dict(load_dag()) == DagSerialization.to_dict(dag)

    def test_dag_that_was_serialized_is_the_same(self, dag: DAG) -> None:
        """The scheduler and the webserver know the DAG only from the parser's JSON."""
        stored = json.dumps(DagSerialization.to_dict(dag))

        read: DAG = DagSerialization.from_dict(json.loads(stored))

        assert downstream_ids(read) == DOWNSTREAM
        assert {task.retries for task in read.tasks} == {2}
        assert (read.doc_md, read.max_active_runs, read.catchup) == (dag.doc_md, 1, False)
        assert read.timetable.summary == "0 0 * * *"
        assert read.get_task("trigger_glue_job").trigger_rule == TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
        assert "AWS Glue Job Run Details" in read.get_task("trigger_glue_job").extra_links
        assert read.get_task("archive_streams_data").extra_links == ["Run report"]
        assert read.params.dump() == {"reprocess_dates": None, "accept_checks": False}

    def test_trigger_form_explains_every_parameter(self, dag: DAG) -> None:
        for name in dag.params:
            schema = dag.params.get_param(name).schema
            assert schema["title"]
            assert schema["description_md"]

    def test_days_to_compute_again_are_a_text_or_nothing(self, dag: DAG) -> None:
        param = copy(dag.params.get_param("reprocess_dates"))

        for value in (None, "", "2024-06-25", "2024-06-01..2024-06-30, 2024-07-04"):
            assert param.resolve(value) == value
        for value in (20240625, ["2024-06-25"], "last week", "2024-06-01.."):
            with pytest.raises(ParamValidationError):
                param.resolve(value)


class TestTasks:
    @pytest.mark.parametrize(
        ("params", "chosen"),
        [
            ({"reprocess_dates": None}, "sense_streaming_data"),
            ({"reprocess_dates": ""}, "sense_streaming_data"),
            ({"reprocess_dates": "2024-06-25"}, "prepare_reprocessing"),
        ],
        ids=["nothing", "empty", "a day"],
    )
    def test_run_takes_new_files_unless_days_are_given(
        self, dag: DAG, params: dict[str, Any], chosen: str
    ) -> None:
        task: Any = dag.get_task("choose_input")

        assert task.python_callable(params=params) == chosen
        assert isinstance(task, BranchMixIn)
        assert chosen in DOWNSTREAM["choose_input"]

    @pytest.mark.parametrize("missing", BUCKETS)
    def test_missing_variable_fails_the_first_task_without_retry_and_is_named(
        self, dag: DAG, clean_environment: None, monkeypatch: pytest.MonkeyPatch, missing: str
    ) -> None:
        for variable in BUCKETS.keys() - {missing}:
            monkeypatch.setenv(variable, BUCKETS[variable])
        sensor: Any = dag.get_task("sense_streaming_data")
        prepare: Any = dag.get_task("prepare_reprocessing")

        with pytest.raises(AirflowFailException, match=f"variable {missing} is not set") as of_sensor:
            sensor.execute({"run_id": RUN_ID})
        with pytest.raises(AirflowFailException, match=f"variable {missing} is not set"):
            prepare.python_callable(run_id=RUN_ID, params={"reprocess_dates": "2024-06-25"})

        assert ".env" in str(of_sensor.value)
