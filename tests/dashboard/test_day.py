from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from boto3.dynamodb.types import TypeDeserializer
from pages import Page, open_page

from kpi_table_support import FIRST, SECOND, THIRD, Item, day_items, put_items

GENRES = {f"genre {number:03d}": 1_000 - 7 * number for number in range(112)} | {"Unknown": 77, "pop": 3}


@pytest.fixture
def table(dynamodb: Any, table_name: str) -> str:
    """Two days with many genres; on the second they have other numbers, and there is no pop."""
    second = {genre: 2 * listens + 1 for genre, listens in GENRES.items() if genre != "pop"}
    put_items(dynamodb, table_name, day_items(FIRST, GENRES))
    put_items(dynamodb, table_name, day_items(SECOND, second))
    put_items(dynamodb, table_name, day_items(THIRD, {"pop": 40, "rock": 50}))
    return table_name


def _stored(dynamodb: Any, table: str, day: date) -> dict[str, Item]:
    answer = dynamodb.query(
        TableName=table,
        KeyConditionExpression="#date = :date",
        ExpressionAttributeNames={"#date": "date"},
        ExpressionAttributeValues={":date": {"S": day.isoformat()}},
    )
    deserialize = TypeDeserializer().deserialize
    items = [{name: deserialize(value) for name, value in item.items()} for item in answer["Items"]]
    return {item["track_genre"]: item for item in items}


def _hours(minutes: Decimal) -> str:
    return f"{minutes / 60:,.1f} h" if minutes >= 120 else f"{minutes:,.1f} min"


def _rows(page: Page, title: str) -> list[tuple[Any, ...]]:
    return list(page.charts()[title].itertuples(index=False, name=None))


@pytest.mark.parametrize("day", [FIRST, SECOND, THIRD])
def test_every_number_is_the_table_s(day: date, table: str, dynamodb: Any) -> None:
    stored = _stored(dynamodb, table, day)
    totals = stored.pop("ALL_GENRES")

    page = open_page(day=day.isoformat())

    assert page.metrics == {
        "Listens": f"{totals['listen_count']:,}",
        "Listeners": f"{totals['unique_listeners']:,}",
        "Listening time": _hours(totals["total_listening_time"]),
        "Time per listener": _hours(totals["avg_listening_time_per_user"]),
    }
    unmatched = [totals[f"unmatched_{kind}_listens"] for kind in ("track", "user")]
    assert "{} listens of tracks and {} listens of users".format(*unmatched) in page.text
    assert _rows(page, "Top genres") == [
        (genre["track_genre"], genre["listen_count"], f"{genre['listen_count']:,}")
        for genre in totals["top_5_genres_per_day"]
    ]
    assert _rows(page, "Top countries") == [
        (
            country["user_country"],
            country["listen_count"],
            country["unique_listeners"],
            f"{country['listen_count']:,} · {country['unique_listeners']:,} listeners",
        )
        for country in totals["top_5_countries_per_day"]
    ]
    shown = {row["Genre"]: row for row in page.frame(1).to_dict("records")}
    assert shown.keys() == stored.keys()
    for genre, item in stored.items():
        row = shown[genre]
        assert (row["Listens"], row["Listeners"]) == (item["listen_count"], item["unique_listeners"])
        assert row["Listening time (h)"] == pytest.approx(float(item["total_listening_time"]) / 60)
        assert Decimal(str(row["Time per listener (min)"])) == item["avg_listening_time_per_user"]
        if genre == "Unknown":
            assert pd.isna(row["Rank"])
        else:
            assert row["Rank"] == item["genre_rank"]
        assert row["Top song"] == item["top_3_songs_per_genre"][0]["track_name"]
    _assert_songs_are_the_table_s(page, next(iter(shown)), stored)


def _assert_songs_are_the_table_s(page: Page, genre: str, stored: dict[str, Item]) -> None:
    songs = stored[genre]["top_3_songs_per_genre"]
    assert _rows(page, f"Top songs of {genre}") == [
        (
            f"{song['rank']}. {song['track_name']}",
            song["artists"],
            song["listen_count"],
            f"{song['listen_count']:,}",
        )
        for song in songs
    ]
    assert page.frame(0).to_dict("records") == [
        {
            "Rank": song["rank"],
            "Song": song["track_name"],
            "Artists": song["artists"],
            "Listens": song["listen_count"],
        }
        for song in songs
    ]


def test_genres_come_by_rank_with_unknown_last(table: str) -> None:
    frame = open_page(day=FIRST.isoformat()).frame(1)

    assert list(frame["Rank"])[:-1] == list(range(1, len(frame)))
    assert frame["Genre"].iloc[-1] == "Unknown"


def test_change_is_against_the_day_before(table: str, dynamodb: Any) -> None:
    page = open_page(day=SECOND.isoformat())

    before, now = (_stored(dynamodb, table, day)["ALL_GENRES"] for day in (FIRST, SECOND))
    change = now["listen_count"] - before["listen_count"]
    minutes = now["total_listening_time"] - before["total_listening_time"]
    assert page.deltas["Listens"] == f"+{change:,} (+{change / before['listen_count']:.1%})"
    assert page.deltas["Listening time"].startswith(f"+{minutes / 60:,.1f} h (+")
    assert page.deltas["Time per listener"] == "no change"
    assert f"Changes are against {FIRST}." in page.text


def test_day_before_without_data_is_named(table: str) -> None:
    assert set(open_page(day=THIRD.isoformat()).deltas.values()) == {"no data on 2024-06-26"}
    assert set(open_page(day=FIRST.isoformat()).deltas.values()) == {"no data on 2024-06-23"}


def test_headlines_have_a_small_chart_of_the_days_before(table: str, dynamodb: Any) -> None:
    page = open_page(day=THIRD.isoformat())

    stored = [_stored(dynamodb, table, day)["ALL_GENRES"]["listen_count"] for day in (FIRST, SECOND, THIRD)]
    assert list(page.app.metric[0].proto.chart_data) == stored
    assert f"The small charts show the 3 days with data since {FIRST}." in page.text
    assert not open_page(day=FIRST.isoformat()).app.metric[0].proto.chart_data, "one day is no course of days"


def test_page_says_how_old_its_numbers_are(table: str) -> None:
    text = open_page().text

    assert "**Data as of 2024-06-26 01:02 UTC** (" in text
    assert "this day was last computed then. The table has days from 2024-06-24 to 2024-06-27." in text


def test_page_opens_on_the_last_day(table: str) -> None:
    page = open_page()

    assert page.app.title[0].value == "Thursday, 27 June 2024"
    assert page.metrics["Listens"] == "90"


def test_other_day_and_genre_show_other_numbers(table: str, dynamodb: Any) -> None:
    page = open_page()

    page.set("selectbox", "genre", "pop")
    _assert_songs_are_the_table_s(page, "pop", _stored(dynamodb, table, THIRD))
    page.set("date_input", "day", FIRST)
    _assert_songs_are_the_table_s(page, "pop", _stored(dynamodb, table, FIRST))
    assert page.app.title[0].value == "Monday, 24 June 2024"


def test_genre_without_data_on_another_day_is_named_with_what_to_do(table: str) -> None:
    page = open_page(day=FIRST.isoformat(), genre="pop").set("date_input", "day", SECOND)

    assert page.sentences == ["There are no listens of pop on 2024-06-25. Choose another genre or day."]
    assert page.metrics["Listens"] != "0"
    page.set("date_input", "day", THIRD)
    assert page.sentences == []


def test_day_without_data_is_named_with_what_to_do(table: str) -> None:
    page = open_page(day="2024-06-26")

    assert page.sentences == [
        "There are no KPIs of 2024-06-26. The table has days from 2024-06-24 to 2024-06-27: "
        "choose another one."
    ]


def test_day_that_is_being_written_is_marked(table: str, dynamodb: Any) -> None:
    put_items(dynamodb, table, day_items(THIRD, {"pop": 41, "rock": 50}, "updating"))

    page = open_page()

    assert page.sentences == [
        "A run is writing 2024-06-27: some numbers are older than others. Reload in a minute."
    ]
    assert page.metrics["Listens"] == "91"


def test_day_that_is_written_for_the_first_time_is_marked(table: str, dynamodb: Any) -> None:
    day = THIRD + timedelta(days=1)
    mark = {"date": day.isoformat(), "track_genre": "ALL_GENRES", "status": "updating", "version": 1}
    put_items(dynamodb, table, [mark])

    page = open_page()

    assert page.sentences == [
        f"A run is writing {day}: some numbers are older than others. Reload in a minute."
    ]
    assert page.metrics == {}


def test_names_from_data_are_shown_as_they_are(table: str, dynamodb: Any) -> None:
    put_items(dynamodb, table, day_items(THIRD, {"**r&b** [x](y)": 5}))

    page = open_page(day=SECOND.isoformat(), genre="**r&b** [x](y)")

    assert page.sentences == [
        r"There are no listens of \*\*r\&b\*\* \[x\]\(y\) on 2024-06-25. Choose another genre or day."
    ]


def test_charts_have_titles_and_axes_with_units(table: str) -> None:
    specs = open_page().chart_specs()

    assert len(specs) == 3
    for spec in specs:
        assert '"subtitle": "Listens"' in spec
