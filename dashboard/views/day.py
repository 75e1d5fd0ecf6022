"""Page Day: one UTC day, its genres and countries, and the top songs of one genre."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import altair as alt
import pandas as pd
import streamlit as st

from dashboard.charts import ranked_bars
from dashboard.source import open_table, plain, read_bounds, warn_of_incomplete
from include.kpis.model import COMPLETE, Day, DayKpis, GenreKpis
from include.kpis.table import KpiTable, read_day, read_totals

HEADLINES = (
    ("listen_count", "Listens", "", "Distinct listens of the day"),
    ("unique_listeners", "Listeners", "", "Distinct users who listened"),
    ("total_listening_time", "Listening time", " min", "Sum of the tracks' full lengths, in minutes"),
    ("avg_listening_time_per_user", "Time per listener", " min", "Listening time / listeners, in minutes"),
)


def show() -> None:
    """Show the day that is chosen."""
    table = open_table()
    first, last = read_bounds(table)
    chosen = _choose_day(first, last)
    day = read_day(table, chosen)
    if day is None:
        st.info(
            f"There are no KPIs of {chosen}. The table has days from {first} to {last}: choose another one.",
            icon=":material/event_busy:",
        )
        return
    if day.status != COMPLETE:
        warn_of_incomplete([day.date])
    if day.totals is None:
        return
    _show_headlines(table, day.totals)
    genres, countries = st.columns(2)
    with genres.container(border=True, height="stretch"):
        _show_top_genres(day.totals)
    with countries.container(border=True, height="stretch"):
        _show_top_countries(day.totals)
    all_genres, songs = st.columns([3, 2])
    with all_genres.container(border=True, height="stretch"):
        _show_all_genres(day)
    with songs.container(border=True, height="stretch"):
        _show_songs(day)


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
    before = read_totals(table, day_before)
    for column, (attribute, label, unit, meaning) in zip(st.columns(len(HEADLINES)), HEADLINES, strict=True):
        now = getattr(totals, attribute)
        change = now - getattr(before, attribute) if before else 0
        column.metric(
            label,
            f"{now:,}{unit}",
            delta=_delta(change, now) if change else "no change" if before else f"no data on {day_before}",
            delta_color="normal" if change else "off",
            delta_arrow="auto" if change else "off",
            delta_description=f"against {day_before}" if before else None,
            help=meaning,
            border=True,
        )
    st.caption(
        f"{totals.unmatched_track_listens:,} listens of tracks and {totals.unmatched_user_listens:,} listens "
        f"of users that are in no catalog. Computed {totals.computed_at:%Y-%m-%d %H:%M} UTC by run "
        f"{plain(totals.run_key)}, version {totals.version}."
    )


def _delta(change: int | Decimal, now: int | Decimal) -> str:
    before = now - change
    return f"{change:+,}" + (f" ({change / before:+.1%})" if before else "")


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
            "Listening time (min)": [float(genre.total_listening_time) for genre in day.genres],
            "Time per listener (min)": [float(genre.avg_listening_time_per_user) for genre in day.genres],
            "Top song": [_top_song(genre) for genre in day.genres],
        }
    )
    whole, minutes = (
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
            "Listening time (min)": minutes,
            "Time per listener (min)": minutes,
        },
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
    st.altair_chart(chart, key="songs")
    st.dataframe(
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
