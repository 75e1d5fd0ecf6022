import pytest
from pipeline_support import RUN_KEY, Pipeline

from helpers.contract.keys import report_key
from helpers.errors import ReconciliationError
from helpers.run.store import RunStore


def test_missing_manifest_says_what_to_clear(pipeline: Pipeline) -> None:
    with pytest.raises(
        ReconciliationError, match=r"runs/.*/manifest.json does not exist; clear the task list_"
    ):
        RunStore(RUN_KEY, pipeline.config).manifest()


def test_missing_input_manifest_says_what_to_clear(pipeline: Pipeline) -> None:
    with pytest.raises(
        ReconciliationError, match=r"input/manifest.json does not exist; clear the task before"
    ):
        RunStore(RUN_KEY, pipeline.config).input_manifest()


def test_run_without_a_report_is_not_complete(pipeline: Pipeline) -> None:
    assert RunStore(RUN_KEY, pipeline.config).report() is None

    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), {"status": "complete"})

    assert RunStore(RUN_KEY, pipeline.config).report() == {"status": "complete"}
