"""The pipeline's errors; each carries its section of docs/runbook.md and the next step.

They derive from Airflow's exceptions because Airflow uses the class to decide whether to retry. For that
reason they are not in `contract`, which needs only the standard library.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from airflow.exceptions import AirflowException, AirflowFailException

from helpers.contract.rejections import FileRejectedError as FileRejectedError


class Advice(NamedTuple):
    """The remedy for a failure: the runbook section (its anchor) and the first step.

    `standing` describes the state of the pipeline until then.
    """

    section: str
    next_step: str
    standing: str = (
        "Nothing is archived before a run's KPIs are stored, and any task may be cleared at any time."
    )


AWS_ADVICE = Advice(
    "aws-refused-or-did-not-answer",
    "Run make doctor. If AWS had a passing fault, clear the failed task; it resumes where it stopped.",
)
OTHER_ADVICE = Advice(
    "any-other-failure",
    "Read the task's log. Once the cause is fixed, clear the failed task and its downstream tasks.",
)


def advice_for(error: object) -> Advice:
    """Return the advice for a task's failure, given as exception, text or None."""
    if isinstance(error, PipelineError | RetryableError):
        return error.advice
    # These packages only raise errors of AWS calls.
    if type(error).__module__.startswith(("botocore", "boto3")):
        return AWS_ADVICE
    return OTHER_ADVICE


class PipelineError(AirflowFailException):
    """A failure that no retry can fix: Airflow fails the task immediately and shows the message."""

    advice: ClassVar[Advice] = OTHER_ADVICE


class RetryableError(AirflowException):
    """A failure that a retry of the task may resolve."""

    advice: ClassVar[Advice] = AWS_ADVICE


class ConfigurationError(PipelineError):
    """A setting is missing or wrong, or the resource that it names is."""

    advice = Advice(
        "a-setting-or-a-resource-is-missing",
        "Run make doctor, fix what it names, restart Airflow if a variable changed, clear the failed task.",
    )


class BadInputError(PipelineError):
    """The delivered files or the run's parameters make a correct run impossible."""


class CatalogError(BadInputError):
    """A catalog is missing or unusable."""

    advice = Advice(
        "a-catalog-is-missing-or-wrong",
        "Upload a correct catalog, then do what the reason says; the stream files wait in the source.",
    )


class NoValidRowsError(BadInputError):
    """No stream file of the run has a valid row."""

    advice = Advice(
        "no-file-has-a-valid-row",
        "Correct the files in quarantine and bring them back with the redrive command; clear nothing.",
        "The files are in quarantine with their reasons, the KPIs are unchanged, and this run is complete.",
    )


class ChecksStoppedError(BadInputError):
    """A check stopped the run before it published anything."""

    advice = Advice(
        "a-check-stopped-the-run",
        "Correct what the reason names, or accept it by the parameter accept_checks; trigger a new run.",
        "Nothing was written or archived; the stream files wait in the source. Clearing does not help.",
    )


class StreamsDeniedError(BadInputError):
    """S3 denies access to the run's stream files; none could be read."""

    advice = Advice(
        "no-stream-file-can-be-read",
        "Grant the right that is missing, then clear extract_and_combine_streams and its downstream tasks.",
    )


class ReprocessDatesError(BadInputError):
    """The parameter `reprocess_dates` does not name days, or names a day without listens."""

    advice = Advice(
        "the-days-to-reprocess-are-wrong",
        "Trigger a new run with days such as 2024-06-25,2024-06-26 that have listens.",
    )


class GlueJobFailedError(PipelineError):
    """The Glue job run ended in a state other than SUCCEEDED."""

    advice = Advice(
        "the-glue-job-failed",
        "Fix what the reason names, then clear the failed task and its downstream tasks.",
    )


class GlueStateUnknownError(RetryableError):
    """Airflow could not find out whether the Glue job run has ended."""

    advice = Advice(
        "the-state-of-the-glue-job-is-unknown",
        "Clear the failed task: it adopts the Glue job run if that is still in progress.",
    )


class ReconciliationError(PipelineError):
    """Counts or objects of two steps disagree, so nothing more is written or archived."""


class GlueOutputError(ReconciliationError):
    """The Glue job's output, the history and the table disagree."""

    advice = Advice(
        "glues-output-and-the-history-do-not-agree",
        "Clear trigger_glue_job and its downstream tasks: Glue then reads the present state.",
    )


class UsersForgottenError(ReconciliationError):
    """Users were forgotten after the run had listed its input, which may still hold them."""

    advice = Advice(
        "users-were-forgotten-during-the-run",
        "Once users are no longer being forgotten, trigger a new run: it takes the files that wait in "
        "streams/.",
        "The stream files wait in the source, without the forgotten users. Clearing does not help.",
    )


class HandoverError(ReconciliationError):
    """The objects that an earlier task of the run wrote are missing or incomplete."""

    advice = Advice(
        "what-an-earlier-task-left-is-missing",
        "Clear the task that the reason names, and its downstream tasks.",
    )


class CopyError(ReconciliationError):
    """The copy of an object differs from its source."""

    advice = Advice(
        "a-copy-differs-from-its-source",
        "Clear the failed task: it copies again; the source is still there.",
    )


class SourceFileVanishedError(ReconciliationError):
    """A source file's version disappeared before it was archived."""

    advice = Advice(
        "a-source-file-vanished",
        "Switch on versioning of the source bucket; the file's listens are in the history.",
    )
