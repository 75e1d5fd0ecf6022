"""Page Pipeline: every run with its state, the reason and the next command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from dashboard.charts import figure_over_runs, ranked_bars, rows_of_runs, verdicts_over_runs
from dashboard.source import NothingYetError, how_to_fill, open_archive, show_freshness
from dashboard.wording import ago, plain, took, when
from helpers.contract.figures import Figure
from helpers.contract.glue_cost import cost_in_words
from helpers.contract.keys import quarantine_prefix
from helpers.contract.records import PASSED
from helpers.contract.wording import byte_size, counted
from include.kpis.next_commands import next_commands, redrive_command, run_command
from include.kpis.problems import ReadError
from include.kpis.quality import (
    UNKNOWN,
    Point,
    compared,
    outlier_in_words,
    points_by_figure,
    range_in_words,
    worded,
)
from include.kpis.reports import Archive, RunReport, link, list_rejected_rows
from include.kpis.runs import Run, State, WaitingFile, list_waiting, read_runs

KINDS = ("New", "Rejected", "Repeated")
MAX_CARDS = 4
MAX_CHARTED = 12
SHOWN_FILES = 3
SHOWN_OUTLIERS = 5
CHARTS_IN_A_ROW = 3
# Color and symbol of each state; the word stands beside them.
LOOKS = {
    State.COMPLETE: ("green", ":material/check_circle:"),
    State.WARNED: ("orange", ":material/warning:"),
    State.FAILED: ("red", ":material/cancel:"),
    State.SKIPPED: ("gray", ":material/skip_next:"),
    State.RUNNING: ("blue", ":material/sync:"),
    State.UNFINISHED: ("violet", ":material/help:"),
}
# D3 formats of axes by the unit of the figure.
_AXIS_FORMATS = {"count": "~s", "bytes": "~s", "share": "~%"}
STORED = (State.COMPLETE, State.WARNED)


def show() -> None:
    """Show the newest runs and what waits for the next one."""
    title, picker = st.columns([5, 1], vertical_alignment="bottom")
    title.title("Pipeline")
    newest = picker.selectbox("Newest runs", [20, 50, 100, 200], key="newest")
    archive = open_archive()
    # Run notes link to a run by its key.
    asked = st.query_params.get("run")
    runs, in_all = read_runs(archive, newest, also=asked)
    stored = max((run.ended for run in runs if run.state in STORED and run.ended), default=None)
    show_freshness(stored, "a run last stored KPIs then" if stored else "none of these runs stored KPIs")
    if asked:
        _show_asked(archive, runs, asked)
    shown = _show_what_to_do(runs, _read_waiting(archive, runs), asked)
    if not runs:
        raise NothingYetError(
            f"The bucket {plain(archive.bucket)} has no record of a run yet. "
            f"{how_to_fill('makes a first run')}"
        )
    _show_runs(runs, in_all)
    reports = [run.report for run in runs if run.report]
    if len(over_time := compared(reports)) > 1:
        _show_quality(over_time)
    if any(report.rows for report in reports):
        rows, reasons = st.columns([3, 2])
        with rows.container(border=True, height="stretch"):
            _show_rows(reports)
        with reasons.container(border=True, height="stretch"):
            _show_reasons(reports)
    if not asked:
        with st.container(border=True):
            _show_run(archive, runs, shown)


def _read_waiting(archive: Archive, runs: Sequence[Run]) -> list[WaitingFile]:
    """Return the waiting files; say so if they cannot be read, since the runs can be shown without them."""
    try:
        waiting = list_waiting(archive, runs)
    except ReadError as error:
        st.caption(f"Files that wait for a run are not shown: {error}")
        return []
    if waiting is None:
        st.caption("Files that wait for a run are not shown: SOURCE_BUCKET_NAME is not set.")
        return []
    return waiting


def _show_what_to_do(runs: Sequence[Run], waiting: Sequence[WaitingFile], asked: str | None) -> list[Run]:
    """Show what waits, and the runs since the last good one, with the next command; return these runs.

    The run with the key `asked` is on the page already.
    """
    since = next((index for index, run in enumerate(runs) if run.state in STORED), len(runs))
    # The last run that stored its KPIs is among them if it has warnings.
    newest = [run for run in runs[: since + 1] if run.state != State.COMPLETE]
    shown = newest[:MAX_CARDS]
    if waiting:
        _show_waiting(waiting)
    first_failed = next((run for run in shown if run.state == State.FAILED), None)
    for number, run in enumerate(shown):
        if run.run_key == asked:
            continue
        color, _ = LOOKS[run.state]
        label = f":{color}-badge[{run.state}] {plain(run.dag_run_id)}"
        is_open = number == 0 or run is first_failed
        with st.container(border=True) if is_open else st.expander(label):
            _show_card(run)
    if len(newest) > len(shown):
        st.caption(f"{counted(len(newest) - len(shown), 'older run')} without KPIs: see the table.")
    if runs and not waiting and not newest:
        st.success("The last run is complete, and no file waits.", icon=":material/check_circle:")
    return shown


def _show_waiting(waiting: Sequence[WaitingFile]) -> None:
    names = ", ".join(plain(file.key) for file in waiting[:SHOWN_FILES])
    more = f" and {len(waiting) - SHOWN_FILES:,} more" if len(waiting) > SHOWN_FILES else ""
    oldest = waiting[0].arrived
    with st.container(border=True):
        st.badge("waiting", icon=":material/hourglass_empty:", color="blue")
        st.markdown(
            f"{counted(len(waiting), 'stream file')} ({byte_size(sum(file.size for file in waiting))}) "
            f"{'waits' if len(waiting) == 1 else 'wait'} for a run, the oldest since {when(oldest)} "
            f"({ago(oldest, datetime.now(UTC))}): {names}{more}."
        )
        st.markdown("The next run takes them. To start one:")
        st.code(run_command(), language="bash", wrap_lines=True)


def _show_card(run: Run) -> None:
    """Show how a run stands, why, and the next commands."""
    color, icon = LOOKS[run.state]
    st.badge(run.state, icon=icon, color=color)
    verb, moment = ("ended", run.ended) if run.ended else ("began", run.at)
    st.markdown(
        f"**{plain(run.dag_run_id)}** {verb} {when(moment)}, {ago(moment, datetime.now(UTC))}"
        + (f", in {plain(run.task_id)}." if run.task_id else ".")
    )
    if run.reason:
        st.markdown(plain(run.reason))
    if run.next_step:
        more = f" More: `docs/runbook.md#{run.section}`" if run.section else ""
        st.markdown(f"**What to do:** {plain(run.next_step)}{more}")
    for choice in next_commands(run):
        st.markdown(f"**Next command**, {choice.when}:")
        st.code(choice.command, language="bash", wrap_lines=True)


def _show_runs(runs: Sequence[Run], in_all: int) -> None:
    st.subheader("Runs")
    reports = [run.report for run in runs]
    frame = pd.DataFrame(
        {
            "State": [[str(run.state)] for run in runs],
            "Time (UTC)": [run.at for run in runs],
            "Rows": _whole(report and report.rows for report in reports),
            "New": _whole(report and report.new for report in reports),
            "Repeated": _whole(report and report.repeated for report in reports),
            "Rejected": _whole(report and report.rejected for report in reports),
            "Files": _whole(run.files for run in runs),
            "Quarantined": _whole(report and report.quarantined for report in reports),
            "Duration": [took(report.duration) if report else None for report in reports],
            "Days": [_span(report) if report else None for report in reports],
            "Why": [run.reason or None for run in runs],
            "Next command": [next((choice.command for choice in next_commands(run)), None) for run in runs],
            "Run": [run.dag_run_id for run in runs],
        }
    )
    counts = ("Rows", "New", "Repeated", "Rejected", "Files", "Quarantined")
    st.dataframe(
        frame,
        hide_index=True,
        key="runs",
        column_config={
            "State": st.column_config.MultiselectColumn(
                options=[str(state) for state in LOOKS], color=[color for color, _ in LOOKS.values()]
            ),
            "Time (UTC)": st.column_config.DatetimeColumn(
                format="YYYY-MM-DD HH:mm",
                timezone="UTC",
                help="When the run listed its files; if it ended before that, when it ended.",
            ),
            **{name: st.column_config.NumberColumn(format="localized") for name in counts},
            "Duration": st.column_config.TextColumn(help="From the listing of the files to the report."),
            "Days": st.column_config.TextColumn(width="medium"),
            "Why": st.column_config.TextColumn(width="large"),
        },
        placeholder="–",
        alt="The newest runs",
    )
    st.caption(
        f"{len(runs):,} of {counted(in_all, 'run')}, newest first. Rows = valid + rejected; valid = new + "
        "repeated. A run is listed here once it has listed its files, failed or been skipped. While it waits "
        "for a first file, only Airflow shows it. A failed run whose task was cleared stays failed until it "
        "ends again."
    )


def _whole(numbers: object) -> pd.Series:
    return pd.Series(list(numbers), dtype="Int64")  # type: ignore[call-overload]


def _span(report: RunReport) -> str:
    if not report.days:
        return "none"
    if len(report.days) == 1:
        return str(report.days[0])
    return f"{report.days[0]} to {report.days[-1]} ({len(report.days)})"


def _show_quality(reports: Sequence[RunReport]) -> None:
    """Show the figures of these runs, oldest first, and the verdicts of their checks."""
    st.subheader("Quality over time")
    points = points_by_figure(reports)
    outliers = [
        (report, found)
        for number, report in enumerate(reports)
        if (found := [of_figure[number] for of_figure in points.values() if of_figure[number].is_outlier])
    ]
    st.caption(
        f"{counted(len(reports), 'run')} of new files, oldest on the left. The band is the range to expect "
        "after the runs before: from half their median to twice the median, or wider if they vary more. A "
        "triangle and a word mark what is outside of it, and low numbers only where they are a problem."
    )
    for report, found in outliers[: -SHOWN_OUTLIERS - 1 : -1]:
        st.markdown(
            f":red-badge[:material/error: unusual] **{plain(report.dag_run_id)}**, {when(report.frozen_at)}: "
            + " · ".join(plain(outlier_in_words(point)) for point in found)
        )
    if len(outliers) > SHOWN_OUTLIERS:
        st.caption(f"{counted(len(outliers) - SHOWN_OUTLIERS, 'older run')} with outliers: see the charts.")
    figures = list(points.values())
    for start in range(0, len(figures), CHARTS_IN_A_ROW):
        columns = st.columns(CHARTS_IN_A_ROW)
        for column, of_figure in zip(columns, figures[start : start + CHARTS_IN_A_ROW], strict=False):
            with column.container(border=True, height="stretch"):
                _show_figure(of_figure[0].figure, of_figure)
    with st.container(border=True):
        _show_verdicts(reports)


def _show_figure(figure: Figure, points: Sequence[Point]) -> None:
    frame = pd.DataFrame(
        {
            "Run": [_begin(point.report) for point in points],
            "Id": [point.report.dag_run_id for point in points],
            "Value": [point.value for point in points],
            "Number": ["–" if point.value is None else worded(figure, point.value) for point in points],
            "Low": [point.expected.low if point.expected else None for point in points],
            "High": [point.expected.high if point.expected else None for point in points],
            "Expected": [range_in_words(point) for point in points],
            "Verdict": [point.verdict for point in points],
            "Outlier": [point.verdict if point.is_outlier else "" for point in points],
        }
    )
    newest = next(point for point in reversed(points) if point.value is not None)
    verdict = newest.verdict if newest.verdict == UNKNOWN else f"{newest.verdict} ({range_in_words(newest)})"
    assert newest.value is not None
    below = f"last {worded(figure, newest.value)}: {verdict}"
    chart = figure_over_runs(
        frame, title=figure.label, below=below, number_format=_AXIS_FORMATS.get(figure.unit, ",~f")
    )
    st.altair_chart(chart, key=f"figure-{figure.name}")


def _show_verdicts(reports: Sequence[RunReport]) -> None:
    """Show the verdicts of the checks of which any did not simply pass."""
    rows = [
        {
            "Run": _begin(report),
            "Id": report.dag_run_id,
            "Check": check.name,
            "Verdict": check.verdict,
            "Why": check.message,
        }
        for report in reports
        for check in report.checks
    ]
    notable = {row["Check"] for row in rows if row["Verdict"] != PASSED}
    if not notable:
        st.caption("Every check of these runs passed.")
        return
    frame = pd.DataFrame([row for row in rows if row["Check"] in notable])
    st.altair_chart(verdicts_over_runs(frame, [_begin(report) for report in reports]), key="verdicts")


def _begin(report: RunReport) -> str:
    return f"{report.frozen_at:%Y-%m-%d %H:%M:%S}"


def _show_rows(reports: Sequence[RunReport]) -> None:
    frame = pd.DataFrame(
        [
            {"Run": f"{report.frozen_at:%m-%d %H:%M:%S}", "Kind": kind, "Rows": rows}
            for report in [report for report in reports if report.rows][:MAX_CHARTED]
            for kind, rows in zip(
                KINDS, (report.new or 0, report.rejected, report.repeated or 0), strict=True
            )
        ]
    )
    st.altair_chart(rows_of_runs(frame, KINDS), key="rows")


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


def _show_asked(archive: Archive, runs: Sequence[Run], run_key: str) -> None:
    """Show the run that the page's address names, and how to leave it."""
    run = next((run for run in runs if run.run_key == run_key), None)
    with st.container(border=True):
        if run is None:
            st.warning(
                f"The bucket {plain(archive.bucket)} has no record of a run {plain(run_key)}. A run is "
                "recorded once it has listed its files, failed or been skipped.",
                icon=":material/search_off:",
            )
        else:
            _show_card(run)
            _show_details(archive, run)
        if st.button("Show any run"):
            del st.query_params["run"]
            st.rerun()


def _show_run(archive: Archive, runs: Sequence[Run], shown: Sequence[Run]) -> None:
    """Show all about the run that is chosen; how it stands only if the page does not show that above."""
    st.subheader("One run in detail")
    run = st.selectbox(
        "Run",
        runs,
        index=next((index for index, run in enumerate(runs) if next_commands(run)), 0),
        format_func=lambda run: f"{run.at:%Y-%m-%d %H:%M} · {run.state} · {run.dag_run_id}",
        key="run",
    )
    if run not in shown:
        _show_card(run)
    _show_details(archive, run)


def _show_details(archive: Archive, run: Run) -> None:
    if run.report is None:
        st.info("This run wrote no report.", icon=":material/info:")
        return
    _show_counts(run.report)
    if run.report.checks:
        _show_checks(run.report)
    _show_quarantine(archive, run.report)


def _show_counts(report: RunReport) -> None:
    if report.reprocessed:
        st.markdown(f"Days reprocessed from the history, without new files: {_span(report)}.")
        return
    left = f" + {report.left:,} left in the source" if report.left else ""
    figures = report.figures
    late = f" ({figures['late']:,} of them late)" if figures["late"] else ""
    hours, seconds, usd = (figures[name] for name in ("freshness_hours", "dpu_seconds", "glue_usd"))
    newest = f"  \n**Newest listen:** {hours:,.1f} hours before the end" if hours is not None else ""
    glue = f"  \n**Glue:** {cost_in_words(seconds, usd)}" if seconds and usd else ""
    st.markdown(
        f"**Files:** {report.files:,} = {report.archived:,} archived + "
        f"{report.quarantined:,} quarantined{left}  \n"
        f"**Rows:** {report.rows:,} = {report.valid:,} valid + {report.rejected:,} rejected  \n"
        f"**Valid rows:** {report.new or 0:,} new{late} + {report.repeated or 0:,} repeated  \n"
        f"**Days:** {_span(report)}{newest}{glue}"
    )


def _show_checks(report: RunReport) -> None:
    st.markdown("**Checks to look at**")
    rows = [
        {
            "Verdict": check.verdict,
            "Check": check.name,
            "Value": check.value,
            "Limit": check.limit,
            "Why": check.message,
        }
        for check in report.checks
        if check.verdict != "passed"
    ]
    if not rows:
        st.info("Every check of this run passed.", icon=":material/check_circle:")
        return
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        key="checks",
        placeholder="–",
        alt="Checks that did not simply pass",
    )


def _show_quarantine(archive: Archive, report: RunReport) -> None:
    """Show the files and rows that the run rejected."""
    st.markdown("**Quarantine**")
    if not report.quarantined and not report.rejected:
        st.info("This run put nothing into quarantine.", icon=":material/check_circle:")
        return
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
            "Why": f"rejected rows of the other files: {report.why_rows}",
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
        placeholder="–",
        alt="What the run put into quarantine",
    )
    st.markdown(
        "Links are good for an hour. "
        f"All of it: `s3://{archive.bucket}/{quarantine_prefix(report.run_key)}`  \n"
        f"To fetch it and, once corrected, to bring it back: `{redrive_command(report.run_key)}`"
    )


show()
