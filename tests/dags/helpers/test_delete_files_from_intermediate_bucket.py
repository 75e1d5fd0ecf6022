import pytest
from pipeline_support import RUN_KEY, Pipeline

from helpers.contract.keys import report_key
from helpers.delete_files_from_intermediate_bucket import delete_files_from_intermediate_bucket
from helpers.errors import ReconciliationError

OTHERS = ("artifacts/glue_script.py", f"runs/{RUN_KEY}-other/input/manifest.json", "runs/other/a")
REPORT = {
    "status": "complete",
    "completed_at": "2024-06-26T00:30:00+00:00",
    "reprocess_dates": [],
    "files": [],
}


@pytest.fixture(autouse=True)
def _temporary_objects(pipeline: Pipeline) -> None:
    for key in (f"runs/{RUN_KEY}/input/manifest.json", f"runs/{RUN_KEY}/combined/a", *OTHERS):
        pipeline.put(pipeline.config.intermediate_bucket, key, b"content")


def test_objects_of_the_complete_run_are_deleted_and_no_others(pipeline: Pipeline) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), REPORT)

    assert delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config) == 2

    assert set(pipeline.objects(pipeline.config.intermediate_bucket)) == set(OTHERS)
    assert set(pipeline.archived()) == {report_key(RUN_KEY)}


def test_clearing_the_task_finds_nothing_more_to_delete(pipeline: Pipeline) -> None:
    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), REPORT)
    delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    assert delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config) == 0


@pytest.mark.scenarios(36)
def test_objects_of_a_run_without_report_are_kept(pipeline: Pipeline) -> None:
    before = pipeline.objects(pipeline.config.intermediate_bucket)

    with pytest.raises(ReconciliationError, match=r"has no report .* Clear archive_streams_data"):
        delete_files_from_intermediate_bucket(RUN_KEY, pipeline.config)

    assert pipeline.objects(pipeline.config.intermediate_bucket) == before
