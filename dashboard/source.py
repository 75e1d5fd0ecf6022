"""The source of the data that the pages show, and the sentences about it that they share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime

import streamlit as st

from dashboard.wording import ago, plain, when
from include.kpis import reports, table
from include.kpis.next_commands import make
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
            f"{how_to_fill('fills it')} The page Pipeline shows the runs so far."
        )
    return bounds


def how_to_fill(does: str) -> str:
    """Return how a first run is started, where the pages read from."""
    sample, own = make("make run"), make("make run DATA=folder")
    if sample:
        return f"`{sample}` {does} with sample data, `{own}` with your own."
    return f"On local AWS `make run` {does}; on AWS start a run of the DAG."


def show_freshness(as_of: datetime | None, what: str) -> None:
    """Show how old the numbers are.

    Args:
        as_of: when they were computed; None if nothing was.
        what: a clause that says what was computed then.
    """
    now = datetime.now(UTC)
    age = f"**Data as of {when(as_of)}** ({ago(as_of, now)})" if as_of else "**No data yet**"
    st.caption(f":material/update: {age}: {what}. Page read at {now:%H:%M} UTC; reload it for newer data.")


def warn_of_incomplete(days: Iterable[date]) -> None:
    """Say which of the days a run is writing at the moment."""
    if named := ", ".join(map(str, days)):
        st.warning(
            f"A run is writing {named}: some numbers are older than others. Reload in a minute.",
            icon=":material/sync:",
        )
