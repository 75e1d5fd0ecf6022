"""Page Pipeline: what the runs did, from their reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dashboard.charts import ranked_bars, stacked_rows
from dashboard.source import NothingYetError, open_archive, plain
from include.kpis.reports import Archive, RunReport, link, list_rejected_rows, read_reports

KINDS = ("New", "Repeated", "Rejected")


def show() -> None:
    """Show the newest runs."""
    title, picker = st.columns([5, 1], vertical_alignment="bottom")
    title.title("Pipeline")
    newest = picker.selectbox("Newest runs", [20, 50, 100, 200], key="newest")
    archive = open_archive()
    reports, in_all = read_reports(archive, newest)
    if not reports:
        raise NothingYetError(
            f"The bucket {plain(archive.bucket)} has no run report yet: no run has ended. On local AWS "
            "`make run` makes one; on AWS start a run of the DAG."
        )
    st.caption(
        f"Reports of {len(reports):,} of {in_all:,} runs, newest first. Rows = valid + rejected, valid "
        "= new + repeated. A run's duration counts from when it listed its files."
    )
    _show_runs(reports)
    rows, reasons = st.columns([3, 2])
    with rows.container(border=True, height="stretch"):
        _show_rows(reports)
    with reasons.container(border=True, height="stretch"):
        _show_reasons(reports)
    with st.container(border=True):
        _show_quarantine(archive, reports)


def _show_runs(reports: Sequence[RunReport]) -> None:
    frame = pd.DataFrame(
        {
            "Began (UTC)": [report.frozen_at for report in reports],
            "Ended": [_ending(report) for report in reports],
            "Duration (s)": [report.duration.total_seconds() for report in reports],
            "Files": [report.files for report in reports],
            "Archived": [report.archived for report in reports],
            "Quarantined": [report.quarantined for report in reports],
            "Rows": [report.rows for report in reports],
            "Valid": [report.valid for report in reports],
            "Rejected": [report.rejected for report in reports],
            "New": pd.array([report.new for report in reports], dtype="Int64"),
            "Repeated": pd.array([report.repeated for report in reports], dtype="Int64"),
            "Days touched": [_span(report) for report in reports],
            "Run": [report.dag_run_id for report in reports],
        }
    )
    counts = ("Files", "Archived", "Quarantined", "Rows", "Valid", "Rejected", "New", "Repeated")
    st.dataframe(
        frame,
        hide_index=True,
        key="runs",
        column_config={
            **{name: st.column_config.NumberColumn(format="localized") for name in counts},
            "Began (UTC)": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone="UTC"),
            "Duration (s)": st.column_config.NumberColumn(format="%.1f"),
        },
        alt="The newest runs",
    )


def _ending(report: RunReport) -> str:
    if report.reprocessed:
        return "days computed again"
    return "complete" if report.status == "complete" else "failed: no valid row"


def _span(report: RunReport) -> str:
    if not report.days:
        return "none"
    return (
        str(report.days[0])
        if len(report.days) == 1
        else f"{len(report.days)}: {report.days[0]} to {report.days[-1]}"
    )


def _show_rows(reports: Sequence[RunReport]) -> None:
    frame = pd.DataFrame(
        [
            {"Run": f"{report.frozen_at:%m-%d %H:%M:%S}", "Kind": kind, "Order": order, "Rows": rows}
            for report in reversed(reports)
            for order, (kind, rows) in enumerate(
                zip(KINDS, (report.new or 0, report.repeated or 0, report.rejected), strict=True)
            )
        ]
    )
    st.altair_chart(stacked_rows(frame, KINDS), key="rows")


def _show_reasons(reports: Sequence[RunReport]) -> None:
    by_reason: Counter[str] = Counter()
    for report in reports:
        by_reason.update(report.rejected_by_reason)
    if not by_reason:
        st.info("No row was rejected in these runs.", icon=":material/check_circle:")
        return
    frame = pd.DataFrame(by_reason.most_common(), columns=["Reason", "Rows"])
    frame["label"] = [f"{rows:,}" for rows in frame["Rows"]]
    chart = ranked_bars(
        frame, name="Reason", value="Rows", label="label", title="Rejected rows by reason", unit="Rows"
    )
    st.altair_chart(chart, key="reasons")


def _show_quarantine(archive: Archive, reports: Sequence[RunReport]) -> None:
    st.subheader("Quarantine")
    with_rejected = [report for report in reports if report.quarantined or report.rejected]
    if not with_rejected:
        st.info("These runs put nothing into quarantine.", icon=":material/check_circle:")
        return
    report = st.selectbox("Run", with_rejected, format_func=lambda run: run.dag_run_id, key="run")
    files = [
        {"File": file.key, "Rows": file.rows, "Why": file.reason, "Download": link(archive, file.destination)}
        for file in report.quarantined_files
    ]
    rows = report.rejected - sum(file.rows for file in report.quarantined_files)
    parts = list_rejected_rows(archive, report) if rows else []
    files += [
        {
            "File": key.rpartition("/")[2],
            "Rows": rows if len(parts) == 1 else None,
            "Why": "rejected rows of the other files; its column reason says why",
            "Download": link(archive, key),
        }
        for key in parts
    ]
    frame = pd.DataFrame(files, columns=["File", "Rows", "Why", "Download"]).astype({"Rows": "Int64"})
    st.dataframe(
        frame,
        hide_index=True,
        key="quarantine",
        column_config={
            "Rows": st.column_config.NumberColumn(format="localized"),
            "Download": st.column_config.LinkColumn(display_text="download"),
        },
        alt="What the run put into quarantine",
    )
    st.markdown(
        f"Links are good for an hour. All of it: `s3://{archive.bucket}/quarantine/{report.run_key}/`  \n"
        f"To correct it and bring it back: `make redrive RUN={report.run_key}`"
    )


show()
