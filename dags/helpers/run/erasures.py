"""Records of forgotten users (include/forget): which runs may not store, and what the days have lost."""

from __future__ import annotations

from datetime import datetime, timedelta

from helpers.aws.s3_objects import list_modified, read_json
from helpers.contract.keys import ERASURES_PREFIX, REFUSED_USERS_KEY
from helpers.contract.records import Erasure, RefusedUsers
from helpers.errors import UsersForgottenError
from helpers.run.store import RunStore

# The clocks of S3, of Airflow and of whoever forgets users may differ by minutes.
_CLOCKS = timedelta(hours=1)


def refuse_if_users_were_forgotten(run: RunStore, frozen_at: str) -> None:
    """Refuse a run that read its input before users were forgotten: it would bring their listens back.

    Raises:
        UsersForgottenError: users are being forgotten, or were after `frozen_at`.
    """
    for erasure in _erasures_after(run, frozen_at):
        if erasure["finished_at"] is None:
            raise UsersForgottenError(
                f"Users are being forgotten since {erasure['started_at']}, and run {run.run_key} may have "
                "read their listens. If that was interrupted, python -m include.forget finishes it. Then "
                "trigger a new run."
            )
        raise UsersForgottenError(
            f"Users were forgotten at {erasure['finished_at']}, after run {run.run_key} had listed its "
            "input, so it may have read their listens. Trigger a new run."
        )


def erased_listens(run: RunStore, day: str, since: str) -> int:
    """Return how many listens of the day's history were erased after `since`."""
    return sum(erasure["days"].get(day, 0) for erasure in _erasures_after(run, since))


def read_refused_users(run: RunStore) -> RefusedUsers | None:
    """Return the forgotten users whose later files are refused, or None if nobody asked for that."""
    refused: RefusedUsers | None = read_json(run.s3, run.config.archive_bucket, REFUSED_USERS_KEY)
    return refused


def _erasures_after(run: RunStore, instant: str) -> list[Erasure]:
    """Return the erasures that ended after the instant or have not ended."""
    after = datetime.fromisoformat(instant)
    bucket = run.config.archive_bucket
    found: list[Erasure] = [
        read_json(run.s3, bucket, key)
        for key, modified in list_modified(run.s3, bucket, ERASURES_PREFIX).items()
        if modified > after - _CLOCKS
    ]
    return [
        erasure
        for erasure in found
        if erasure["finished_at"] is None or datetime.fromisoformat(erasure["finished_at"]) > after
    ]
