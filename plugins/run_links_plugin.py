"""The link from a task to the run report; Airflow's UI shows it only if a plugin registers it.

Every service loads this file, including those without DAGs. So it imports nothing of the project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.plugins_manager import AirflowPlugin
from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey


class RunReportLink(BaseOperatorLink):  # type: ignore[misc]
    """Links to the page that shows the run report, once it is written."""

    name = "Run report"
    xcom_key = "run_report_link"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address that the task pushed to XCom.

        Raises:
            ValueError: there is none; Airflow shows the message on the link.
        """
        address: str | None = XCom.get_value(key=self.xcom_key, ti_key=ti_key)
        if not address:
            raise ValueError(
                "No page: this task has not succeeded yet, or DASHBOARD_URL is not set and this is not AWS."
            )
        return address


class RunLinksPlugin(AirflowPlugin):
    """Registers the link to the run report."""

    name = "run_links"
    operator_extra_links = [RunReportLink()]  # noqa: RUF012
