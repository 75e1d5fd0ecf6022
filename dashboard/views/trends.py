"""Page Trends: genres over a range of days, by any KPI."""

from __future__ import annotations

from datetime import date, timedelta

import pandas as pd
import streamlit as st

from dashboard.charts import trend_lines
from dashboard.source import open_table, plain, read_bounds, warn_of_incomplete
from include.kpis.model import ALL_GENRES, COMPLETE, KPIS, Kpi, Trend
from include.kpis.table import KpiTable, read_day, read_trend

SHOWN_DAYS = 30
SHOWN_GENRES = 3
# As many as the palette tells apart.
MAX_GENRES = 7


def show() -> None:
    """Show the trend of what is chosen."""
    st.title("Trends")
    table = open_table()
    first, last = read_bounds(table)
    days, kpis, genres = st.columns([3, 3, 7])
    with days:
        chosen = _choose_days(first, last)
    kpi = kpis.selectbox("KPI", KPIS, format_func=_describe, key="kpi")
    with genres:
        chosen_genres = _choose_genres(table, chosen[-1] if chosen else last)
    if len(chosen) < 2:
        st.info("Choose the last day of the range, too.", icon=":material/date_range:")
    elif not chosen_genres:
        st.info("Choose at least one genre.", icon=":material/music_note:")
    else:
        trend = read_trend(table, chosen_genres, *chosen)
        warn_of_incomplete(day.date for day in trend.days if day.status != COMPLETE)
        _show_trend(trend, chosen_genres, kpi, *chosen)


def _choose_days(first: date, last: date) -> tuple[date, ...]:
    """Return first and last day, or less while they are being chosen."""
    chosen: tuple[date, ...] = st.date_input(
        "Days (UTC)",
        value=(max(first, last - timedelta(days=SHOWN_DAYS - 1)), last),
        min_value=first,
        max_value=last,
        format="YYYY-MM-DD",
        key="range",
        bind="query-params",
    )
    return chosen


def _choose_genres(table: KpiTable, last: date) -> list[str]:
    day = read_day(table, last)
    of_the_day = [genre.track_genre for genre in day.genres] if day else []
    chosen_before = st.session_state.get("genres") or st.query_params.get_all("genres")
    chosen: list[str] = st.multiselect(
        f"Genres, at most {MAX_GENRES}",
        list(dict.fromkeys([*of_the_day, ALL_GENRES, *chosen_before])),
        default=of_the_day[:SHOWN_GENRES],
        max_selections=MAX_GENRES,
        accept_new_options=True,
        help=f"Listed are those of {last}; another one can be typed. {plain(ALL_GENRES)} is the day's total.",
        key="genres",
        bind="query-params",
    )
    return chosen


def _show_trend(trend: Trend, genres: list[str], kpi: Kpi, first: date, last: date) -> None:
    numbers = {(point.date, point.track_genre): getattr(point, kpi.attribute) for point in trend.points}
    known = [
        genre for genre in genres if any(numbers.get((day.date, genre)) is not None for day in trend.days)
    ]
    for genre in genres:
        if genre not in known:
            st.info(_why_nothing(genre, kpi, trend, first, last), icon=":material/music_off:")
    if not known:
        return
    statuses = {day.date: day.status for day in trend.days}
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    frame = pd.DataFrame(
        [
            {
                "Day": pd.Timestamp(day),
                "Genre": genre,
                kpi.label: None if (value := numbers.get((day, genre))) is None else float(value),
                "Status": statuses.get(day, "no data"),
            }
            for genre in known
            for day in days
        ]
    )
    with st.container(border=True):
        st.altair_chart(trend_lines(frame, kpi), key="trend")
    st.subheader("The same in numbers")
    pivot = frame.pivot_table(index="Day", columns="Genre", values=kpi.label, dropna=False)[known][::-1]
    pivot.index = [f"{day:%Y-%m-%d}" for day in pivot.index]
    form = "accounting" if kpi.unit.startswith("minutes") else "localized"
    st.dataframe(
        pivot,
        key="trend-table",
        column_config={genre: st.column_config.NumberColumn(format=form) for genre in known},
        alt=f"{_describe(kpi)} per day and genre",
    )


def _why_nothing(genre: str, kpi: Kpi, trend: Trend, first: date, last: date) -> str:
    if any(point.track_genre == genre for point in trend.points):
        return f"{plain(genre)} has no {kpi.label.lower()}: choose another KPI."
    return (
        f"There are no listens of {plain(genre)} from {first} to {last}. Choose other days or another genre."
    )


def _describe(kpi: Kpi) -> str:
    return kpi.label if kpi.unit == kpi.label.lower() else f"{kpi.label} ({kpi.unit})"


show()
