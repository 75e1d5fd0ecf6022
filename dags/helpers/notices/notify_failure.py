"""Callback of a failed task: publishes the reason, the next step and the links to the SNS topic."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from helpers.contract.records import FAILED
from helpers.contract.settings import AWS_CONN_ID, setting
from helpers.errors import advice_for
from helpers.notices.note_run import note_run
from helpers.notices.record_ending import MAX_REASON, record_ending

if TYPE_CHECKING:
    from airflow.utils.context import Context

logger = logging.getLogger(__name__)

# "Less than 100 characters", https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
MAX_SUBJECT = 99
RUNBOOK = "docs/runbook.md"


def notify_failure(context: Context) -> None:
    """Record the failure, leave the run's note, alert the topic if there is one, log reason and next step.

    The reason and the next step end the failed task's log. A failure to record or send is only logged: it
    must not hide the failure itself.
    """
    error = context.get("exception")
    advice, reason = advice_for(error), _reason(error)
    record_ending(
        str(context["run_id"]),
        context["task_instance"].task_id,
        FAILED,
        reason,
        advice.next_step,
        advice.section,
    )
    # The callback of a killed task has no exception and runs where nothing can be written to XCom.
    if isinstance(error, BaseException):
        note_run(context)
    if setting("ALERT_SNS_TOPIC_ARN", ""):
        publish(*failure_message(context))
    logger.error(
        "%s\nNext step: %s\nMore: %s",
        reason,
        advice.next_step,
        runbook_link(advice.section),
    )


def runbook_link(section: str) -> str:
    """Return the address of the runbook's section, in RUNBOOK_URL or by default in the project's docs."""
    return f"{setting('RUNBOOK_URL', RUNBOOK)}#{section}"


def publish(subject: str, message: str) -> None:
    """Publish a message to the topic; without ALERT_SNS_TOPIC_ARN do nothing.

    A message that cannot be sent is logged: it must not change how the task or the run ends.
    """
    topic_arn = setting("ALERT_SNS_TOPIC_ARN", "")
    if not topic_arn:
        return
    from airflow.providers.amazon.aws.hooks.sns import SnsHook

    try:
        hook = SnsHook(aws_conn_id=AWS_CONN_ID)  # type: ignore[no-untyped-call]
        hook.publish_to_target(topic_arn, message, subject=subject)
    except Exception:
        logger.warning("No alert was sent to %s", topic_arn, exc_info=True)


def failure_message(context: Context) -> tuple[str, str]:
    """Return subject and text of the alert."""
    task_instance: Any = context["task_instance"]
    error = context.get("exception")
    advice = advice_for(error)
    # Airflow 2 names the task in a parameter, Airflow 3 in the path; the part before it leads to the run.
    run_url = re.split("&task_id=|/tasks/", task_instance.log_url)[0]
    subject = f"{task_instance.dag_id}: {task_instance.task_id} failed"[:MAX_SUBJECT]
    lines = (
        f"Reason: {_reason(error)}",
        f"Next:   {advice.next_step}",
        f"More:   {runbook_link(advice.section)}",
        f"Task:   {task_instance.task_id} (try {task_instance.try_number})",
        f"Log:    {task_instance.log_url}",
        f"Run:    {context['run_id']}",
        f"In UI:  {run_url}",
        f"DAG:    {task_instance.dag_id}",
        "",
        advice.standing,
    )
    return subject, "\n".join(lines)


def _reason(error: object) -> str:
    # A task that was killed from outside leaves no exception.
    return str(error)[:MAX_REASON] if error else "no exception was recorded; see the log"
