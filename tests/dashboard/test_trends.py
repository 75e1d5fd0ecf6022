from __future__ import annotations

from typing import Any

import pytest
from pages import open_page

from helpers.contract.kpis import KPIS
from kpi_table_support import FIRST, SECOND, THIRD, day_items, put_items

DAYS = {
    FIRST: {"pop": 40, "rock": 50, "Unknown": 60},
    SECOND: {"pop": 300, "jazz": 5},
    THIRD: {"pop": 120, "rock": 7},
}


@pytest.fixture
def table(dynamodb: Any, table_name: str) -> str:
    for day, genres in DAYS.items():
        put_items(dynamodb, table_name, day_items(day, genres))
    return table_name


@pytest.mark.parametrize("kpi", KPIS, ids=[kpi.attribute for kpi in KPIS])
def test_every_number_is_the_table_s_by_any_kpi(kpi: Any, table: str) -> None:
    page = open_page("trends").set("multiselect", "genres", ["rock", "pop"]).set("selectbox", "kpi", kpi)

    factor = 60 if kpi.unit == "minutes" else 1
    expected = {
        (day.isoformat(), item["track_genre"]): pytest.approx(float(item[kpi.attribute]) / factor)
        for day, genres in DAYS.items()
        for item in day_items(day, genres)
        if item["track_genre"] in ("pop", "rock")
    }
    chart = page.charts()[f"{kpi.label} per day and genre"].dropna(subset=[kpi.label])
    assert {
        (f"{row.Day:%Y-%m-%d}", row.Genre): value
        for row, value in zip(chart.itertuples(), chart[kpi.label], strict=True)
    } == expected
    table_shown = page.frame().stack().dropna()
    assert dict(table_shown.items()) == expected


def test_day_without_a_number_is_a_gap_and_not_a_zero(table: str) -> None:
    page = open_page("trends").set("multiselect", "genres", ["rock"])

    shown = page.charts()["Listens per day and genre"]
    numbers = dict(zip(shown["Day"].dt.strftime("%d"), shown["Listens"], strict=True))
    assert {day: str(value) for day, value in numbers.items()} == {
        "24": "50.0",
        "25": "nan",
        "26": "nan",
        "27": "7.0",
    }
    assert list(shown["Status"]) == ["complete", "complete", "no data", "complete"]


def test_range_is_that_which_is_chosen(table: str) -> None:
    page = open_page("trends").set("date_input", "range", (FIRST, SECOND))

    assert list(page.frame().index) == ["2024-06-25", "2024-06-24"]
    assert page.app.multiselect(key="genres").options[:2] == ["pop", "jazz"]


def test_page_opens_on_the_last_days_top_genres(table: str) -> None:
    page = open_page("trends")

    assert list(page.frame().columns) == ["pop", "rock"]
    assert list(page.frame()["pop"].dropna()) == [120, 300, 40]


def test_totals_are_a_choice_beside_the_genres(table: str) -> None:
    page = open_page("trends").set("multiselect", "genres", ["ALL_GENRES"])

    assert list(page.frame()["ALL_GENRES"].dropna()) == [127, 305, 150]


@pytest.mark.parametrize(
    ("genres", "kpi", "sentence"),
    [
        ([], KPIS[0], "Choose at least one genre."),
        (
            ["opera"],
            KPIS[0],
            "There are no listens of opera from 2024-06-24 to 2024-06-27. "
            "Choose other days or another genre.",
        ),
        (["ALL_GENRES"], KPIS[4], "ALL_GENRES has no rank: choose another KPI."),
    ],
    ids=["no genre", "genre without data", "no rank"],
)
def test_nothing_to_show_is_said_with_what_to_do(
    genres: list[str], kpi: Any, sentence: str, table: str, dynamodb: Any
) -> None:
    put_items(dynamodb, table, day_items(THIRD, {"pop": 120, "rock": 7}))
    page = open_page("trends", genres="opera") if genres == ["opera"] else open_page("trends")

    page.set("multiselect", "genres", genres).set("selectbox", "kpi", kpi)

    assert page.sentences == [sentence]


def test_range_without_its_last_day_is_said(table: str) -> None:
    page = open_page("trends").set("date_input", "range", (FIRST,))

    assert page.sentences == ["Choose the last day of the range, too."]


def test_days_that_are_being_written_are_marked(table: str, dynamodb: Any) -> None:
    put_items(dynamodb, table, day_items(SECOND, DAYS[SECOND], "updating"))

    page = open_page("trends")

    assert page.sentences == [
        "A run is writing 2024-06-25: some numbers are older than others. Reload in a minute."
    ]
    assert "updating" in set(page.charts()["Listens per day and genre"]["Status"])


def test_axis_names_the_unit_and_rank_one_is_on_top(table: str) -> None:
    page = open_page("trends").set("selectbox", "kpi", KPIS[2])
    assert '"title": "Listening time (hours)"' in page.chart_specs()[0]

    page.set("selectbox", "kpi", KPIS[4])
    assert '"reverse": true' in page.chart_specs()[0]


def test_overview_sums_the_days_and_shows_their_course(table: str) -> None:
    page = open_page("trends")

    assert page.metrics["Listens"] == "582"
    assert page.metrics["Listeners per day"] == f"{(135 + 274 + 114) / 3:,.0f}"
    assert page.metrics["Listening time"] == f"{582 * 3.47 / 60:,.1f} h"
    assert list(page.app.metric[0].proto.chart_data) == [150, 305, 127]
    assert "**Data as of 2024-06-26 01:02 UTC** (" in page.text


def test_listeners_and_countries_have_a_line_over_the_days(table: str) -> None:
    page = open_page("trends")

    listeners = page.charts()["Listeners per day"].dropna()
    assert list(listeners["Listeners"]) == [135, 274, 114]
    countries = page.charts()["Listens per day and country"].dropna()
    brazil = countries[countries["Country"] == "Brazil"]
    assert list(brazil["Listens"]) == [150, 305, 127]
    assert set(countries["Country"]) == {"Brazil", "Japan", "Côte d'Ivoire", "Peru", "Chad"}

    page.set("segmented_control", "of-countries", "Listeners")

    countries = page.charts()["Listeners per day and country"].dropna()
    assert list(countries[countries["Country"] == "Brazil"]["Listeners"]) == [149, 304, 126]
