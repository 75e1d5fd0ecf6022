"""The metric of succeeded runs: the alarm of `include/stack.yaml` rings when it stays silent for hours."""

from __future__ import annotations

import logging
from datetime import datetime

from helpers.aws import cloudwatch_client
from helpers.config import PipelineConfig

logger = logging.getLogger(__name__)

NAMESPACE = "MusicStreamingPipeline"
METRIC = "RunsSucceeded"


def count_success(config: PipelineConfig, completed_at: str) -> None:
    """Count a succeeded run, under the table that it wrote and at the time when it was complete.

    So a run of long ago whose last task is cleared does not hide that none has succeeded since. A count
    that cannot be sent is logged: the run did succeed, and the alarm tells of the missing count.
    """
    datum = {
        "MetricName": METRIC,
        "Dimensions": [{"Name": "KpiTable", "Value": config.kpi_table}],
        "Value": 1,
        "Unit": "Count",
        "Timestamp": datetime.fromisoformat(completed_at),
    }
    try:
        cloudwatch_client().put_metric_data(Namespace=NAMESPACE, MetricData=[datum])
    except Exception:
        logger.warning("The run was not counted in CloudWatch's metric %s", METRIC, exc_info=True)
