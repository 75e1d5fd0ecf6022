"""The charts: Altair, with titles, axes and units; exact numbers stand beside the bars.

Colours come from the theme, so that they fit light and dark; no chart needs them to be understood.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd
import streamlit as st

from include.kpis.model import Kpi

BAR_HEIGHT = 34
# Title and axis.
FRAME_HEIGHT = 95


def ranked_bars(
    frame: pd.DataFrame, *, name: str, value: str, label: str, title: str, unit: str
) -> alt.LayerChart:
    """Return horizontal bars in the frame's order.

    Args:
        frame: one row per bar.
        name: its column with what the bars stand for.
        value: its column with their numbers.
        label: its column with what is written beside them.
        title: of the chart.
        unit: of the numbers, in the plural.
    """
    # Room beside the longest bar for what is written there.
    limit = float(frame[value].max()) * (1.1 + 0.022 * frame[label].str.len().max()) or 1
    names = alt.Axis(labelLimit=230, labelPadding=8, labelOverlap=False)
    base = alt.Chart(frame, title=title).encode(
        y=alt.Y(f"{name}:N", sort=None, title=None, axis=names),
        x=alt.X(
            f"{value}:Q",
            title=unit,
            scale=alt.Scale(domain=[0, limit]),
            axis=alt.Axis(tickCount=5, tickMinStep=1),
        ),
        tooltip=[alt.Tooltip(column, title=column) for column in frame.columns if column != label],
    )
    # The theme does not colour text marks.
    ink = "#FAFAFA" if st.context.theme.type == "dark" else "#31333F"
    text = base.mark_text(align="left", baseline="middle", dx=6, fontSize=13, color=ink)
    numbers = text.encode(text=f"{label}:N")
    bars = base.mark_bar(cornerRadiusEnd=3)
    return (bars + numbers).properties(height=BAR_HEIGHT * len(frame) + FRAME_HEIGHT)


def trend_lines(frame: pd.DataFrame, kpi: Kpi) -> alt.LayerChart:
    """Return one line per genre over days, told apart by colour and by the shape of their points.

    Args:
        frame: columns `Day`, `Genre`, `Status` and the KPI's label; a day without a number is a gap.
        kpi: which KPI it is.
    """
    axis = f"{kpi.label} ({kpi.unit})" if kpi.unit != kpi.label.lower() else kpi.label
    # The first rank is the best one.
    scale = alt.Scale(zero=kpi.attribute != "genre_rank", reverse=kpi.attribute == "genre_rank")
    days = alt.Axis(format="%d %b %Y", labelAngle=0, tickCount="day", labelOverlap=True)
    base = alt.Chart(frame, title=f"{kpi.label} per day").encode(
        x=alt.X("Day:T", title="Day (UTC)", axis=days),
        y=alt.Y(f"{kpi.label}:Q", title=axis, scale=scale),
        color=alt.Color("Genre:N", sort=None, title="Genre"),
        tooltip=["Genre:N", alt.Tooltip("Day:T", format="%Y-%m-%d"), f"{kpi.label}:Q", "Status:N"],
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        shape=alt.Shape("Genre:N", sort=None, title="Genre")
    )
    return (base.mark_line(strokeWidth=2) + points).properties(height=420)


def stacked_rows(frame: pd.DataFrame, kinds: Sequence[str]) -> alt.Chart:
    """Return the rows of each run, stacked by what became of them.

    Args:
        frame: columns `Run`, `Kind` and `Rows`, in the order of the runs.
        kinds: from the bottom up.
    """
    return (
        alt.Chart(frame, title="Rows of stream files per run")
        .mark_bar(size=max(4, min(40, 500 // frame["Run"].nunique())))
        .encode(
            x=alt.X("Run:N", sort=None, title="Run (when it began, UTC)", axis=alt.Axis(labelAngle=-30)),
            y=alt.Y("Rows:Q", title="Rows"),
            color=alt.Color("Kind:N", sort=list(kinds), title=None, legend=alt.Legend(orient="top")),
            order=alt.Order("Order:Q"),
            tooltip=["Run:N", "Kind:N", alt.Tooltip("Rows:Q", format=",")],
        )
        .properties(height=360)
    )
