"""If a message names the task to clear, or another remedy, that step helps."""

from typing import Any

import pytest
from airflow.exceptions import AirflowException
from pipeline_support import DAY, GOOD, RUN_ID, RUN_KEY, SONGS, GlueDay, Pipeline, streams

from helpers.archive_streams_data import archive_streams_data
from helpers.aws import s3_objects
from helpers.contract.keys import report_key, run_key_of
from helpers.contract.records import StoredKpis
from helpers.delete_files_from_intermediate_bucket import delete_files_from_intermediate_bucket
from helpers.errors import BadInputError, ConfigurationError, ReconciliationError
from helpers.extract_and_combine_streams import extract_and_combine_streams
from helpers.list_stream_files import list_stream_files
from helpers.move_files_to_intermediate_bucket import move_files_to_intermediate_bucket
from helpers.sense_streaming_data import check_resources
from helpers.store_kpis_in_dynamodb import store_kpis_in_dynamodb
from helpers.trigger_glue_job import GlueKpiJobOperator
from helpers.validate_csv_files import validate_csv_files

LATER_RUN = "manual__2024-06-27T00:00:00+00:00"
ONE_LISTEN = {DAY: GlueDay({"pop": 1}, new=1)}


@pytest.fixture
def delivered(pipeline: Pipeline) -> Pipeline:
    """A pipeline with catalogs and a stream file."""
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD))
    return pipeline


def lose(pipeline: Pipeline, name: str) -> None:
    """Delete a temporary object of the run."""
    pipeline.s3.delete_object(Bucket=pipeline.config.intermediate_bucket, Key=f"runs/{RUN_KEY}/{name}")


def compute(pipeline: Pipeline, run_id: str = RUN_ID, **output: Any) -> None:
    """Write trigger_glue_job's output of one listen."""
    pipeline.put_glue_output(output.pop("days", ONE_LISTEN), run_id=run_id, **output)


def store(pipeline: Pipeline, run_id: str = RUN_ID) -> StoredKpis:
    return store_kpis_in_dynamodb(run_id, pipeline.config)


def takes_its_output_once_more(pipeline: Pipeline, run_id: str = RUN_ID) -> bool:
    """Return whether a cleared trigger_glue_job would adopt the run that wrote this output."""
    operator = GlueKpiJobOperator(task_id="trigger_glue_job", batch_id=run_key_of(run_id))
    return operator._output_is_current(pipeline.config)


def listens_stored(pipeline: Pipeline) -> int:
    return int(pipeline.items()[DAY, "ALL_GENRES"]["listen_count"])


def test_catalog_that_was_missing_is_found_when_the_listing_is_cleared(pipeline: Pipeline) -> None:
    pipeline.upload("streams/a.csv", streams(GOOD))
    with pytest.raises(BadInputError, match="clear this task"):
        list_stream_files(RUN_ID, pipeline.config)

    pipeline.upload_catalogs()

    assert pipeline.move()["rows"] == 1


def test_catalog_that_was_wrong_is_replaced_for_a_new_run(delivered: Pipeline) -> None:
    delivered.upload("songs/songs.csv", "who,what\n")
    with pytest.raises(BadInputError, match=r"Upload corrected files and trigger a new run\."):
        delivered.move()

    delivered.upload("songs/songs.csv", SONGS)

    with pytest.raises(BadInputError, match="trigger a new run"):
        delivered.move()
    assert delivered.move(LATER_RUN)["rows"] == 1


def test_catalog_in_an_archive_is_read_once_it_is_restored_and_the_task_cleared(delivered: Pipeline) -> None:
    place = {"Bucket": delivered.config.source_bucket, "Key": "songs/songs.csv"}
    delivered.s3.put_object(**place, Body=SONGS.encode(), StorageClass="DEEP_ARCHIVE")
    validated = delivered.ingest()
    with pytest.raises(BadInputError, match=r"restore it.* Then clear this task"):
        move_files_to_intermediate_bucket(RUN_ID, validated, delivered.config)

    delivered.s3.restore_object(**place, RestoreRequest={"Days": 1})

    assert move_files_to_intermediate_bucket(RUN_ID, validated, delivered.config)["rows"] == 1


def test_resource_that_was_missing_is_found_when_the_task_is_cleared(pipeline: Pipeline) -> None:
    pipeline.s3.delete_bucket(Bucket=pipeline.config.intermediate_bucket)
    with pytest.raises(ConfigurationError, match="INTERMEDIATE_BUCKET_NAME"):
        check_resources(pipeline.config)

    pipeline.s3.create_bucket(Bucket=pipeline.config.intermediate_bucket)

    check_resources(pipeline.config)


def test_manifest_that_was_lost_is_written_when_the_listing_is_cleared(delivered: Pipeline) -> None:
    validated = delivered.ingest()
    delivered.s3.delete_object(Bucket=delivered.config.archive_bucket, Key=f"runs/{RUN_KEY}/manifest.json")
    with pytest.raises(ReconciliationError, match="clear the task list_stream_files"):
        move_files_to_intermediate_bucket(RUN_ID, validated, delivered.config)

    assert delivered.move()["rows"] == 1


def test_list_of_a_parts_files_that_expired_is_written_when_the_listing_is_cleared(
    delivered: Pipeline,
) -> None:
    [part] = list_stream_files(RUN_ID, delivered.config)
    lose(delivered, "listed/part-00000.json")
    with pytest.raises(
        ReconciliationError, match=r"listed/part-00000\.json, does not exist; clear list_stream_files and its"
    ):
        extract_and_combine_streams(part, delivered.config)

    assert delivered.move()["rows"] == 1


def test_combined_records_that_expired_are_made_when_the_listing_is_cleared(delivered: Pipeline) -> None:
    [part] = list_stream_files(RUN_ID, delivered.config)
    combined = extract_and_combine_streams(part, delivered.config)
    for name in ("listed/part-00000.json", "combined/part-00000.json"):
        lose(delivered, name)
    with pytest.raises(ReconciliationError, match=r"no combined records .*; clear list_stream_files"):
        validate_csv_files(combined, delivered.config)

    assert delivered.move()["rows"] == 1


def test_parts_that_expired_are_made_when_the_listing_is_cleared(delivered: Pipeline) -> None:
    validated = delivered.ingest()
    for name in ("listed/part-00000.json", "validated/part-00000.json"):
        lose(delivered, name)
    with pytest.raises(ReconciliationError, match="clear list_stream_files"):
        move_files_to_intermediate_bucket(RUN_ID, validated, delivered.config)

    assert delivered.move()["rows"] == 1


def test_input_manifest_that_was_lost_is_written_when_the_task_before_glue_is_cleared(
    delivered: Pipeline,
) -> None:
    delivered.move()
    compute(delivered)
    lose(delivered, "input/manifest.json")
    with pytest.raises(ReconciliationError, match="clear the task before trigger_glue_job"):
        store(delivered)

    delivered.move()
    store(delivered)

    assert listens_stored(delivered) == 1


class TestGluesOutput:
    """If a message ends with "Clear trigger_glue_job", that task must not adopt the same output again."""

    @pytest.fixture
    def moved(self, delivered: Pipeline) -> Pipeline:
        delivered.move()
        return delivered

    def assert_clearing_helps(self, pipeline: Pipeline) -> None:
        assert not takes_its_output_once_more(pipeline)
        compute(pipeline)
        assert takes_its_output_once_more(pipeline)
        store(pipeline)
        assert listens_stored(pipeline) == 1

    def test_summary_that_is_missing(self, moved: Pipeline) -> None:
        compute(moved)
        lose(moved, "output/summary.json")
        with pytest.raises(ReconciliationError, match=r"left no summary.* Clear trigger_glue_job"):
            store(moved)

        self.assert_clearing_helps(moved)

    def test_counts_that_do_not_agree(self, moved: Pipeline) -> None:
        compute(moved, days={DAY: GlueDay({"pop": 2}, new=2)})
        with pytest.raises(ReconciliationError, match=r"the Glue job read 2.* Clear trigger_glue_job"):
            store(moved)

        self.assert_clearing_helps(moved)

    def test_another_run_that_came_between(self, moved: Pipeline) -> None:
        compute(moved)
        moved.put(moved.config.archive_bucket, f"listens/listen_date={DAY}/other__part.parquet", b"listens")
        with pytest.raises(ReconciliationError, match=r"another run added .* Clear trigger_glue_job"):
            store(moved)

        self.assert_clearing_helps(moved)

    @pytest.mark.parametrize("count", [1, float("nan")])
    def test_items_that_contradict_the_summary(self, moved: Pipeline, count: float) -> None:
        totals = {"date": DAY, "track_genre": "ALL_GENRES", "listen_count": 1}
        pop = {"date": DAY, "track_genre": "pop", "listen_count": count}
        compute(moved, records=[pop, pop, totals])
        assert takes_its_output_once_more(moved)
        with pytest.raises(ReconciliationError, match=r"cannot be stored.* Clear trigger_glue_job"):
            store(moved)

        self.assert_clearing_helps(moved)

    def test_total_that_does_not_fit_to_the_table(self, moved: Pipeline) -> None:
        compute(moved)
        archive_streams_data(store(moved), moved.config)
        key = {"date": {"S": DAY}, "track_genre": {"S": "ALL_GENRES"}}
        moved.dynamodb.update_item(
            TableName=moved.config.kpi_table,
            Key=key,
            UpdateExpression="SET listen_count = :wrong",
            ExpressionAttributeValues={":wrong": {"N": "7"}},
        )
        moved.upload("streams/b.csv", streams(GOOD.replace("10:00", "11:00")))
        moved.move(LATER_RUN)
        compute(moved, LATER_RUN, days={DAY: GlueDay({"pop": 2}, new=1)})
        with pytest.raises(ReconciliationError, match=rf"Clear trigger_glue_job .*\({DAY}, ALL_GENRES\)"):
            store(moved, LATER_RUN)
        assert not takes_its_output_once_more(moved, LATER_RUN)

        # The history is right, so the message repeats; then its second remedy helps.
        compute(moved, LATER_RUN, days={DAY: GlueDay({"pop": 2}, new=1)})
        with pytest.raises(ReconciliationError, match="delete the item first"):
            store(moved, LATER_RUN)
        moved.dynamodb.delete_item(TableName=moved.config.kpi_table, Key=key)
        compute(moved, LATER_RUN, days={DAY: GlueDay({"pop": 2}, new=1)})
        store(moved, LATER_RUN)

        assert listens_stored(moved) == 2


def test_copy_that_differs_is_made_again_when_the_task_is_cleared(
    delivered: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered.move()
    compute(delivered)
    stored = store(delivered)
    with monkeypatch.context() as patch:
        patch.setattr(s3_objects, "copy_object", lambda *args, **options: None)
        with pytest.raises(ReconciliationError, match="Clear this task to copy again"):
            archive_streams_data(stored, delivered.config)

    archive_streams_data(stored, delivered.config)

    assert list(delivered.archived("streams/").values()) == [streams(GOOD).encode()]


def test_report_that_is_missing_is_written_when_the_archiving_is_cleared(delivered: Pipeline) -> None:
    delivered.move()
    compute(delivered)
    stored = store(delivered)
    with pytest.raises(ReconciliationError, match="Clear archive_streams_data"):
        delete_files_from_intermediate_bucket(RUN_KEY, delivered.config)

    archive_streams_data(stored, delivered.config)

    assert delete_files_from_intermediate_bucket(RUN_KEY, delivered.config) > 0
    assert delivered.archived_json(report_key(RUN_KEY))["status"] == "complete"


def test_item_too_large_is_gone_with_a_corrected_catalog_and_a_new_run(delivered: Pipeline) -> None:
    large = {"date": DAY, "track_genre": "g" * 1025, "listen_count": 1}
    totals = {"date": DAY, "track_genre": "ALL_GENRES", "listen_count": 1}
    delivered.move()
    compute(delivered, records=[large, totals])
    with pytest.raises(AirflowException, match="trigger a new run"):
        store(delivered)

    delivered.upload_catalogs()
    delivered.move(LATER_RUN)
    compute(delivered, LATER_RUN)
    store(delivered, LATER_RUN)

    assert listens_stored(delivered) == 1
