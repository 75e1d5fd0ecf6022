"""The figures of a run's data quality and cost, which metrics, dashboard and commands show over time.

This is their only declaration. All of them come from the run report, so reading them needs no metrics of AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

# A number is unusual if it is more than this many times the usual one, or less than that fraction.
FAR_OFF = 2


class Figure(NamedTuple):
    """A figure of a run.

    Attributes:
        name: its key in `figures_of`.
        metric: its name in CloudWatch.
        unit: count, bytes, share (a fraction), hours, seconds, DPU-seconds or US dollars.
        label: its name for people, with the unit where the number does not show it.
        meaning: its definition.
        low_is_unusual: whether a low number is a problem; a high one is unusual in any case.
    """

    name: str
    metric: str
    unit: str
    label: str
    meaning: str
    low_is_unusual: bool = False


FIGURES = (
    Figure("files", "Files", "count", "Files", "Stream files", low_is_unusual=True),
    Figure("rows", "Rows", "count", "Rows", "Rows of the stream files", low_is_unusual=True),
    Figure("new", "NewListens", "count", "New listens", "Valid rows that count", low_is_unusual=True),
    Figure("repeated", "RepeatedListens", "count", "Repeated listens", "Valid rows that counted before"),
    Figure(
        "late",
        "LateListens",
        "count",
        "Late listens",
        "New listens of days that were over, and computed, when an earlier run listed its files",
    ),
    Figure(
        "freshness_hours",
        "FreshnessHours",
        "hours",
        "Newest listen, hours before the end",
        "Time from the newest accepted listen to the run's end",
    ),
    Figure("rejected", "RejectedRows", "count", "Rejected rows", "Rows that break a rule"),
    Figure("quarantined_bytes", "QuarantinedBytes", "bytes", "Quarantined", "Size of the quarantined files"),
    Figure(
        "unmatched_share",
        "UnmatchedShare",
        "share",
        "Unmatched share",
        "Share of the days' listens whose track, or whose user, no catalog has; the larger of the two",
    ),
    Figure(
        "duration_seconds",
        "Duration",
        "seconds",
        "Duration, seconds",
        "Time from listing the files to writing the report",
    ),
    Figure(
        "dpu_seconds",
        "GlueDpuSeconds",
        "DPU-seconds",
        "Glue, DPU-seconds",
        "Capacity that the Glue job runs used, multiplied by its time",
    ),
    Figure("glue_usd", "GlueCostUsd", "US dollars", "Glue, US dollars", "Estimated cost of the DPU-seconds"),
)


def figures_of(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures of a run report by name; None for a figure that the report does not have."""
    totals, completed_at = report["totals"], datetime.fromisoformat(report["completed_at"])
    newest = report.get("newest_listen")
    unmatched = [
        check["value"] for check in report.get("checks", []) if check["name"].startswith("unmatched_")
    ]
    glue = report.get("glue") or {}
    return {
        "files": totals["files"],
        "rows": totals["rows"],
        "new": totals.get("new"),
        "rejected": totals["rejected"],
        "quarantined_bytes": sum(
            file.get("size", 0) for file in report["files"] if file["disposition"] == "quarantine"
        ),
        "repeated": totals.get("repeated"),
        "late": totals.get("late"),
        "unmatched_share": max(unmatched, default=None),
        "freshness_hours": _seconds(newest, completed_at) / 3600 if newest else None,
        "duration_seconds": _seconds(report["frozen_at"], completed_at),
        "dpu_seconds": glue.get("dpu_seconds"),
        "glue_usd": glue.get("estimated_usd"),
    }


def _seconds(begin: str, end: datetime) -> float:
    return (end - datetime.fromisoformat(begin)).total_seconds()
