from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from pipeline_support import RUN_KEY, Pipeline, Wire, answer

from helpers.run.glue_job_runs import read_glue_usage

OTHER = "another-batch"


def job_run(name: str, batch_id: str, **fields: Any) -> dict[str, Any]:
    return {"Id": name, "StartedOn": 1_719_360_000, "Arguments": {"--BATCH_ID": batch_id}, **fields}


def test_usage_adds_up_every_job_run_of_the_batch(pipeline: Pipeline, wire: Wire) -> None:
    runs = [
        job_run("jr_3", OTHER, DPUSeconds=5000.0),
        job_run("jr_2", RUN_KEY, DPUSeconds=120.0, JobRunState="SUCCEEDED"),
        job_run("jr_1", RUN_KEY, MaxCapacity=2.0, ExecutionTime=30, JobRunState="FAILED"),
        {"Id": "jr_0", "StartedOn": 1_719_350_000},
    ]
    wire.once("AWSGlue.GetJobRuns", answer(200, json.dumps({"JobRuns": runs})))

    assert read_glue_usage(pipeline.config, RUN_KEY) == {
        "job_runs": 2,
        "dpu_seconds": 180.0,
        "estimated_usd": 0.022,
    }


def test_run_without_a_glue_job_used_nothing(pipeline: Pipeline) -> None:
    assert read_glue_usage(pipeline.config, RUN_KEY) == {
        "job_runs": 0,
        "dpu_seconds": 0,
        "estimated_usd": 0,
    }


def test_glue_that_refuses_leaves_the_usage_unknown(
    pipeline: Pipeline, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    wire.once("AWSGlue.GetJobRuns", answer(400, '{"__type": "AccessDeniedException"}'))

    with caplog.at_level(logging.WARNING):
        assert read_glue_usage(pipeline.config, RUN_KEY) is None

    assert "The report will lack the cost of Glue's job" in caplog.text
