"""The runs as their records in the archive bucket show them, those without a report too.

    runs/<run_key>/manifest.json   the run has listed its files
    runs/<run_key>/stopped.json    a check stopped it
    runs/<run_key>/ending.json     it failed, or was skipped since no file came
    runs/<run_key>/report.json     it is complete, or ended for what its files were

A run that is still waiting for its first file has no record yet.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from helpers.contract.keys import RUNS_PREFIX
from helpers.contract.names import STREAMS_PREFIX, is_csv
from helpers.contract.records import ALL_LEFT, FAILED, NO_VALID_ROWS, PASSED, STOPPED
from include.kpis.problems import explained
from include.kpis.reports import (
    BUCKET_VARIABLE,
    MAX_CONNECTIONS,
    Archive,
    RunReport,
    list_objects,
    read_json,
    read_report,
)

if TYPE_CHECKING:
    from helpers.contract import records

SOURCE_VARIABLE = "SOURCE_BUCKET_NAME"
# Airflow ends a task after two hours at most, and a failure is recorded.
SILENT_AFTER = timedelta(hours=3)


class State(StrEnum):
    """How a run stands, in words that people read; a warned run is complete, too."""

    COMPLETE = "complete"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"
    RUNNING = "running"
    UNFINISHED = "no ending"


@dataclass(frozen=True)
class Run:
    """A run as far as its records show it.

    Attributes:
        began: when it listed its files, UTC; None if it ended before.
        ended: when it wrote its report, failed or was skipped, UTC; None while it runs.
        task_id: the task that failed or was skipped; empty if the records do not say.
        reason: why it failed, was skipped or has a warning.
        next_step: what to do about a failure, as its message says.
        section: of docs/runbook.md.
        files: its stream files; None if the records do not say.
        report: its report, if it wrote one.
        taken: key and ETag of the stream files of a run that has not ended.
    """

    run_key: str
    dag_run_id: str
    state: State
    began: datetime | None
    ended: datetime | None
    task_id: str = ""
    reason: str = ""
    next_step: str = ""
    section: str = ""
    files: int | None = None
    report: RunReport | None = None
    taken: frozenset[tuple[str, str]] = frozenset()

    @property
    def at(self) -> datetime:
        """When the run began or, where that is not known, when it ended."""
        known = self.began or self.ended
        assert known is not None
        return known


@dataclass(frozen=True)
class WaitingFile:
    """A stream file in the source bucket that no run works on."""

    key: str
    arrived: datetime
    size: int


def read_runs(
    archive: Archive, newest: int, now: datetime | None = None, also: str | None = None
) -> tuple[list[Run], int]:
    """Return the newest runs, newest first, and how many there are in all.

    One call reads one record, and one lists those of about 300 runs.

    Args:
        archive: where the runs are recorded.
        newest: how many runs to read.
        now: the time of reading.
        also: key of a run that is read even if it is older.

    Raises:
        ReadError: the bucket cannot be read.
    """
    now = now or datetime.now(UTC)
    with explained(f"bucket {archive.bucket}", BUCKET_VARIABLE):
        written: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
        for entry in list_objects(archive.s3, archive.bucket, RUNS_PREFIX):
            folder, _, name = entry["Key"].rpartition("/")
            if name in ("manifest.json", "stopped.json", "ending.json", "report.json"):
                written[folder][name] = entry["LastModified"]
        folders = sorted(written, key=lambda folder: max(written[folder].values()), reverse=True)
        asked = f"{RUNS_PREFIX}{also}"
        folders = [*folders[:newest], *(folder for folder in folders[newest:] if folder == asked)]
        with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
            runs = list(pool.map(lambda folder: _read_run(archive, folder, written[folder], now), folders))
    return sorted(runs, key=lambda run: run.ended or run.at, reverse=True), len(written)


def list_waiting(archive: Archive, runs: Iterable[Run]) -> list[WaitingFile] | None:
    """Return the stream files that no running run works on, oldest first; None without SOURCE_BUCKET_NAME.

    Raises:
        ReadError: the source bucket cannot be read.
    """
    bucket = os.environ.get(SOURCE_VARIABLE, "").strip()
    if not bucket:
        return None
    taken = frozenset().union(*(run.taken for run in runs if run.state == State.RUNNING))
    with explained(f"bucket {bucket}", SOURCE_VARIABLE):
        waiting = [
            WaitingFile(entry["Key"], entry["LastModified"], entry["Size"])
            for entry in list_objects(archive.s3, bucket, STREAMS_PREFIX)
            if is_csv(entry["Key"]) and (entry["Key"], entry["ETag"]) not in taken
        ]
    return sorted(waiting, key=lambda file: file.arrived)


def _read_run(archive: Archive, folder: str, written: dict[str, datetime], now: datetime) -> Run:
    ending: records.RunEnding | None = (
        read_json(archive, f"{folder}/ending.json") if "ending.json" in written else None
    )
    if "report.json" in written:
        return _with_report(read_report(archive, f"{folder}/report.json"), ending)
    listed = written.get("manifest.json")
    # A run whose task was cleared after the failure lists its files only if it had not done so before.
    if ending and not (listed and listed > written["ending.json"]):
        return Run(
            run_key=ending["run_key"],
            dag_run_id=ending["dag_run_id"],
            state=State(ending["state"]),
            began=listed,
            ended=datetime.fromisoformat(ending["ended_at"]),
            task_id=ending["task_id"],
            reason=ending["reason"],
            next_step=ending["next_step"],
            section=ending["section"],
        )
    return _without_ending(archive, folder, written, now)


def _with_report(report: RunReport, ending: records.RunEnding | None) -> Run:
    state, reason, task_id, next_step, section = State.COMPLETE, "", "", "", ""
    if report.status == NO_VALID_ROWS:
        state, reason = State.FAILED, "No stream file had a valid row; the files are in quarantine."
    elif report.status == ALL_LEFT:
        state, reason = State.SKIPPED, "Every stream file was left in the source bucket."
    elif warnings := [check.message for check in report.checks if check.verdict != PASSED]:
        state, reason = State.WARNED, ". ".join(warnings)
    if ending and ending["state"] == FAILED:
        if state == State.FAILED:
            task_id, reason = ending["task_id"], ending["reason"]
            next_step, section = ending["next_step"], ending["section"]
        elif datetime.fromisoformat(ending["ended_at"]) > report.completed_at:
            state, next_step, section = State.WARNED, ending["next_step"], ending["section"]
            after = f"{ending['task_id']} failed after the report was written: {ending['reason']}"
            reason = f"{reason}. {after}" if reason else after
    return Run(
        run_key=report.run_key,
        dag_run_id=report.dag_run_id,
        state=state,
        began=report.frozen_at,
        ended=report.completed_at,
        task_id=task_id,
        reason=reason,
        next_step=next_step,
        section=section,
        files=report.files,
        report=report,
    )


def _without_ending(archive: Archive, folder: str, written: dict[str, datetime], now: datetime) -> Run:
    manifest: records.Manifest | None = (
        read_json(archive, f"{folder}/manifest.json") if "manifest.json" in written else None
    )
    run_key = folder.rpartition("/")[2]
    began = datetime.fromisoformat(manifest["frozen_at"]) if manifest else None
    ended = None
    if "stopped.json" in written:
        checks: list[records.Check] = read_json(archive, f"{folder}/stopped.json")
        state, ended = State.FAILED, written["stopped.json"]
        reason = ". ".join(check["message"] for check in checks if check["verdict"] == STOPPED)
    elif began and now - began < SILENT_AFTER:
        state, reason = State.RUNNING, "It has listed its files and still runs."
    else:
        state = State.UNFINISHED
        reason = (
            "It has listed its files, and no report or failure was written since. It still runs, or it was "
            "stopped from outside."
        )
    streams = manifest["streams"] if manifest else []
    return Run(
        run_key=run_key,
        dag_run_id=manifest["dag_run_id"] if manifest else run_key,
        state=state,
        began=began,
        ended=ended,
        reason=reason,
        section="a-check-stopped-the-run" if state == State.FAILED else "",
        files=len(streams),
        taken=frozenset((version["key"], version["etag"]) for version in streams),
    )
