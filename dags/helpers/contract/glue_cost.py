"""The capacity that Glue job runs use, and its cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Glue's list price, which is an assumption; docs/costs.md names its region and year.
USD_PER_DPU_HOUR = 0.44


def dpu_seconds(job_run: Mapping[str, Any]) -> float:
    """Return the DPU-seconds of a job run, which GetJobRun describes.

    With auto scaling, Glue reports them. Without it, a run holds its whole capacity all the time.
    """
    reported = job_run.get("DPUSeconds")
    if reported is None:
        reported = job_run.get("MaxCapacity", 0) * job_run.get("ExecutionTime", 0)
    return float(reported)


def estimated_usd(seconds: float) -> float:
    """Return the estimated cost of DPU-seconds in US dollars, without Glue's minimum of a minute."""
    return round(seconds / 3600 * USD_PER_DPU_HOUR, 6)


def cost_in_words(seconds: float, usd: float) -> str:
    """Return the DPU-seconds and their estimated cost for people."""
    return f"{seconds:,.0f} DPU-seconds, about {usd:.3f} US dollars"
