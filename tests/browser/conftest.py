"""The servers of `make up` and `make dashboard` in a copy of the project, and a browser for their pages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from user import LAPTOP, Started, started_project

from local_aws_support import REPOSITORY, connect

SCREENSHOTS = REPOSITORY / ".local" / "screenshots"
BROWSERS = ("chromium", "chromium-browser")
# The browser must send no requests of its own.
CHROMIUM_ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Charts and big pages load slowly on a machine that runs Spark meanwhile.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def started(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """The pipeline under a scheduler with the sample data, and the dashboard, on free ports.

    The browser comes first, since nothing needs to start without one.
    """
    with started_project(tmp_path_factory.mktemp("browser") / "project") as servers:
        yield servers


@pytest.fixture(scope="session")
def first_run(started: Started) -> dict[str, Any]:
    """The run that the scheduler starts by itself, on the sample data."""
    run = started.wait_for_run(1)
    assert run["state"] == "success"
    return run


@pytest.fixture(scope="session")
def dynamodb(started: Started) -> Any:
    return connect("dynamodb", started.aws)


@pytest.fixture(scope="session")
def s3(started: Started) -> Any:
    return connect("s3", started.aws)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.fail(
            f"These tests need Chromium, and neither {' nor '.join(BROWSERS)} is on PATH. "
            "On Debian and Ubuntu: apt-get install chromium"
        )
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page in its own browser context; by default it has laptop size and the light scheme."""
    contexts = []

    def open_page(scheme: Any = "light", size: Any = LAPTOP) -> Page:
        context = browser.new_context(color_scheme=scheme, viewport=size, locale="en-GB", timezone_id="UTC")
        contexts.append(context)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def keep_screenshot() -> Callable[..., None]:
    """Saves a screenshot of the page, whose viewport first gets the `height`, if one is given."""

    def keep(page: Page, name: str, *, height: int | None = None) -> None:
        # Numbers fade in, and the page draws its charts last.
        page.wait_for_timeout(1_000)
        if height and page.viewport_size:
            page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
            page.wait_for_timeout(500)
        page.screenshot(path=SCREENSHOTS / f"{name}.png")

    return keep
