from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect
from user import DAG, DESKTOP, LAPTOP, Started

GREEN = "rgb(0, 128, 0)"
PINK = "rgb(255, 105, 180)"
SKIPPED = "prepare_reprocessing"
LISTENS = 50


@pytest.fixture
def airflow(started: Started, open_page: Callable[..., Page]) -> Callable[..., Page]:
    """Logs in as a user does."""

    def log_in(size: Any = LAPTOP) -> Page:
        page = open_page(size=size)
        page.goto(started.airflow)
        page.get_by_label("Username").or_(page.locator("#username")).first.fill("admin")
        page.locator("#password").fill("admin")
        page.get_by_role("button", name="Sign In").or_(page.locator("input[type=submit]")).first.click()
        expect(page.get_by_role("link", name=DAG).first).to_be_visible()
        return page

    return log_in


def test_run_that_is_triggered_in_the_ui_ends_green_with_a_note(
    started: Started,
    first_run: dict[str, Any],
    s3: Any,
    airflow: Callable[..., Page],
    keep_screenshot: Callable[..., None],
) -> None:
    # The dashboard's tests do not use this day, which the first run computed, so these listens are late.
    rows = [f"browser-{number},no-such-track,2024-06-27 10:00:00" for number in range(LISTENS)]
    body = "\n".join(["user_id,track_id,listen_time", *rows, ""]).encode()
    s3.put_object(Bucket="music-streaming-source", Key="streams/by-browser.csv", Body=body)
    page = airflow(DESKTOP)

    page.goto(f"{started.airflow}/dags/{DAG}/trigger")
    expect(page.get_by_text("Days to reprocess")).to_be_visible()
    expect(page.get_by_text("reprocessed").first).to_be_visible()
    keep_screenshot(page, "airflow-trigger-form", height=1500)
    page.get_by_role("button", name="Trigger", exact=True).click()
    expect(page.get_by_text(f"Triggered {DAG} with new Run ID")).to_be_visible()
    run = started.wait_for_run(2)

    assert run["run_type"] == "manual"
    instances = started.api(f"dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"]
    assert {instance["state"] for instance in instances if instance["task_id"] != SKIPPED} == {"success"}
    page.goto(f"{started.airflow}/dags/{DAG}/grid")
    page.get_by_role("button", name="Expand all task groups").first.click()
    # The last column is the newest run; failed and waiting tasks have another colour.
    rows_of_tasks = page.locator("tr").filter(has=page.locator("[data-testid=task-instance]"))
    expect(rows_of_tasks).to_have_count(15)
    colours = [
        row.locator("[data-testid=task-instance]").last.evaluate("e => getComputedStyle(e).backgroundColor")
        for row in rows_of_tasks.all()
    ]
    assert colours.count(GREEN) == 13
    assert colours.count(PINK) == 2, "the group of the other way, and its task"
    page.locator("[data-testid=run]").last.click()
    for line in (
        "Files: 1 = 1 archived + 0 quarantined",
        f"Rows: {LISTENS} = {LISTENS} valid + 0 rejected",
        f"Valid rows: {LISTENS} new ({LISTENS} of them late) + 0 repeated",
    ):
        expect(page.get_by_text(line)).to_be_visible()
    page.mouse.move(0, 0)
    keep_screenshot(page, "airflow-run-note")


def test_connections_that_a_browser_opens_in_advance_do_not_hold_up_the_ui(
    started: Started, first_run: dict[str, Any]
) -> None:
    address = urlsplit(started.airflow)

    with contextlib.ExitStack() as unused:
        for _ in range(3):
            unused.enter_context(socket.create_connection((address.hostname, address.port)))
        answer = started.api(f"dagRuns/{first_run['dag_run_id']}")

    assert answer["state"] == "success"


def test_note_of_the_first_run_counts_what_the_sample_holds(
    started: Started,
    first_run: dict[str, Any],
    airflow: Callable[..., Page],
    keep_screenshot: Callable[..., None],
) -> None:
    page = airflow()

    page.goto(f"{started.airflow}/dags/{DAG}/grid?dag_run_id={first_run['dag_run_id'].replace('+', '%2B')}")

    expect(page.get_by_text("Files: 5 = 4 archived + 1 quarantined")).to_be_visible()
    expect(page.get_by_text("Rows: 33,320 = 33,200 valid + 120 rejected")).to_be_visible()
    expect(page.get_by_role("link", name="This run in the dashboard")).to_be_visible()
    keep_screenshot(page, "airflow-first-run-note")


def test_task_logs_of_a_green_run_have_no_warning_but_of_the_data(
    started: Started, first_run: dict[str, Any]
) -> None:
    logs = (
        started.project
        / ".local"
        / "airflow"
        / "logs"
        / f"dag_id={DAG}"
        / f"run_id={first_run['dag_run_id']}"
    )
    lines = [line for log in logs.rglob("*.log") for line in log.read_text().splitlines()]

    assert any("Poking for key" in line for line in lines)
    assert [line for line in lines if " WARNING - " in line and "streams5.csv: quarantine" not in line] == []
    looks = (logs / "task_id=sense_streaming_data" / "attempt=1.log").read_text().split("::endgroup::")[1]
    # Airflow's own lines about the end of the task follow.
    assert [line.split(" - ")[1] for line in looks.splitlines()[1:3]] == [
        "Poking for key : s3://music-streaming-source/streams/*",
        "Success criteria met. Exiting.",
    ]


def test_task_links_to_the_page_of_its_run(
    started: Started,
    first_run: dict[str, Any],
    airflow: Callable[..., Page],
    keep_screenshot: Callable[..., None],
) -> None:
    page = airflow()
    run_id = first_run["dag_run_id"].replace("+", "%2B")

    page.goto(f"{started.airflow}/dags/{DAG}/grid?dag_run_id={run_id}&task_id=archive_streams_data")
    link = page.get_by_role("link", name="Run report")
    expect(link).to_be_visible()

    page.goto(str(link.get_attribute("href")))
    expect(page.get_by_role("heading", name="Pipeline")).to_be_visible()
    expect(page.get_by_text(first_run["dag_run_id"]).first).to_be_visible()
    expect(page.get_by_text("33,320 = 33,200 valid + 120 rejected")).to_be_visible()
    keep_screenshot(page, "airflow-link-to-the-dashboard", height=1200)


def test_graph_shows_groups_and_labels(
    started: Started,
    first_run: dict[str, Any],
    airflow: Callable[..., Page],
    keep_screenshot: Callable[..., None],
) -> None:
    page = airflow(DESKTOP)

    page.goto(f"{started.airflow}/dags/{DAG}/grid?tab=graph")

    graph = page.locator(".react-flow")
    for text in (
        "choose_input",
        "ingest",
        "reprocess",
        "compute",
        "archive",
        "new files",
        "dates",
    ):
        expect(graph.get_by_text(text, exact=True).first).to_be_visible()
    keep_screenshot(page, "airflow-graph")
    page.set_viewport_size({"width": 1440, "height": 1300})
    page.get_by_role("button", name="Expand all task groups").first.click()
    page.wait_for_timeout(1_000)
    page.locator(".react-flow__controls-fitview").click()
    for text in ("sense_streaming_data", "delete_files_from_intermediate_bucket"):
        expect(graph.get_by_text(text, exact=True).first).to_be_visible()
    keep_screenshot(page, "airflow-graph-expanded")
