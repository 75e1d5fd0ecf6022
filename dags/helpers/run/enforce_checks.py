"""Lets a run continue after its checks, or stops it and stores the checks for diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.contract.records import Check
from helpers.errors import ChecksStoppedError
from helpers.run.checks import stop_unless_passed
from helpers.run.store import RunStore


def enforce_checks(run: RunStore, checks: Sequence[Check], accepted: bool) -> list[Check]:
    """Apply `stop_unless_passed`; if it stops the run, store the checks beside the run's manifest first.

    A stopped run has no report, so the checks would be lost otherwise.

    Raises:
        ChecksStoppedError: a check stops the run.
    """
    try:
        return stop_unless_passed(checks, accepted)
    except ChecksStoppedError:
        run.write_stopped_checks(list(checks))
        raise
