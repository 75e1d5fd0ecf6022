import importlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.exceptions import AirflowRescheduleException, AirflowSkipException
from airflow.providers.common.compat.sdk import BaseSensorOperator
from pipeline_support import GOOD, RUN_ID, RUN_KEY, Pipeline, Wire, answer, streams

from helpers.contract.keys import ending_key, manifest_key, run_key_of
from helpers.contract.settings import AWS_CONN_ID
from helpers.errors import ConfigurationError, RetryableError
from helpers.extract_and_combine_streams import extract_and_combine_streams
from helpers.list_stream_files import list_stream_files
from helpers.move_files_to_intermediate_bucket import move_files_to_intermediate_bucket
from helpers.sense_streaming_data import StreamingDataSensor, may_begin
from helpers.validate_csv_files import validate_csv_files
from local_aws_support import connect

BY_EVENT = "asset_triggered"
DENIED = '{"__type": "AccessDeniedException", "message": "no"}'


@pytest.fixture
def sense(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the sensor poke once, as in the DAG, in a task that has waited for that many minutes."""

    def look(waited: float = 0, run_id: str = RUN_ID, run_type: str = "scheduled") -> None:
        first_start = datetime.now(UTC) - timedelta(minutes=waited)
        # Airflow reads the start of the wait from its database; Airflow 3 asks the task instance.
        base = importlib.import_module(BaseSensorOperator.__module__)
        monkeypatch.setattr(base, "_orig_start_date", lambda **_: first_start, raising=False)
        sensor = StreamingDataSensor(
            task_id="sense_streaming_data",
            aws_conn_id=AWS_CONN_ID,
            mode="reschedule",
            poke_interval=60,
            soft_fail=True,
        )
        task_instance = SimpleNamespace(
            dag_id="dag",
            task_id=sensor.task_id,
            run_id=run_id,
            map_index=-1,
            try_number=1,
            max_tries=0,
            get_first_reschedule_date=lambda _: first_start,
        )
        context: Any = {
            "run_id": run_id,
            "ti": task_instance,
            "dag_run": SimpleNamespace(run_type=run_type),
        }
        sensor.execute(context)

    return look


class TestFiles:
    @pytest.mark.parametrize("key", ["streams/a.csv", "streams/a.csv.gz", "streams/2024/06/a b.csv"])
    def test_stream_file_ends_the_wait(self, pipeline: Pipeline, sense: Any, key: str) -> None:
        pipeline.upload(key, streams(GOOD))

        sense()

    @pytest.mark.parametrize(
        "key", ["streams/", "streams/README.txt", "songs/songs.csv", "old/streams/a.csv"]
    )
    def test_other_objects_do_not_end_it(self, pipeline: Pipeline, sense: Any, key: str) -> None:
        pipeline.upload(key, "")

        with pytest.raises(AirflowRescheduleException):
            sense()

    def test_file_that_is_there_at_the_timeout_prevents_the_skip(
        self, pipeline: Pipeline, sense: Any
    ) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))

        sense(waited=10_000)


class TestTimeout:
    @pytest.mark.parametrize(
        ("setting", "waits", "skips"),
        [(None, 18 * 60 - 1, 18 * 60 + 1), ("5", 4, 6), ("0.5", 0, 1)],
        ids=["default", "minutes", "half a minute"],
    )
    def test_run_is_skipped_when_nothing_has_come_for_the_time_of_the_settings(
        self,
        pipeline: Pipeline,
        sense: Any,
        monkeypatch: pytest.MonkeyPatch,
        setting: str | None,
        waits: float,
        skips: float,
    ) -> None:
        if setting:
            monkeypatch.setenv("SENSOR_TIMEOUT_MINUTES", setting)

        with pytest.raises(AirflowRescheduleException):
            sense(waited=waits)
        assert pipeline.archived() == {}
        with pytest.raises(AirflowSkipException) as skip:
            sense(waited=skips)
        ending = pipeline.archived_json(ending_key(RUN_KEY))
        assert (ending["state"], ending["reason"]) == ("skipped", str(skip.value))


def minutes_ago(minutes: float) -> datetime:
    return datetime.now(UTC) - timedelta(minutes=minutes)


def begins(*arrivals: float, quiet: float = 0, left: Sequence[int] = ()) -> bool:
    """Whether a run begins that sees files which arrived that many minutes ago.

    Args:
        arrivals: minutes since the arrival of each file.
        quiet: quiet time in minutes.
        left: indexes of files that an earlier run left.
    """
    files = [{"Key": f"streams/{n}.csv", "LastModified": minutes_ago(ago)} for n, ago in enumerate(arrivals)]
    recorded = {files[n]["Key"]: files[n]["LastModified"].isoformat() for n in left}
    return may_begin(files, timedelta(minutes=quiet), recorded)


class TestQuietTime:
    @pytest.mark.parametrize(
        ("arrivals", "expected"),
        [((), False), ((4,), False), ((6,), True), ((20, 4), False), ((20, 6), True), ((51, 4), True)],
        ids=[
            "no file",
            "a new one",
            "one that stayed alone",
            "a burst that continues",
            "a burst that ended",
            "files that never stop coming",
        ],
    )
    def test_run_begins_once_no_file_has_come_for_the_quiet_time(
        self, arrivals: tuple[float, ...], expected: bool
    ) -> None:
        assert begins(*arrivals, quiet=5) is expected

    def test_file_that_an_earlier_run_left_does_not_end_a_burst_early(self) -> None:
        assert not begins(1000, 4, quiet=5, left=[0])

    def test_file_of_a_clock_that_is_ahead_begins_a_run_without_quiet_time(self) -> None:
        assert begins(-1)

    def test_setting_is_read_while_the_run_waits(
        self, pipeline: Pipeline, sense: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        monkeypatch.setenv("QUIET_MINUTES", "5")
        with pytest.raises(AirflowRescheduleException):
            sense()

        monkeypatch.setenv("QUIET_MINUTES", "0")
        sense()

    def test_run_that_somebody_triggers_does_not_wait_for_it(
        self, pipeline: Pipeline, sense: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        monkeypatch.setenv("QUIET_MINUTES", "5")

        sense(run_type="manual")

    def test_run_takes_the_files_when_its_wait_is_over(
        self, pipeline: Pipeline, sense: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        monkeypatch.setenv("QUIET_MINUTES", "5")

        sense(waited=10_000)

        assert ending_key(RUN_KEY) not in pipeline.archived()


class TestFilesThatARunLeft:
    @pytest.fixture(autouse=True)
    def _run_that_left_a_file(self, pipeline: Pipeline, sense: Any) -> None:
        pipeline.upload_catalogs()
        pipeline.s3.put_object(
            Bucket=pipeline.config.source_bucket, Key="streams/left.csv", Body=b"", StorageClass="GLACIER"
        )
        sense()
        parts = list_stream_files("scheduled__before", pipeline.config)
        combined = [extract_and_combine_streams(part, pipeline.config) for part in parts]
        validated = [validate_csv_files(part, pipeline.config) for part in combined]
        with pytest.raises(AirflowSkipException, match="No stream file was taken, 1 file left"):
            move_files_to_intermediate_bucket("scheduled__before", validated, pipeline.config)

    def test_they_alone_begin_no_other_run(self, sense: Any) -> None:
        with pytest.raises(AirflowRescheduleException):
            sense()

    def test_they_are_tried_again_with_a_new_file(self, pipeline: Pipeline, sense: Any) -> None:
        pipeline.upload("streams/new.csv", streams(GOOD))

        sense()

    def test_they_are_tried_again_once_they_are_uploaded_again(self, pipeline: Pipeline, sense: Any) -> None:
        # S3 lists the time of an upload in whole seconds.
        time.sleep(1)
        pipeline.upload("streams/left.csv", streams(GOOD))

        sense()

    def test_they_are_tried_again_when_the_wait_is_over(self, sense: Any) -> None:
        sense(waited=10_000)

    def test_they_are_tried_again_by_a_run_that_somebody_triggers(self, sense: Any) -> None:
        sense(run_type="manual")

    @pytest.mark.parametrize("run_type", [BY_EVENT, "scheduled"])
    def test_they_alone_begin_no_run_where_files_start_runs(
        self, sense: Any, announced: None, run_type: str
    ) -> None:
        with pytest.raises(AirflowSkipException, match="No new CSV file"):
            sense(run_type=run_type)


@pytest.fixture
def announced(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files start runs, as on Airflow 3 with a queue."""
    queue = connect("sqs", pipeline.endpoint_url).create_queue(QueueName="files")
    monkeypatch.setenv("STREAMS_QUEUE_URL", queue["QueueUrl"])
    monkeypatch.setattr("helpers.sense_streaming_data.runs_start_by_event", lambda: True)


class TestFilesThatStartRuns:
    @pytest.mark.parametrize("run_type", [BY_EVENT, "scheduled", "manual"])
    def test_no_run_waits_for_a_first_file_because_it_would_hold_up_the_one_that_the_file_starts(
        self, pipeline: Pipeline, sense: Any, announced: None, run_type: str
    ) -> None:
        with pytest.raises(AirflowSkipException, match=r"the next one starts a run \(STREAMS_QUEUE_URL\)"):
            sense(run_type=run_type)

        assert pipeline.archived_json(ending_key(RUN_KEY))["state"] == "skipped"

    @pytest.mark.parametrize("run_type", [BY_EVENT, "scheduled"])
    def test_run_takes_the_file_that_is_there(
        self, pipeline: Pipeline, sense: Any, announced: None, run_type: str
    ) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))

        sense(run_type=run_type)

    def test_run_waits_until_files_stop_coming(
        self, pipeline: Pipeline, sense: Any, announced: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        monkeypatch.setenv("QUIET_MINUTES", "5")

        with pytest.raises(AirflowRescheduleException):
            sense(run_type=BY_EVENT)
        sense(run_type=BY_EVENT, waited=10_000)


class TestListedRun:
    def test_run_whose_files_are_listed_continues_even_if_they_are_archived(
        self, pipeline: Pipeline, sense: Any
    ) -> None:
        pipeline.upload_catalogs()
        pipeline.upload("streams/a.csv", streams(GOOD))
        list_stream_files(RUN_ID, pipeline.config)
        pipeline.s3.delete_object(Bucket=pipeline.config.source_bucket, Key="streams/a.csv")

        sense(waited=10_000)

    def test_list_of_another_run_counts_for_nothing(self, pipeline: Pipeline, sense: Any) -> None:
        other = f"{RUN_ID}_2"
        pipeline.put(pipeline.config.archive_bucket, manifest_key(run_key_of(other)), {"run_key": other})

        with pytest.raises(AirflowRescheduleException):
            sense()
        sense(run_id=other)

    def test_resources_are_checked_even_so(self, pipeline: Pipeline, sense: Any) -> None:
        pipeline.put(pipeline.config.archive_bucket, manifest_key(RUN_KEY), {"run_key": RUN_KEY})
        pipeline.dynamodb.delete_table(TableName=pipeline.config.kpi_table)

        with pytest.raises(ConfigurationError, match="KPI_TABLE_NAME"):
            sense()


class TestScript:
    def test_script_that_is_not_there_is_found_first_and_may_be_uploaded(
        self, pipeline: Pipeline, sense: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))
        place = {"Bucket": pipeline.config.intermediate_bucket, "Key": "artifacts/glue-scripts/v2.py"}
        monkeypatch.setenv("GLUE_SCRIPT_LOCATION", f"s3://{place['Bucket']}/{place['Key']}")

        with pytest.raises(ConfigurationError, match=r"does not exist\. Upload it: aws s3 cp"):
            sense()

        pipeline.s3.put_object(**place, Body=b"")
        sense()


class TestConfiguration:
    """With `soft_fail` Airflow skips if a poke fails for good; a wrong setting must not be skipped."""

    @pytest.fixture(autouse=True)
    def _stream_file(self, pipeline: Pipeline) -> None:
        pipeline.upload("streams/a.csv", streams(GOOD))

    @pytest.fixture(autouse=True)
    def _short_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Shorten the SDK's waits between attempts."""
        monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))

    @pytest.fixture
    def bucket(self, pipeline: Pipeline, variable: str) -> str:
        attributes = {
            "SOURCE_BUCKET_NAME": pipeline.config.source_bucket,
            "INTERMEDIATE_BUCKET_NAME": pipeline.config.intermediate_bucket,
            "ARCHIVE_BUCKET_NAME": pipeline.config.archive_bucket,
        }
        return attributes[variable]

    @pytest.mark.parametrize(
        "variable", ["SOURCE_BUCKET_NAME", "INTERMEDIATE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME"]
    )
    class TestBucket:
        def test_missing_one_is_named_with_its_variable(
            self, sense: Any, monkeypatch: pytest.MonkeyPatch, variable: str
        ) -> None:
            monkeypatch.setenv(variable, "no-such-bucket")

            with pytest.raises(
                ConfigurationError, match=f"'no-such-bucket', named by {variable}, does not exist"
            ):
                sense()

        def test_bucket_that_may_not_be_used_is_named_with_its_variable(
            self, sense: Any, wire: Wire, variable: str, bucket: str
        ) -> None:
            wire.once(f"/{bucket}", answer(403))

            with pytest.raises(ConfigurationError, match=f"'{bucket}', named by {variable}, may not be used"):
                sense()

        def test_one_that_does_not_answer_is_asked_again(
            self, sense: Any, wire: Wire, variable: str, bucket: str
        ) -> None:
            wire.once(f"/{bucket}", answer(503))

            sense()

            heads = [urlsplit(request.url).path for request in wire.requests if request.method == "HEAD"]
            assert heads.count(f"/{bucket}") == 2

    @pytest.mark.parametrize(
        ("variable", "same_as"),
        [
            ("INTERMEDIATE_BUCKET_NAME", "SOURCE_BUCKET_NAME"),
            ("ARCHIVE_BUCKET_NAME", "SOURCE_BUCKET_NAME"),
            ("ARCHIVE_BUCKET_NAME", "INTERMEDIATE_BUCKET_NAME"),
        ],
    )
    @pytest.mark.scenarios(37)
    def test_bucket_for_two_purposes_is_refused(
        self, sense: Any, monkeypatch: pytest.MonkeyPatch, variable: str, same_as: str
    ) -> None:
        monkeypatch.setenv(variable, "one-bucket")
        monkeypatch.setenv(same_as, "one-bucket")

        with pytest.raises(ConfigurationError, match=f"{same_as} and {variable} both name .*'one-bucket'"):
            sense()

    @pytest.mark.scenarios(45)
    def test_missing_table_is_named_with_its_variable(
        self, sense: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KPI_TABLE_NAME", "no_such_table")

        with pytest.raises(
            ConfigurationError, match="'no_such_table', named by KPI_TABLE_NAME, does not exist"
        ):
            sense()

    def test_table_that_may_not_be_used_is_named_with_its_variable(
        self, pipeline: Pipeline, sense: Any, wire: Wire
    ) -> None:
        wire.once("DescribeTable", answer(400, DENIED))

        with pytest.raises(
            ConfigurationError,
            match=f"'{pipeline.config.kpi_table}', named by KPI_TABLE_NAME, may not be used",
        ):
            sense()

    def test_missing_queue_is_named_with_its_variable(
        self, sense: Any, announced: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue = "https://sqs.us-east-1.amazonaws.com/123456789012/no-such-queue"
        monkeypatch.setenv("STREAMS_QUEUE_URL", queue)

        with pytest.raises(
            ConfigurationError, match=f"'{queue}', named by STREAMS_QUEUE_URL, does not exist"
        ):
            sense()

    @pytest.mark.parametrize("operation", ["HEAD", "DescribeTable"])
    def test_service_that_is_down_is_a_retryable_error(self, sense: Any, wire: Wire, operation: str) -> None:
        for _ in range(20):
            wire.once(operation, answer(503))

        with pytest.raises(RetryableError, match=r"_NAME, could not be checked: .*503"):
            sense()

        assert wire.count(operation) == 5
