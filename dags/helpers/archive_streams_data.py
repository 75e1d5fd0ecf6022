"""Task archive_streams_data: archives or quarantines each source file and writes the run report."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from helpers.aws.clients import s3_client
from helpers.contract.keys import report_key
from helpers.contract.records import StoredKpis
from helpers.contract.settings import PipelineConfig
from helpers.notices.note_run import note_run
from helpers.notices.run_links import report_page
from helpers.run.dispositions import carry_out_dispositions
from helpers.run.erasures import refuse_if_users_were_forgotten
from helpers.run.glue_job_runs import read_glue_usage
from helpers.run.glue_output import read_summary
from helpers.run.report import build_complete_report, write_report
from helpers.run.store import RunStore
from run_links_plugin import RunReportLink

if TYPE_CHECKING:
    from airflow.utils.context import Context

logger = logging.getLogger(__name__)


def archive_streams_data(stored: StoredKpis, config: PipelineConfig) -> str:
    """Archive or quarantine the run's files, write the run report and return its key.

    The report is written last because it marks the run as complete.

    Raises:
        ReconciliationError: a file vanished, a copy differs, or users were forgotten meanwhile.
    """
    run = RunStore(stored["run_key"], config)
    if run.report_if_complete():
        return report_key(run.run_key)
    manifest, moved, summary = run.manifest(), run.input_manifest(), read_summary(run)
    refuse_if_users_were_forgotten(run, manifest["frozen_at"])
    destinations = carry_out_dispositions(run, manifest, moved["outcomes"])
    glue = read_glue_usage(config, run.run_key)
    report = build_complete_report(manifest, moved, summary, stored, destinations, glue)
    return write_report(run, report)


class ArchiveStreamsDataOperator(BaseOperator):  # type: ignore[misc]
    """Archives or quarantines the source files and writes the run report; links to the report."""

    template_fields = ("stored",)
    operator_extra_links = (RunReportLink(),)

    def __init__(self, *, stored: StoredKpis, **kwargs: Any) -> None:
        """Take the result of `store_kpis_in_dynamodb`."""
        super().__init__(**kwargs)
        self.stored = stored

    def execute(self, context: Context) -> str:
        """Run the task, leave the link and the run's note, and return the report's key."""
        config = PipelineConfig.from_env()
        key = archive_streams_data(self.stored, config)
        if page := report_page(s3_client(), config, self.stored["run_key"]):
            context["ti"].xcom_push(key=RunReportLink.xcom_key, value=page)
        note_run(context)
        return key
