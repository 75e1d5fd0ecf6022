"""Where the pages read from, and what all of them say about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

import streamlit as st

from include.kpis import reports, table
from include.kpis.problems import ReadError
from include.kpis.table import KpiTable

# Cached for all visitors: making a client takes longer than reading with it.
open_table = st.cache_resource(show_spinner=False)(table.open_table)
open_archive = st.cache_resource(show_spinner=False)(reports.open_archive)


class NothingYetError(ReadError):
    """There is nothing to show so far; the message says what brings something."""


def read_bounds(kpi_table: KpiTable) -> tuple[date, date]:
    """Return the first and the last day of the table.

    Raises:
        NothingYetError: it is empty.
    """
    bounds = table.read_bounds(kpi_table)
    if bounds is None:
        raise NothingYetError(
            f"The table {plain(kpi_table.name)} is empty: no run has stored KPIs yet. "
            "On local AWS `make run` fills it with sample data, or `make run DATA=folder` with your own; "
            "on AWS start a run of the DAG."
        )
    return bounds


def warn_of_incomplete(days: Iterable[date]) -> None:
    """Say which of the days a run is writing at the moment."""
    if named := ", ".join(map(str, days)):
        st.warning(
            f"A run is writing {named}: some numbers are older than others. Reload in a minute.",
            icon=":material/sync:",
        )


def plain(text: str) -> str:
    """Return a name, which comes from data, so that Markdown shows it as it is."""
    return re.sub(r"([^\w\s])", r"\\\1", text)
