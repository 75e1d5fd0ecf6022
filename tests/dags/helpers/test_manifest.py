import pytest
from pipeline_support import RUN_KEY, Pipeline

from helpers.aws import s3_client
from helpers.errors import ReconciliationError
from helpers.manifest import read_input_manifest, read_manifest, read_report
from helpers.run_key import report_key


def test_missing_manifest_says_what_to_clear(pipeline: Pipeline) -> None:
    with pytest.raises(
        ReconciliationError, match=r"runs/.*/manifest.json does not exist; clear the task list_"
    ):
        read_manifest(s3_client(), pipeline.config, RUN_KEY)


def test_missing_input_manifest_says_what_to_clear(pipeline: Pipeline) -> None:
    with pytest.raises(
        ReconciliationError, match=r"input/manifest.json does not exist; clear the task before"
    ):
        read_input_manifest(s3_client(), pipeline.config, RUN_KEY)


def test_run_without_a_report_is_not_complete(pipeline: Pipeline) -> None:
    assert read_report(s3_client(), pipeline.config, RUN_KEY) is None

    pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), {"status": "complete"})

    assert read_report(s3_client(), pipeline.config, RUN_KEY) == {"status": "complete"}
