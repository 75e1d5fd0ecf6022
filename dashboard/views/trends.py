"""Page Trends: a range of days, its totals, genres by any KPI, listeners and countries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.charts import lines_over_days
from dashboard.source import open_table, read_bounds, show_freshness, warn_of_incomplete
from dashboard.wording import days_between, listening_time, plain
from helpers.contract.kpis import KPIS, Kpi
from helpers.contract.names import ALL_GENRES
from helpers.contract.wording import counted
from include.kpis.model import COMPLETE, DayKpis, Trend
from include.kpis.table import KpiTable, read_day, read_overview, read_trend

SHOWN_DAYS = 30
SHOWN_GENRES = 3
SHOWN_COUNTRIES = 5
# The palette has this number of distinct colors.
MAX_GENRES = 7
MINUTES = "minutes"


def show() -> None:
    """Show the trends of the range of days that is chosen."""
    title, picker = st.columns([2, 1], vertical_alignment="bottom")
    title.title("Trends")
    table = open_table()
    first, last = read_bounds(table)
    with picker:
        chosen = _choose_days(first, last)
    if len(chosen) < 2:
        st.info("Choose the last day of the range, too.", icon=":material/date_range:")
        return
    overview = read_overview(table, *chosen)
    if overview:
        newest = max(day.computed_at for day in overview)
        show_freshness(
            newest, f"one of these days was last computed then. The table has {days_between(first, last)}"
        )
        _show_overview(overview)
    with st.container(border=True):
        _show_genres(table, *chosen)
    if overview:
        listeners, countries = st.columns(2)
        with listeners.container(border=True, height="stretch"):
            _show_listeners(overview, *chosen)
        with countries.container(border=True, height="stretch"):
            _show_countries(overview, *chosen)


def _show_overview(overview: Sequence[DayKpis]) -> None:
    days = len(overview)
    listens = [day.listen_count for day in overview]
    listeners = [day.unique_listeners for day in overview]
    times = [day.total_listening_time for day in overview]
    averages = [day.avg_listening_time_per_user for day in overview]
    whole_time, average = sum(times, Decimal()), sum(averages, Decimal()) / days
    figures: tuple[tuple[str, str, Sequence[int | Decimal], str], ...] = (
        ("Listens", f"{sum(listens):,}", listens, "Sum over the days"),
        ("Listeners per day", f"{sum(listeners) / days:,.0f}", listeners, "Mean over the days"),
        ("Listening time", listening_time(whole_time), times, "Sum over the days"),
        ("Time per listener", listening_time(average), averages, "Mean of the days' means"),
    )
    for column, (label, value, numbers, meaning) in zip(st.columns(len(figures)), figures, strict=True):
        column.metric(
            label,
            value,
            help=f"{meaning}: {counted(days, 'day')} with data",
            border=True,
            chart_data=[float(number) for number in numbers] if days > 1 else None,
            chart_type="area",
        )


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


def _show_genres(table: KpiTable, first: date, last: date) -> None:
    kpis, genres = st.columns([1, 2])
    kpi = kpis.selectbox("KPI", KPIS, format_func=_describe, key="kpi")
    with genres:
        chosen = _choose_genres(table, last)
    if not chosen:
        st.info("Choose at least one genre.", icon=":material/music_note:")
        return
    trend = read_trend(table, chosen, first, last)
    warn_of_incomplete(day.date for day in trend.days if day.status != COMPLETE)
    _show_trend(trend, chosen, kpi, first, last)


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
    _, factor = _shown_unit(kpi)
    statuses = {day.date: day.status for day in trend.days}
    shown = {key: float(value) / factor for key, value in numbers.items() if value is not None}
    frame = _frame(shown, known, statuses, _days(first, last), name="Genre", value=kpi.label)
    chart = lines_over_days(
        frame,
        name="Genre",
        value=kpi.label,
        title=f"{kpi.label} per day and genre",
        unit=_describe(kpi),
        best_is_low=kpi.attribute == "genre_rank",
    )
    st.altair_chart(chart, key="trend")
    with st.expander("The same in numbers"):
        pivot = frame.pivot_table(index="Day", columns="Genre", values=kpi.label, dropna=False)[known][::-1]
        pivot.index = [f"{day:%Y-%m-%d}" for day in pivot.index]
        form = "accounting" if kpi.unit.startswith(MINUTES) else "localized"
        st.dataframe(
            pivot,
            key="trend-table",
            column_config={genre: st.column_config.NumberColumn(format=form) for genre in known},
            placeholder="–",
            alt=f"{_describe(kpi)} per day and genre",
        )


def _show_listeners(overview: Sequence[DayKpis], first: date, last: date) -> None:
    chart = _lines(
        {(day.date, "All genres"): day.unique_listeners for day in overview},
        {day.date: day.status for day in overview},
        _days(first, last),
        name="Totals",
        value="Listeners",
        title="Listeners per day",
    )
    st.altair_chart(chart, key="listeners")


def _show_countries(overview: Sequence[DayKpis], first: date, last: date) -> None:
    by_listeners = (
        st.segmented_control(
            "Of the countries",
            ["Listens", "Listeners"],
            default="Listens",
            required=True,
            key="of-countries",
            label_visibility="collapsed",
        )
        == "Listeners"
    )
    value = "Listeners" if by_listeners else "Listens"
    numbers = {
        (day.date, country.user_country): country.unique_listeners if by_listeners else country.listen_count
        for day in overview
        for country in day.top_5_countries_per_day
    }
    sums: Counter[str] = Counter()
    for (_, country), number in numbers.items():
        sums[country] += number
    shown = [country for country, _ in sums.most_common(SHOWN_COUNTRIES)]
    if not shown:
        st.info("No listen of these days is of a user with a known country.")
        return
    chart = _lines(
        {(day, country): number for (day, country), number in numbers.items() if country in shown},
        {day.date: day.status for day in overview},
        _days(first, last),
        name="Country",
        value=value,
        title=f"{value} per day and country",
    )
    st.altair_chart(chart, key="countries")
    st.caption(
        "The table has each day's five countries with the most listens. A gap: the country was not among "
        "them."
    )


def _lines(
    numbers: dict[tuple[date, str], int],
    statuses: dict[date, str],
    days: Sequence[date],
    *,
    name: str,
    value: str,
    title: str,
) -> alt.LayerChart:
    names = list(dict.fromkeys(line for _, line in numbers))
    frame = _frame(numbers, names, statuses, days, name=name, value=value)
    return lines_over_days(frame, name=name, value=value, title=title, unit=value)


def _frame(
    numbers: Mapping[tuple[date, str], float],
    names: Sequence[str],
    statuses: Mapping[date, str],
    days: Sequence[date],
    *,
    name: str,
    value: str,
) -> pd.DataFrame:
    """Return a row per line and day, as `lines_over_days` takes them; a day without a number has None."""
    return pd.DataFrame(
        [
            {
                "Day": pd.Timestamp(day),
                name: line,
                value: numbers.get((day, line)),
                "Status": statuses.get(day, "no data"),
            }
            for line in names
            for day in days
        ]
    )


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _shown_unit(kpi: Kpi) -> tuple[str, int]:
    """Return the unit in which a KPI is shown, and by how much its numbers are divided for it."""
    return ("hours", 60) if kpi.unit == MINUTES else (kpi.unit, 1)


def _why_nothing(genre: str, kpi: Kpi, trend: Trend, first: date, last: date) -> str:
    if any(point.track_genre == genre for point in trend.points):
        return f"{plain(genre)} has no {kpi.label.lower()}: choose another KPI."
    return (
        f"There are no listens of {plain(genre)} from {first} to {last}. Choose other days or another genre."
    )


def _describe(kpi: Kpi) -> str:
    unit, _ = _shown_unit(kpi)
    return kpi.label if unit == kpi.label.lower() else f"{kpi.label} ({unit})"


show()
