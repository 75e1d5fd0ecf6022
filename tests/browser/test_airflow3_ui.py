"""Airflow 3's UI; its pages have other addresses and elements than those of Airflow 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect
from user import DAG, DESKTOP, LAPTOP, Started, started_project

from local_aws_support import connect

LISTENS = 50


@pytest.fixture(scope="module")
def started3(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """The pipeline under Airflow 3, with the sample data, and the dashboard."""
    with started_project(tmp_path_factory.mktemp("browser") / "project", version=3) as servers:
        yield servers


@pytest.fixture(scope="module")
def first_run3(started3: Started) -> dict[str, Any]:
    """The run that the scheduler starts by itself, on the sample data."""
    run = started3.wait_for_run(1)
    assert run["state"] == "success"
    return run


@pytest.fixture
def airflow3(started3: Started, open_page: Callable[..., Page]) -> Callable[..., Page]:
    """Logs in as a user does."""

    def log_in(size: Any = LAPTOP) -> Page:
        page = open_page(size=size)
        page.goto(started3.airflow)
        page.locator("input[name=username]").fill("admin")
        page.locator("input[name=password]").fill("admin")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name="Dags").first).to_be_visible()
        return page

    return log_in


def run_page(started: Started, run: dict[str, Any]) -> str:
    return f"{started.airflow}/dags/{DAG}/runs/{quote(run['dag_run_id'], safe='')}"


def open_note(page: Page) -> Locator:
    """Open the whole note of the run whose page is open, and return it."""
    page.get_by_role("button", name="Edit note").first.click()
    return page.get_by_role("dialog")


def test_run_that_is_triggered_in_the_ui_ends_green_with_a_note(
    started3: Started,
    first_run3: dict[str, Any],
    airflow3: Callable[..., Page],
    keep_screenshot: Callable[..., None],
) -> None:
    rows = [f"browser-{number},no-such-track,2024-06-27 10:00:00" for number in range(LISTENS)]
    body = "\n".join(["user_id,track_id,listen_time", *rows, ""]).encode()
    connect("s3", started3.aws).put_object(
        Bucket="music-streaming-source", Key="streams/by-browser.csv", Body=body
    )
    page = airflow3(DESKTOP)

    page.goto(f"{started3.airflow}/dags/{DAG}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    expect(form.get_by_text("Days to reprocess")).to_be_visible()
    expect(form.get_by_text("reprocessed").first).to_be_visible()
    keep_screenshot(page, "airflow3-trigger-form")
    form.get_by_role("button", name="Trigger", exact=True).click()
    run = started3.wait_for_run(2)

    assert (run["run_type"], run["state"]) == ("manual", "success")
    page.goto(run_page(started3, run))
    # The page shows one line of the note.
    expect(page.get_by_text("Run report: Files: 1 = 1 archived + 0 quarantined")).to_be_visible()
    keep_screenshot(page, "airflow3-run")
    note = open_note(page)
    for line in (
        "Files: 1 = 1 archived + 0 quarantined",
        f"Rows: {LISTENS} = {LISTENS} valid + 0 rejected",
        f"Valid rows: {LISTENS} new ({LISTENS} of them late) + 0 repeated",
    ):
        expect(note.get_by_text(line)).to_be_visible()
    keep_screenshot(page, "airflow3-run-note")


def test_note_of_the_first_run_counts_what_the_sample_holds_and_links_to_the_dashboard(
    started3: Started, first_run3: dict[str, Any], airflow3: Callable[..., Page]
) -> None:
    page = airflow3()

    page.goto(run_page(started3, first_run3))

    expect(page.get_by_text("Run report: Check warned: 1 file in quarantine")).to_be_visible()
    note = open_note(page)
    expect(note.get_by_text("Files: 5 = 4 archived + 1 quarantined")).to_be_visible()
    expect(note.get_by_text("Rows: 33,320 = 33,200 valid + 120 rejected")).to_be_visible()
    expect(note.get_by_role("link", name="This run in the dashboard")).to_be_visible()


def test_task_links_to_the_page_of_its_run(
    started3: Started, first_run3: dict[str, Any], airflow3: Callable[..., Page]
) -> None:
    page = airflow3()

    page.goto(f"{run_page(started3, first_run3)}/tasks/archive_streams_data/details")
    link = page.get_by_role("link", name="Run report")
    expect(link).to_be_visible()

    page.goto(str(link.get_attribute("href")))
    expect(page.get_by_role("heading", name="Pipeline")).to_be_visible()
    expect(page.get_by_text(first_run3["dag_run_id"]).first).to_be_visible()
    expect(page.get_by_text("33,320 = 33,200 valid + 120 rejected")).to_be_visible()


def test_graph_shows_groups_and_labels(
    started3: Started,
    first_run3: dict[str, Any],
    airflow3: Callable[..., Page],
    keep_screenshot: Callable[..., None],
) -> None:
    page = airflow3(DESKTOP)

    page.goto(run_page(started3, first_run3))
    page.get_by_role("button", name="Show Graph").first.click()

    graph = page.locator(".react-flow")
    for text in ("choose_input", "ingest", "reprocess", "compute", "archive", "new files", "dates"):
        expect(graph.get_by_text(text, exact=True).first).to_be_visible()
    page.get_by_role("button", name="Expand all task groups").first.click()
    for text in ("sense_streaming_data", "delete_files_from_intermediate_bucket"):
        expect(graph.get_by_text(text, exact=True).first).to_be_visible()
    keep_screenshot(page, "airflow3-graph")
