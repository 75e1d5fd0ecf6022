"""The metrics of succeeded runs in CloudWatch; `include/stack.yaml` has the alarms on them."""

from __future__ import annotations

import logging
from datetime import datetime

from helpers.aws.clients import cloudwatch_client
from helpers.contract.figures import FIGURES, figures_of
from helpers.contract.records import RunReport
from helpers.contract.settings import PipelineConfig

logger = logging.getLogger(__name__)

NAMESPACE = "MusicStreamingPipeline"
METRIC = "RunsSucceeded"
# CloudWatch has no others of the figures' units.
UNITS = {"count": "Count", "bytes": "Bytes", "seconds": "Seconds"}


def send_metrics(config: PipelineConfig, report: RunReport) -> None:
    """Count a succeeded run for its table and send its figures, in one call, at the time of its report.

    With this time, clearing the last task of an old run does not hide that no run has succeeded since. A
    failure to send is only logged: the run did succeed, and the alarm reports the missing count.
    """
    dimensions = [{"Name": "KpiTable", "Value": config.kpi_table}]
    try:
        figures = figures_of(report)
        values = [(METRIC, "Count", 1.0)]
        values += [
            (figure.metric, UNITS.get(figure.unit, "None"), value)
            for figure in FIGURES
            if (value := figures[figure.name]) is not None
        ]
        completed_at = datetime.fromisoformat(report["completed_at"])
        data = [
            {
                "MetricName": metric,
                "Dimensions": dimensions,
                "Value": value,
                "Unit": unit,
                "Timestamp": completed_at,
            }
            for metric, unit, value in values
        ]
        cloudwatch_client().put_metric_data(Namespace=NAMESPACE, MetricData=data)
    except Exception:
        logger.warning("The run was not counted in CloudWatch's metric %s", METRIC, exc_info=True)
