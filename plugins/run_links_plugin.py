"""Makes the pipeline's links known to Airflow's webserver, which shows only those that a plugin names."""

from __future__ import annotations

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from helpers.run_links import RunReportLink


class RunLinksPlugin(AirflowPlugin):
    """Registers the link to the run report."""

    name = "run_links"
    operator_extra_links: ClassVar = [RunReportLink()]
