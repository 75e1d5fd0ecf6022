from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from user import (
    DESKTOP,
    LAPTOP,
    PHONE,
    Started,
    assert_within_its_edges,
    chart,
    running_app,
    settled,
)

from kpi_oracle import Items, kpi_items_of_folder
from kpi_table_support import make_table

DAYS = ("2024-06-25", "2024-06-26")
TITLES = {"2024-06-25": "Tuesday, 25 June 2024", "2024-06-26": "Wednesday, 26 June 2024"}


@pytest.fixture(scope="session")
def known(started: Started, first_run: dict[str, Any]) -> Items:
    """The KPIs of the sample data, computed from its files without the pipeline."""
    folder = started.project / ".local" / "sample_data"
    rejected = [
        f"streams/{path.name}"
        for path in (folder / "streams").iterdir()
        if "listen_time" not in path.read_text().splitlines()[0]
    ]
    return kpi_items_of_folder(folder, rejected)


def choose_day(page: Page, day: str) -> None:
    page.get_by_role("spinbutton", name="day, Day (UTC)").click()
    page.get_by_role("button", name=f"{int(day[-2:])} June 2024").click()


def assert_shows_day(page: Page, known: Items, day: str) -> None:
    totals = known[day, "ALL_GENRES"]
    expect(page.get_by_role("heading", name=TITLES[day])).to_be_visible()
    values = page.locator("[data-testid=stMetricValue]")
    expect(values).to_have_text(
        [
            f"{totals['listen_count']:,}",
            f"{totals['unique_listeners']:,}",
            f"{totals['total_listening_time'] / 60:,.1f} h",
            f"{totals['avg_listening_time_per_user']:,.1f} min",
        ]
    )
    for genre in totals["top_5_genres_per_day"]:
        bars = chart(page, "Top genres")
        expect(bars.get_by_text(genre["track_genre"], exact=True)).to_be_visible()
        expect(bars.get_by_text(f"{genre['listen_count']:,}", exact=True).first).to_be_visible()
    for country in totals["top_5_countries_per_day"]:
        label = f"{country['listen_count']:,} · {country['unique_listeners']:,} listeners"
        expect(chart(page, "Top countries").get_by_text(label, exact=True)).to_be_visible()


def assert_shows_songs(page: Page, known: Items, day: str, genre: str) -> None:
    bars = chart(page, f"Top songs of {genre}")
    expect(bars).to_be_visible()
    for song in known[day, genre]["top_3_songs_per_genre"]:
        expect(bars.get_by_text(f"{song['listen_count']:,}", exact=True).first).to_be_visible()


def test_day_and_genre_that_are_chosen_are_shown_with_the_numbers_of_the_sample(
    started: Started, known: Items, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.goto(f"{started.dashboard}/?day={DAYS[0]}")
    settled(page)
    expect(page).to_have_url(re.compile(rf"/day\?day={DAYS[0]}"))
    genres = [entry["track_genre"] for entry in known[DAYS[0], "ALL_GENRES"]["top_5_genres_per_day"]]

    assert_shows_day(page, known, DAYS[0])
    assert_shows_songs(page, known, DAYS[0], genres[0])

    choose_day(page, DAYS[1])
    assert_shows_day(page, known, DAYS[1])

    page.get_by_role("combobox", name="Genre").click()
    page.keyboard.type(genres[2])
    page.get_by_role("option", name=genres[2]).click()
    assert_shows_songs(page, known, DAYS[1], genres[2])
    assert f"day={DAYS[1]}" in page.url
    assert f"genre={genres[2]}" in page.url


@pytest.mark.parametrize(
    ("scheme", "size"),
    [("light", LAPTOP), ("dark", DESKTOP), ("light", PHONE)],
    ids=["laptop", "desktop", "phone"],
)
@pytest.mark.parametrize(
    ("path", "heading", "titles"),
    [
        ("", TITLES[DAYS[1]], ["Top genres", "Top countries"]),
        (
            "trends",
            "Trends",
            ["Listens per day and genre", "Listeners per day", "Listens per day and country"],
        ),
        ("pipeline", "Pipeline", ["Rows of stream files per run", "Rejected rows by reason"]),
    ],
    ids=["day", "trends", "pipeline"],
)
def test_page_is_readable_in_light_and_dark(
    path: str,
    heading: str,
    titles: list[str],
    scheme: str,
    size: dict[str, int],
    started: Started,
    known: Items,
    open_page: Callable[..., Page],
    keep_screenshot: Callable[..., None],
) -> None:
    page = open_page(scheme, size)

    page.goto(f"{started.dashboard}/{path}?day={DAYS[1]}")
    settled(page)

    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    for title in titles:
        drawn = chart(page, title)
        expect(drawn).to_be_visible()
        assert_within_its_edges(drawn)
        brightness = _brightness(drawn.locator("svg text").last.evaluate("e => getComputedStyle(e).fill"))
        assert brightness > 128 if scheme == "dark" else brightness < 160
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    keep_screenshot(page, f"dashboard-{path or 'day'}-{scheme}-{size['width']}", height=height)


def _brightness(colour: str) -> float:
    red, green, blue = (float(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")[:3])
    return (red + green + blue) / 3


def test_pipeline_says_how_its_run_stands_and_what_to_type_next(
    started: Started, known: Items, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.goto(f"{started.dashboard}/pipeline")
    settled(page)

    expect(page.locator(".stMarkdownBadge", has_text="warned").first).to_be_visible()
    command = page.locator("[data-testid=stCode]").first
    port = started.aws.rpartition(":")[2]
    expect(command).to_have_text(re.compile(rf"make redrive RUN=\S+ AWS_PORT={port}"))
    expect(page.get_by_text("Data as of").first).to_be_visible()


def test_trend_follows_the_kpi_that_is_chosen(
    started: Started, known: Items, open_page: Callable[..., Page]
) -> None:
    page = open_page()
    page.goto(f"{started.dashboard}/trends")
    settled(page)
    expect(chart(page, "Listens per day and genre")).to_be_visible()

    page.get_by_role("combobox", name="KPI").click()
    page.get_by_role("option", name="Listening time (hours)").click()

    changed = chart(page, "Listening time per day and genre")
    expect(changed).to_be_visible()
    expect(changed.get_by_text("Listening time (hours)", exact=True)).to_be_visible()
    expect(chart(page, "Listens per day and genre")).to_have_count(0)


@pytest.mark.parametrize(
    ("name", "variables", "paths", "sentence"),
    [
        (
            "no-credentials",
            {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
            ["", "trends", "pipeline"],
            "No AWS credentials were found.",
        ),
        (
            "no-answer",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            ["", "trends", "pipeline"],
            "AWS does not answer: Could not connect to the endpoint URL",
        ),
        ("empty-table", {"KPI_TABLE_NAME": "empty"}, ["", "trends"], "is empty: no run has stored KPIs yet."),
        (
            "no-table",
            {"KPI_TABLE_NAME": "no-such-table"},
            ["", "trends"],
            "no-such-table does not exist.",
        ),
    ],
    ids=["no credentials", "no answer", "empty table", "no table"],
)
def test_what_is_missing_is_said_in_a_sentence(
    name: str,
    variables: dict[str, str | None],
    paths: list[str],
    sentence: str,
    started: Started,
    dynamodb: Any,
    open_page: Callable[..., Page],
    keep_screenshot: Callable[..., None],
) -> None:
    if name == "empty-table":
        make_table(dynamodb, "empty")
    page = open_page()
    with running_app(started.aws, **variables) as address:
        for path in paths:
            page.goto(f"{address}/{path}")
            settled(page)
            expect(page.locator("[data-testid=stAlert]")).to_contain_text(sentence)
            expect(page.get_by_text("Traceback")).to_have_count(0)
        page.goto(address)
        settled(page)
        keep_screenshot(page, f"dashboard-{name}")


def test_genre_without_listens_that_day_is_said_in_a_sentence(
    started: Started, known: Items, open_page: Callable[..., Page]
) -> None:
    page = open_page()

    page.goto(f"{started.dashboard}/?day={DAYS[0]}&genre=opera")
    settled(page)

    expect(page.locator("[data-testid=stAlert]")).to_contain_text(
        "There are no listens of opera on 2024-06-25. Choose another genre or day."
    )
