from __future__ import annotations

import pytest

from helpers.contract.figures import FIGURES, figures_of
from local_aws_support import REPOSITORY
from quality_support import BAD, thirty_reports

# Fields that reports did not always have.
LATER_FIELDS = {"newest_listen", "glue", "schema_version"}


def test_figures_are_those_of_the_report() -> None:
    figures = figures_of(thirty_reports()[BAD])

    assert {name: figures[name] for name in ("files", "rows", "new", "repeated", "late", "rejected")} == {
        "files": 7,
        "rows": 6_120,
        "new": 3_560,
        "repeated": 150,
        "late": 2_950,
        "rejected": 2_410,
    }
    assert figures["quarantined_bytes"] == 118_400
    assert figures["unmatched_share"] == 0.163, "the share of tracks is larger than that of users"
    assert figures["freshness_hours"] == pytest.approx(29.49, abs=0.01)
    assert figures["duration_seconds"] == 205
    assert (figures["dpu_seconds"], figures["glue_usd"]) == (690, 0.084333)


def test_older_report_lacks_only_the_figures_that_it_cannot_have() -> None:
    report = {name: value for name, value in thirty_reports()[0].items() if name not in LATER_FIELDS}
    del report["totals"]["late"]

    figures = figures_of(report)

    absent = {name for name, value in figures.items() if value is None}
    assert absent == {"late", "freshness_hours", "dpu_seconds", "glue_usd"}


def test_every_declared_figure_has_a_value_and_a_metric_of_its_own() -> None:
    assert figures_of(thirty_reports()[0]).keys() == {figure.name for figure in FIGURES}
    assert len({figure.metric for figure in FIGURES}) == len(FIGURES)


def test_page_on_data_has_every_figure_with_its_metric() -> None:
    page = (REPOSITORY / "docs" / "data.md").read_text()

    for figure in FIGURES:
        assert f"| {figure.label} | `{figure.metric}` | {figure.meaning} |\n" in page
