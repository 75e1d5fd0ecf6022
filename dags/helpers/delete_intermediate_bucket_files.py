"""Task delete_files_from_intermediate_bucket: removes the run's temporary objects and counts the run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from helpers.aws import s3_client
from helpers.config import PipelineConfig
from helpers.errors import ReconciliationError
from helpers.manifest import read_report
from helpers.run_key import report_key, run_prefix
from helpers.s3_objects import delete_objects, list_sizes
from helpers.success_metric import count_success

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)


def delete_intermediate_bucket_files(run_key: str, config: PipelineConfig) -> int:
    """Delete what the run left in the intermediate bucket; return the number of objects.

    It is the run's last task, so then a run of new files is counted as succeeded. One that computes days
    again is not: the alarm on the count tells that no new files come through.

    Raises:
        ReconciliationError: the run has no report yet, so a retry may still need the objects.
    """
    s3 = s3_client()
    report = read_report(s3, config, run_key)
    if report is None:
        raise ReconciliationError(
            f"Run {run_key} has no report s3://{config.archive_bucket}/{report_key(run_key)}: it is not "
            "complete and its temporary objects are kept. Clear archive_streams_data and what follows it."
        )
    deleted = delete_run_objects(s3, config, run_key)
    if report["status"] == "complete" and not report["reprocess_dates"]:
        count_success(config, report["completed_at"])
    return deleted


def delete_run_objects(s3: S3Client, config: PipelineConfig, run_key: str) -> int:
    """Delete every temporary object of the run."""
    keys = list(list_sizes(s3, config.intermediate_bucket, run_prefix(run_key)))
    delete_objects(s3, config.intermediate_bucket, keys)
    logger.info("Deleted %d temporary objects of run %s", len(keys), run_key)
    return len(keys)
