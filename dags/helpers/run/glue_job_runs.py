"""The Glue job runs of a batch, and the capacity that they used."""

from __future__ import annotations

import logging
from typing import Any

from helpers.aws.clients import glue_client
from helpers.contract.glue_cost import dpu_seconds, estimated_usd
from helpers.contract.records import GlueUsage
from helpers.contract.settings import PipelineConfig

logger = logging.getLogger(__name__)


def list_job_runs(glue: Any, job_name: str, batch_id: str) -> list[dict[str, Any]]:
    """Return Glue's descriptions of the batch's job runs, newest first."""
    try:
        pages = glue.get_paginator("get_job_runs").paginate(JobName=job_name)
        runs = [run for page in pages for run in page["JobRuns"]]
    except glue.exceptions.EntityNotFoundException:
        return []
    own = [run for run in runs if run.get("Arguments", {}).get("--BATCH_ID") == batch_id]
    return sorted(own, key=lambda run: run["StartedOn"], reverse=True)


def read_glue_usage(config: PipelineConfig, batch_id: str) -> GlueUsage | None:
    """Return the capacity that the batch's job runs used, failed ones too; None if Glue cannot be asked.

    A failure to ask is only logged: the files are archived without knowing the cost.
    """
    try:
        runs = list_job_runs(glue_client(), config.glue_job_name, batch_id)
    except Exception:
        logger.warning("The report will lack the cost of Glue's job %s", config.glue_job_name, exc_info=True)
        return None
    seconds = sum(map(dpu_seconds, runs))
    return GlueUsage(job_runs=len(runs), dpu_seconds=seconds, estimated_usd=estimated_usd(seconds))
