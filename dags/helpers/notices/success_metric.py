"""The metric of succeeded runs; the alarm in `include/stack.yaml` fires if it has no data for hours."""

from __future__ import annotations

import logging
from datetime import datetime

from helpers.aws.clients import cloudwatch_client
from helpers.contract.settings import PipelineConfig

logger = logging.getLogger(__name__)

NAMESPACE = "MusicStreamingPipeline"
METRIC = "RunsSucceeded"


def count_success(config: PipelineConfig, completed_at: str) -> None:
    """Count a succeeded run for its table, at the time when it was complete.

    With this time, clearing the last task of an old run does not hide that no run has succeeded since. A
    failure to send is only logged: the run did succeed, and the alarm reports the missing count.
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
