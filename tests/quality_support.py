"""Reports of thirty daily runs, of which one is bad; needs only the standard library."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

FIRST = datetime(2024, 6, 1, 2, tzinfo=UTC)
# Position of the bad run, from 0 on.
BAD = 24


def thirty_reports() -> list[dict[str, Any]]:
    """Return the reports, oldest first.

    Each run takes the listens of the day before, two hours after its end. The bad one got a few files late:
    old listens, most of another sender's file in quarantine, and tracks that no catalog has.
    """
    chance = random.Random(20)
    return [_report(number, chance) for number in range(30)]


def _report(number: int, chance: random.Random) -> dict[str, Any]:
    bad = int(number == BAD)
    began = FIRST + timedelta(days=number, minutes=chance.randrange(20))
    seconds = chance.randrange(170, 260) if not bad else 205
    files = 24 if not bad else 7
    rows = chance.randrange(28_000, 36_000) if not bad else 6_120
    rejected = chance.randrange(20, 90) if not bad else 2_410
    repeated = chance.randrange(150, 400)
    new = rows - rejected - repeated
    unmatched = round(chance.uniform(0.004, 0.011), 6) if not bad else 0.163
    dpu_seconds = float(chance.randrange(150, 240)) if not bad else 690.0
    newest = began - timedelta(hours=2, minutes=chance.randrange(1, 30))
    quarantined = [
        {
            "key": "streams/partner.csv",
            "disposition": "quarantine",
            "size": 118_400,
            "rows": 2_380,
            "valid": 0,
            "rejected": 2_380,
            "rejected_by_reason": {"invalid listen_time": 2_380},
            "destination": f"quarantine/run-{number:02}/partner__1.csv",
            "reason": "2,380 of 2,380 rows are bad: invalid listen_time",
        }
    ] * bad
    checks = [
        _check("quarantined_bytes_fraction", 0.31 * bad, 0.5),
        _check("quarantined_files", bad, 0, "1 file in quarantine (streams/partner.csv)"),
        _check(
            "rejected_rows", rejected if number % 6 == 1 or bad else 0, 0, f"{rejected} rows in quarantine"
        ),
        _check("catalog_age_days", number % 12 * 3, 30, f"The catalog is {number % 12 * 3} days old"),
        _check("unmatched_tracks_fraction", unmatched, 0.15, f"{unmatched:.1%} of the tracks are unknown"),
        _check("unmatched_users_fraction", unmatched / 3, 0.15),
        _check("days_far_from_usual", bad, 0, "1 unusual day"),
    ]
    if bad:
        checks[4]["verdict"] = "accepted"
    return {
        "schema_version": 1,
        "run_key": f"run-{number:02}",
        "dag_run_id": f"scheduled__{began:%Y-%m-%d}",
        "frozen_at": began.isoformat(),
        "completed_at": (began + timedelta(seconds=seconds)).isoformat(),
        "status": "complete",
        "totals": {
            "files": files,
            "archived": files - bad,
            "quarantined": bad,
            "left": 0,
            "rows": rows,
            "valid": rows - rejected,
            "rejected": rejected,
            "rejected_by_reason": {"invalid listen_time": rejected - 7, "empty user_id": 7},
            "new": new,
            "repeated": repeated,
            "late": chance.randrange(10, 60) if not bad else 2_950,
        },
        "days": {f"{began - timedelta(days=1):%Y-%m-%d}": {"total": new}},
        "files": quarantined,
        "ignored_keys": [],
        "catalogs": {},
        "checks": checks,
        "accept_checks": bool(bad),
        "reprocess_dates": [],
        "kpi_items_written": 115,
        "kpi_items_deleted": 0,
        "newest_listen": (newest - timedelta(hours=27) * bad).isoformat(),
        "glue": {
            "job_runs": 1 + bad,
            "dpu_seconds": dpu_seconds,
            "estimated_usd": round(dpu_seconds / 3600 * 0.44, 6),
        },
    }


def _check(name: str, value: float, limit: float, message: str = "") -> dict[str, Any]:
    exceeded = value > limit
    return {
        "name": name,
        "value": value,
        "limit": limit,
        "verdict": "warned" if exceeded else "passed",
        "message": message if exceeded else "",
    }
