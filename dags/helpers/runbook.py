"""Which section of docs/runbook.md a failure belongs to, and the next step in a sentence."""

from __future__ import annotations

import re
from typing import NamedTuple

from helpers.config import setting
from helpers.errors import ConfigurationError

RUNBOOK = "docs/runbook.md"


class Advice(NamedTuple):
    """A section of the runbook, by its anchor, what to do first, and how things stand meanwhile."""

    section: str
    next_step: str
    standing: str = (
        "Nothing is archived before a run's KPIs are stored, and any task may be cleared at any time."
    )

    @property
    def link(self) -> str:
        """The runbook's address, RUNBOOK_URL, or else its path in the project, with the section's anchor."""
        return f"{setting('RUNBOOK_URL', RUNBOOK)}#{self.section}"


SETTINGS = Advice(
    "a-setting-or-a-resource-is-missing",
    "Run make doctor, mend what it names, restart Airflow if a variable changed, clear the failed task.",
)
AWS = Advice(
    "aws-refused-or-did-not-answer",
    "Run make doctor. If AWS had a passing fault, clear the failed task; it goes on where it stopped.",
)
ANY_OTHER = Advice(
    "any-other-failure",
    "Read the task's log. Once the cause is mended, clear the failed task and what follows it.",
)
# By how the message begins, for what it quotes from elsewhere must not count; the first that fits counts.
_BY_MESSAGE = {
    r"The \S+ catalog .* cannot be used|No CSV file under s3://": Advice(
        "a-catalog-is-missing-or-wrong",
        "Upload a correct catalog, then do what the reason says; the stream files wait in the source.",
    ),
    r"None of \S+ stream files has a valid row": Advice(
        "no-file-has-a-valid-row",
        "Correct the files in quarantine and bring them back with the redrive command; clear nothing.",
        "The files are in quarantine with their reasons, the KPIs are unchanged, and this run is complete.",
    ),
    r"reprocess_dates has|No listens of": Advice(
        "the-days-to-compute-again-are-wrong",
        "Trigger a new run with days such as 2024-06-25,2024-06-26 that have listens.",
    ),
    r"The state of Glue job run|The trigger sent no event": Advice(
        "the-state-of-the-glue-job-is-unknown",
        "Clear the failed task: it adopts the Glue job run if that still goes on.",
    ),
    r"Glue job run \S+ of \S+ ended": Advice(
        "the-glue-job-failed",
        "Mend what the reason names, then clear the failed task and what follows it.",
    ),
    r".*Clear trigger_glue_job": Advice(
        "glues-output-and-the-history-do-not-agree",
        "Clear trigger_glue_job and what follows it: Glue computes again from what is there now.",
    ),
    r"s3://.* is not equal to its source": Advice(
        "a-copy-differs-from-its-source",
        "Clear the failed task: it copies again; the source is still there.",
    ),
    r"s3://.* changed or vanished before it was archived": Advice(
        "a-source-file-vanished",
        "Switch on versioning of the source bucket; the file's listens are in the history.",
    ),
    r".*[Cc]lear (extract_and_combine_streams|list_stream_files|the task |archive_streams)"
    r"|Copies are missing": Advice(
        "what-an-earlier-task-left-is-missing",
        "Clear the task that the reason names, and what follows it.",
    ),
    r"\S+ objects of s3://\S+ were not deleted|s3://.* is being written by|.*could not be checked": AWS,
}


def advice_for(error: object) -> Advice:
    """Return the advice for what a task failed with: an exception, its text, or None."""
    if isinstance(error, ConfigurationError):
        return SETTINGS
    for pattern, advice in _BY_MESSAGE.items():
        if re.match(pattern, str(error), re.DOTALL):
            return advice
    # Both name the library that a failing call of AWS comes from.
    if type(error).__module__.startswith(("botocore", "boto3")):
        return AWS
    return ANY_OTHER


def all_advice() -> set[Advice]:
    """Return every advice that `advice_for` can give."""
    return {SETTINGS, AWS, ANY_OTHER, *_BY_MESSAGE.values()}
