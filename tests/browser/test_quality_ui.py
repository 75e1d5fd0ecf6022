from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from user import PHONE, assert_within_its_edges, chart, running_app, settled

from helpers.contract.figures import FIGURES
from kpi_table_support import make_table
from local_aws_support import PYTHON, REPOSITORY, connect, running_server
from quality_support import thirty_reports

BUCKET, SOURCE, TABLE = "archive-of-thirty-runs", "source", "kpis"


@pytest.fixture(scope="module")
def dashboard(browser: Browser) -> Iterator[str]:
    """The dashboard on an archive with the reports of thirty runs, of which one is bad."""
    with running_server(python=PYTHON, PYTHONPATH=str(REPOSITORY)) as (aws, _):
        s3 = connect("s3", aws)
        for bucket in (BUCKET, SOURCE):
            s3.create_bucket(Bucket=bucket)
        for report in thirty_reports():
            key = f"runs/{report['run_key']}/report.json"
            s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(report))
        make_table(connect("dynamodb", aws), TABLE)
        variables = {"ARCHIVE_BUCKET_NAME": BUCKET, "SOURCE_BUCKET_NAME": SOURCE, "KPI_TABLE_NAME": TABLE}
        with running_app(aws, **variables) as address:
            yield address


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1024, PHONE["width"]])
def test_bad_run_of_thirty_is_marked_by_word_at_every_width_in_light_and_dark(
    dashboard: str,
    open_page: Callable[..., Page],
    keep_screenshot: Callable[..., None],
    scheme: str,
    width: int,
) -> None:
    page = open_page(scheme, {"width": width, "height": 900})
    page.goto(f"{dashboard}/pipeline")
    settled(page)
    page.get_by_role("combobox", name="Newest runs").click()
    page.get_by_role("option", name="50", exact=True).click()
    settled(page)

    expect(page.get_by_text("30 runs of new files")).to_be_visible()
    words: dict[str, Any] = {}
    for figure in FIGURES:
        # A later chart has Rows as the unit below its title.
        drawn = chart(page, figure.label).first
        expect(drawn).to_be_visible()
        assert_within_its_edges(drawn)
        texts = drawn.locator("svg text").all_text_contents()
        words[figure.name] = [word for word in texts if word in ("low", "high")]
    assert_within_its_edges(chart(page, "Verdicts of checks"))
    assert words == {
        **{name: ["low"] for name in ("files", "rows", "new")},
        **{name: ["high"] for name in ("late", "freshness_hours", "rejected", "quarantined_bytes")},
        **{name: ["high"] for name in ("unmatched_share", "dpu_seconds", "glue_usd")},
        "repeated": [],
        "duration_seconds": [],
    }
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    keep_screenshot(page, f"dashboard-quality-{scheme}-{width}", height=height)
