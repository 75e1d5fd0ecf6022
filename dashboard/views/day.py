"""Page Day: one UTC day, its genres and countries, and the top songs of one genre."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.charts import ranked_bars
from dashboard.source import open_table, read_bounds, show_freshness, warn_of_incomplete
from dashboard.wording import days_between, listening_time, plain
from helpers.contract.kpis import COMMON_KPIS, Kpi
from include.kpis.model import COMPLETE, Day, DayKpis, GenreKpis
from include.kpis.table import KpiTable, read_day, read_overview

SPARKLINE_DAYS = 30


def show() -> None:
    """Show the day that is chosen."""
    table = open_table()
    first, last = read_bounds(table)
    chosen = _choose_day(first, last)
    day = read_day(table, chosen)
    if day is None:
        st.info(
            f"There are no KPIs of {chosen}. The table has {days_between(first, last)}: choose another one.",
            icon=":material/event_busy:",
        )
        return
    if day.status != COMPLETE:
        warn_of_incomplete([day.date])
    if day.totals is None:
        return
    show_freshness(
        day.totals.computed_at,
        f"this day was last computed then. The table has {days_between(first, last)}",
    )
    _show_headlines(table, day.totals)
    genres, countries = st.columns(2)
    with genres.container(border=True, height="stretch"):
        _show_top_genres(day.totals)
    with countries.container(border=True, height="stretch"):
        _show_top_countries(day.totals)
    with st.container(border=True):
        _show_songs(day)
    with st.container(border=True):
        _show_all_genres(day)


def _choose_day(first: date, last: date) -> date:
    title, picker = st.columns([5, 1], vertical_alignment="bottom")
    with picker:
        chosen: date = st.date_input(
            "Day (UTC)",
            value=last,
            min_value=first,
            max_value=last,
            format="YYYY-MM-DD",
            key="day",
            bind="query-params",
        )
    title.title(f"{chosen:%A}, {chosen.day} {chosen:%B %Y}")
    return chosen


def _show_headlines(table: KpiTable, totals: DayKpis) -> None:
    day_before = totals.date - timedelta(days=1)
    days = read_overview(table, totals.date - timedelta(days=SPARKLINE_DAYS - 1), totals.date)
    before = next((day for day in days if day.date == day_before), None)
    for column, kpi in zip(st.columns(len(COMMON_KPIS)), COMMON_KPIS, strict=True):
        now = getattr(totals, kpi.attribute)
        change = now - getattr(before, kpi.attribute) if before else 0
        column.metric(
            kpi.label,
            _amount(kpi, now, now),
            delta=_delta(kpi, change, now)
            if change
            else "no change"
            if before
            else f"no data on {day_before}",
            # An increase is not better, so the color is neutral; the sign and the arrow show the direction.
            delta_color="blue" if change else "off",
            delta_arrow="auto" if change else "off",
            help=kpi.meaning,
            border=True,
            chart_data=[float(getattr(day, kpi.attribute)) for day in days] if len(days) > 1 else None,
            chart_type="area",
        )
    notes = [f"Changes are against {day_before}."] if before else []
    if len(days) > 1:
        notes.append(f"The small charts show the {len(days)} days with data since {days[0].date}.")
    notes.append(
        f"{totals.unmatched_track_listens:,} listens of tracks and {totals.unmatched_user_listens:,} listens "
        "of users that are in no catalog."
    )
    st.caption(f"{' '.join(notes)} Computed by run {plain(totals.run_key)}, version {totals.version}.")


def _amount(kpi: Kpi, number: int | Decimal, beside: int | Decimal, *, signed: bool = False) -> str:
    """Return a KPI's number; a time has the unit of the one beside it."""
    if kpi.unit.startswith("minutes"):
        return listening_time(Decimal(number), Decimal(beside), signed=signed)
    return f"{number:+,}" if signed else f"{number:,}"


def _delta(kpi: Kpi, change: int | Decimal, now: int | Decimal) -> str:
    before = now - change
    return _amount(kpi, change, now, signed=True) + (f" ({change / before:+.1%})" if before else "")


def _show_top_genres(totals: DayKpis) -> None:
    frame = pd.DataFrame(
        {
            "Genre": [genre.track_genre for genre in totals.top_5_genres_per_day],
            "Listens": [genre.listen_count for genre in totals.top_5_genres_per_day],
        }
    )
    if frame.empty:
        st.info("No listen of this day is of a track with a known genre: see Unknown in the table of genres.")
        return
    frame["label"] = [f"{listens:,}" for listens in frame["Listens"]]
    st.altair_chart(_bars(frame, "Genre", "Top genres"), key="top-genres")


def _show_top_countries(totals: DayKpis) -> None:
    frame = pd.DataFrame(
        {
            "Country": [country.user_country for country in totals.top_5_countries_per_day],
            "Listens": [country.listen_count for country in totals.top_5_countries_per_day],
            "Listeners": [country.unique_listeners for country in totals.top_5_countries_per_day],
        }
    )
    if frame.empty:
        st.info("No listen of this day is of a user with a known country.")
        return
    frame["label"] = [
        f"{listens:,} · {listeners:,} listeners"
        for listens, listeners in zip(frame["Listens"], frame["Listeners"], strict=True)
    ]
    chart = _bars(frame, "Country", "Top countries")
    st.altair_chart(chart, key="top-countries")


def _show_all_genres(day: Day) -> None:
    st.subheader(f"All {len(day.genres)} genres")
    frame = pd.DataFrame(
        {
            "Rank": pd.array([genre.genre_rank for genre in day.genres], dtype="Int64"),
            "Genre": [genre.track_genre for genre in day.genres],
            "Listens": [genre.listen_count for genre in day.genres],
            "Listeners": [genre.unique_listeners for genre in day.genres],
            "Listening time (h)": [float(genre.total_listening_time) / 60 for genre in day.genres],
            "Time per listener (min)": [float(genre.avg_listening_time_per_user) for genre in day.genres],
            "Top song": [_top_song(genre) for genre in day.genres],
        }
    )
    whole, decimals = (
        st.column_config.NumberColumn(format=format_) for format_ in ("localized", "accounting")
    )
    st.dataframe(
        frame,
        hide_index=True,
        height=480,
        key="genres",
        column_config={
            "Listens": whole,
            "Listeners": whole,
            "Listening time (h)": decimals,
            "Time per listener (min)": decimals,
        },
        placeholder="–",
        alt=f"KPIs of all genres on {day.date}",
    )


def _bars(frame: pd.DataFrame, name: str, title: str) -> alt.LayerChart:
    return ranked_bars(frame, name=name, value="Listens", label="label", title=title, unit="Listens")


def _top_song(genre: GenreKpis) -> str:
    return genre.top_3_songs_per_genre[0].track_name if genre.top_3_songs_per_genre else ""


def _show_songs(day: Day) -> None:
    st.subheader("Top songs of a genre")
    by_name = {genre.track_genre: genre for genre in day.genres}
    # The genre chosen on another day stays chosen, also when this day has no listens of it.
    chosen_before = st.session_state.get("genre") or st.query_params.get("genre")
    options = [*by_name, *([chosen_before] if chosen_before and chosen_before not in by_name else [])]
    chosen = st.selectbox("Genre", options, key="genre", bind="query-params")
    genre = by_name.get(chosen)
    if genre is None:
        st.info(
            f"There are no listens of {plain(str(chosen))} on {day.date}. Choose another genre or day.",
            icon=":material/music_off:",
        )
        return
    songs = genre.top_3_songs_per_genre
    frame = pd.DataFrame(
        {
            "Song": [f"{song.rank}. {' '.join(song.track_name.split())}" for song in songs],
            "Artists": [song.artists for song in songs],
            "Listens": [song.listen_count for song in songs],
        }
    )
    frame["label"] = [f"{listens:,}" for listens in frame["Listens"]]
    chart = _bars(frame, "Song", f"Top songs of {genre.track_genre}")
    bars, names = st.columns(2)
    bars.altair_chart(chart, key="songs")
    names.dataframe(
        pd.DataFrame(
            {
                "Rank": [song.rank for song in songs],
                "Song": [song.track_name for song in songs],
                "Artists": [song.artists for song in songs],
                "Listens": [song.listen_count for song in songs],
            }
        ),
        hide_index=True,
        key="songs-table",
        alt=f"Top songs of {genre.track_genre} on {day.date}",
    )


show()
