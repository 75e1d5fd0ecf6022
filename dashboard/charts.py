"""The charts: Altair, with titles, axes and units; exact numbers stand beside the bars.

Colors come from the theme, so they fit light and dark; no chart needs them to be understood. A chart is as
wide as its column, which may be a phone's: names stand above their bars and legends above their charts.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd
import streamlit as st

BAR_HEIGHT = 46
# The title and the padding take this height.
FRAME_HEIGHT = 110
RUN_HEIGHT = 50
FIGURE_HEIGHT = 210
# The color of expected ranges and passed checks, which light and dark backgrounds show.
BAND = "#868E96"
LEGEND = alt.Legend(orient="top", title=None, columns=2, labelFontSize=13, labelLimit=150, symbolSize=90)


def ink() -> str:
    """Return the text color of the theme, since the theme does not reach marks of charts and the logo."""
    return "#FAFAFA" if st.context.theme.type == "dark" else "#31333F"


def alarm() -> str:
    """Return the color of outliers on the theme's background; a shape and a word always stand with it."""
    return "#FF6B6B" if st.context.theme.type == "dark" else "#C92A2A"


def ranked_bars(
    frame: pd.DataFrame, *, name: str, value: str, label: str, title: str, unit: str
) -> alt.LayerChart:
    """Return horizontal bars in the frame's order, each below its name and its number.

    Args:
        frame: one row per bar.
        name: its column with the names of the bars.
        value: its column with their numbers.
        label: its column with the texts that show the numbers.
        title: the title of the chart.
        unit: the unit of the numbers, in the plural.
    """
    longest = int(frame[label].str.len().max())
    base = alt.Chart(frame, title=_title(title, unit)).encode(
        y=alt.Y(f"{name}:N", sort=None, axis=None),
        tooltip=[alt.Tooltip(column, title=column) for column in frame.columns if column != label],
    )
    above = {"baseline": "middle", "dy": -9, "fontSize": 13, "color": ink()}
    # A long name ends before the number begins.
    names = base.mark_text(align="left", limit=alt.expr(f"width - {8 * longest + 14}"), **above).encode(
        text=f"{name}:N", x=alt.value(0)
    )
    numbers = base.mark_text(align="right", **above).encode(text=f"{label}:N", x=alt.value("width"))
    bars = base.mark_bar(cornerRadiusEnd=3, height=12, yOffset=9).encode(
        x=alt.X(f"{value}:Q", scale=alt.Scale(domainMin=0), axis=None)
    )
    return (bars + names + numbers).properties(height=BAR_HEIGHT * len(frame) + FRAME_HEIGHT)


def lines_over_days(
    frame: pd.DataFrame, *, name: str, value: str, title: str, unit: str, best_is_low: bool = False
) -> alt.LayerChart:
    """Return lines over days, which differ in color and in the shape of their points.

    Args:
        frame: columns `Day`, `Status`, `name` and `value`; a day without a number is a gap.
        name: the column with the names of the lines.
        value: the column with the numbers.
        title: the title of the chart.
        unit: title of the axis of the numbers.
        best_is_low: whether the numbers are ranks, of which the first is the best.
    """
    scale = alt.Scale(zero=not best_is_low, reverse=best_is_low)
    days = alt.Axis(format="%d %b %Y", labelAngle=0, tickCount="day", labelOverlap=True, labelFlush=True)
    one_line = len(frame[name].unique()) == 1
    legend = None if one_line else LEGEND
    base = alt.Chart(frame, title=title).encode(
        x=alt.X("Day:T", title="Day (UTC)", axis=days),
        y=alt.Y(f"{value}:Q", title=unit, scale=scale),
        color=alt.Color(f"{name}:N", sort=None, legend=legend),
        tooltip=[f"{name}:N", alt.Tooltip("Day:T", format="%Y-%m-%d"), f"{value}:Q", "Status:N"],
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        shape=alt.Shape(f"{name}:N", sort=None, legend=legend)
    )
    return (base.mark_line(strokeWidth=2) + points).properties(height=380)


def rows_of_runs(frame: pd.DataFrame, kinds: Sequence[str]) -> alt.LayerChart:
    """Return a chart of each run's rows by kind, in which small runs are visible beside large ones.

    Args:
        frame: columns `Run`, `Kind` and `Rows`, in the order of the runs.
        kinds: the order of a run's bars.
    """
    frame = frame.assign(label=[f"{rows:,}" if rows else "" for rows in frame["Rows"]])
    # Room for a number beside the longest bar.
    scale = alt.Scale(type="symlog", domain=[0, 8 * max(1, int(frame["Rows"].max()))])
    base = alt.Chart(
        frame,
        title=_title("Rows of stream files per run", "By the run's begin (UTC), on a logarithmic scale"),
    ).encode(
        y=alt.Y("Run:N", sort=None, title=None, axis=alt.Axis(labelOverlap=False)),
        yOffset=alt.YOffset("Kind:N", sort=list(kinds)),
        x=alt.X("Rows:Q", scale=scale, axis=None),
        tooltip=["Run:N", "Kind:N", alt.Tooltip("Rows:Q", format=",")],
    )
    legend = alt.Legend(orient="top", title=None, labelFontSize=13, symbolSize=90)
    bars = base.mark_bar(cornerRadiusEnd=2).encode(color=alt.Color("Kind:N", sort=list(kinds), legend=legend))
    numbers = base.mark_text(align="left", baseline="middle", dx=5, fontSize=12, color=ink()).encode(
        text="label:N"
    )
    return (bars + numbers).properties(height=RUN_HEIGHT * len(frame["Run"].unique()) + FRAME_HEIGHT + 60)


def figure_over_runs(frame: pd.DataFrame, *, title: str, below: str, number_format: str) -> alt.LayerChart:
    """Return a small chart of one figure over runs, with the expected range as a band.

    Args:
        frame: in the order of the runs, columns `Run`, `Id`, `Value`, `Number` (the value in words), `Low`,
            `High`, `Expected` (the range in words), `Verdict` and `Outlier` (the word that marks an outlier,
            otherwise empty).
        title: the name of the figure.
        below: a clause about its last value.
        number_format: of the axis, as D3 knows it.
    """
    numbers = alt.Axis(title=None, tickCount=3, format=number_format)
    base = alt.Chart(frame, title=_title(title, below)).encode(
        x=_runs(list(frame["Run"])),
        tooltip=[
            alt.Tooltip("Run:N", title="Run (UTC)"),
            alt.Tooltip("Id:N", title="Id"),
            alt.Tooltip("Number:N", title=title),
            alt.Tooltip("Expected:N"),
            alt.Tooltip("Verdict:N"),
        ],
    )
    band = base.mark_area(color=BAND, opacity=0.25).encode(y=alt.Y("Low:Q", axis=numbers), y2="High:Q")
    line = base.mark_line(strokeWidth=1.5).encode(y="Value:Q")
    points = base.mark_point(filled=True, size=22, opacity=1).encode(y="Value:Q")
    outliers = base.transform_filter("datum.Outlier != ''")
    marks = outliers.mark_point(shape="triangle-up", filled=True, size=130, color=alarm(), opacity=1)
    words = outliers.mark_text(
        # A mark at the right edge leaves no room beside it.
        align="right",
        baseline="middle",
        dx=-10,
        fontSize=13,
        fontWeight="bold",
        color=alarm(),
    )
    layers = (band, line, points, marks.encode(y="Value:Q"), words.encode(y="Value:Q", text="Outlier:N"))
    return alt.layer(*layers).properties(height=FIGURE_HEIGHT)


def verdicts_over_runs(frame: pd.DataFrame, runs: Sequence[str]) -> alt.LayerChart:
    """Return a strip for each check, below its name, with the verdict in each run.

    Args:
        frame: columns `Run`, `Id`, `Check`, `Verdict` and `Why`.
        runs: all runs in their order, those without checks too.
    """
    verdicts = ["passed", "warned", "accepted"]
    colors, shapes = [BAND, "#F08C00", alarm()], ["circle", "square", "diamond"]
    base = alt.Chart(
        frame, title=_title("Verdicts of checks", "Only checks that did not pass in each of these runs")
    ).encode(y=alt.Y("Check:N", axis=None))
    marks = base.mark_point(filled=True, size=80, opacity=1, yOffset=9).encode(
        x=_runs(runs),
        color=alt.Color("Verdict:N", scale=alt.Scale(domain=verdicts, range=colors), legend=LEGEND),
        shape=alt.Shape("Verdict:N", scale=alt.Scale(domain=verdicts, range=shapes), legend=LEGEND),
        tooltip=[
            alt.Tooltip("Run:N", title="Run (UTC)"),
            *(alt.Tooltip(f"{column}:N") for column in ("Id", "Check", "Verdict", "Why")),
        ],
    )
    names = base.transform_aggregate(groupby=["Check"]).mark_text(
        align="left", baseline="middle", dy=-9, fontSize=13, color=ink()
    )
    layers = marks + names.encode(x=alt.value(0), text="Check:N")
    return layers.properties(height=BAR_HEIGHT * len(frame["Check"].unique()) + FRAME_HEIGHT + 40)


def _runs(runs: Sequence[str]) -> alt.X:
    """Return the axis of the runs, in equal steps, with their days or, if all are of one day, their times."""
    first, last = (5, 10) if len({run[:10] for run in runs}) > 1 else (11, 16)
    axis = alt.Axis(
        title=None,
        labelAngle=0,
        labelExpr=f"slice(datum.label, {first}, {last})",
        labelOverlap="greedy",
        labelFlush=True,
    )
    return alt.X("Run:O", sort=None, scale=alt.Scale(domain=list(runs)), axis=axis)


def _title(title: str, below: str) -> alt.TitleParams:
    return alt.Title(title, subtitle=below, subtitleFontSize=13, subtitleColor=ink())
