"""Errors that no retry can mend: Airflow fails the task at once and shows the message."""

from airflow.exceptions import AirflowFailException


class ConfigurationError(AirflowFailException):
    """A setting or a resource that it names is missing or wrong."""


class BadInputError(AirflowFailException):
    """The delivered files make a correct run impossible."""


class ReconciliationError(AirflowFailException):
    """Counts or objects of two steps do not agree; nothing is written or archived on top of that."""


class FileRejectedError(ValueError):
    """A CSV file cannot be used as a whole; the message says why."""
