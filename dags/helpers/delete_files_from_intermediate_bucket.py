"""Task delete_files_from_intermediate_bucket: removes the run's temporary objects and counts the run."""

from __future__ import annotations

import logging

from helpers.contract.keys import report_key
from helpers.contract.records import COMPLETE
from helpers.contract.settings import PipelineConfig
from helpers.errors import HandoverError
from helpers.notices.notify_warnings import notify_warnings
from helpers.notices.run_metrics import send_metrics
from helpers.notices.sentences import waiting_sentence
from helpers.run.source_files import list_new_files
from helpers.run.store import RunStore

logger = logging.getLogger(__name__)


def delete_files_from_intermediate_bucket(run_key: str, config: PipelineConfig) -> int:
    """Delete the run's objects in the intermediate bucket and return their number.

    This is the run's last task, so it counts a run of new files as succeeded and sends its figures. A
    reprocessing run sends no metrics: the alarms on them watch for new files. The log names the files that
    wait for another run, because a complete run takes no more files when it is cleared.

    Raises:
        HandoverError: the run has no report yet, so a retry may still need the objects.
    """
    run = RunStore(run_key, config)
    report = run.report()
    if report is None:
        raise HandoverError(
            f"Run {run_key} has no report s3://{config.archive_bucket}/{report_key(run_key)}: it is not "
            "complete and its temporary objects are kept. Clear archive_streams_data and its downstream "
            "tasks."
        )
    # Only the first attempt finds objects, so clearing this task sends no second message.
    if run.list_temporary_objects():
        notify_warnings(run.s3, config, report)
    deleted = run.delete_temporary_objects()
    if report["status"] == COMPLETE and not report["reprocess_dates"]:
        new, _ = list_new_files(run.s3, config, report["files"])
        if new:
            logger.warning(waiting_sentence(new))
        send_metrics(config, report)
    return deleted
