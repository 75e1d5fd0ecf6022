from __future__ import annotations

import re

from helpers.contract.glue_cost import USD_PER_DPU_HOUR, cost_in_words, dpu_seconds, estimated_usd
from local_aws_support import REPOSITORY


def test_dpu_seconds_of_auto_scaling_are_those_that_glue_reports() -> None:
    assert dpu_seconds({"DPUSeconds": 137.5, "MaxCapacity": 10.0, "ExecutionTime": 60}) == 137.5


def test_run_without_auto_scaling_holds_its_capacity_all_the_time() -> None:
    assert dpu_seconds({"MaxCapacity": 10.0, "ExecutionTime": 60}) == 600
    assert dpu_seconds({"JobRunState": "STARTING"}) == 0


def test_an_hour_of_a_dpu_costs_its_price() -> None:
    assert estimated_usd(3600) == USD_PER_DPU_HOUR
    assert cost_in_words(1800.4, estimated_usd(1800.4)) == "1,800 DPU-seconds, about 0.220 US dollars"


def test_price_is_that_of_the_page_on_costs() -> None:
    page = (REPOSITORY / "docs" / "costs.md").read_text()

    assert re.findall(r"^\| Glue, a DPU-hour .*\| ([\d.]+) \|$", page, re.MULTILINE) == [
        f"{USD_PER_DPU_HOUR:g}"
    ]
