"""Callback of a failed task: tells the SNS topic what failed, why, where to look and what to do."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from helpers.config import AWS_CONN_ID, setting
from helpers.runbook import advice_for

if TYPE_CHECKING:
    from airflow.utils.context import Context

logger = logging.getLogger(__name__)

# "Less than 100 characters", https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
MAX_SUBJECT = 99
MAX_REASON = 4000


def notify_failure(context: Context) -> None:
    """Publish a message about the failed task instance; without ALERT_SNS_TOPIC_ARN do nothing.

    A message that cannot be sent is logged: it must not hide the failure itself.
    """
    topic_arn = setting("ALERT_SNS_TOPIC_ARN", "")
    if not topic_arn:
        return
    from airflow.providers.amazon.aws.hooks.sns import SnsHook

    subject, message = failure_message(context)
    try:
        hook = SnsHook(aws_conn_id=AWS_CONN_ID)  # type: ignore[no-untyped-call]
        hook.publish_to_target(topic_arn, message, subject=subject)
    except Exception:
        logger.warning("No alert was sent to %s", topic_arn, exc_info=True)


def failure_message(context: Context) -> tuple[str, str]:
    """Return subject and text of the alert."""
    task_instance: Any = context["task_instance"]
    error = context.get("exception")
    # A task that was killed from outside leaves none.
    reason = str(error)[:MAX_REASON] if error else "no exception was recorded; see the log"
    advice = advice_for(error)
    # Airflow 2 names the task in a parameter, Airflow 3 in the path; what is before it leads to the run.
    run_url = re.split("&task_id=|/tasks/", task_instance.log_url)[0]
    subject = f"{task_instance.dag_id}: {task_instance.task_id} failed"[:MAX_SUBJECT]
    lines = (
        f"DAG:    {task_instance.dag_id}",
        f"Run:    {context['run_id']}",
        f"Task:   {task_instance.task_id} (try {task_instance.try_number})",
        f"Reason: {reason}",
        f"Log:    {task_instance.log_url}",
        f"In UI:  {run_url}",
        f"Next:   {advice.next_step}",
        f"More:   {advice.link}",
        "",
        advice.standing,
    )
    return subject, "\n".join(lines)
