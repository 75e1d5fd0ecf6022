"""The run report: builds it, and writes it to mark the run as complete."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from helpers.aws.s3_objects import write_json, write_json_once
from helpers.contract.keys import LEFT_KEY, report_key
from helpers.contract.records import (
    COMPLETE,
    REPORT_SCHEMA_VERSION,
    FileOutcome,
    GlueSummary,
    GlueUsage,
    InputManifest,
    Manifest,
    ReportedCatalog,
    ReportedDay,
    ReportedFile,
    ReportTotals,
    RunReport,
    StoredKpis,
)
from helpers.run.store import RunStore

logger = logging.getLogger(__name__)


def build_report(
    manifest: Manifest, outcomes: list[FileOutcome], destinations: list[str | None], status: str
) -> RunReport:
    """Build the report of a run that published nothing and is complete now.

    Args:
        manifest: the run's manifest.
        outcomes: outcomes of its stream files.
        destinations: their keys in the archive bucket, as `carry_out_dispositions` returns them.
        status: why the run ended.
    """
    files = _files(manifest, outcomes, destinations)
    return RunReport(
        schema_version=REPORT_SCHEMA_VERSION,
        run_key=manifest["run_key"],
        dag_run_id=manifest["dag_run_id"],
        frozen_at=manifest["frozen_at"],
        status=status,
        totals=_totals(files),
        days={},
        files=files,
        ignored_keys=manifest["ignored_keys"],
        catalogs={},
        checks=[],
        accept_checks=False,
        reprocess_dates=[],
        kpi_items_written=0,
        kpi_items_deleted=0,
        newest_listen=max(
            (file["newest_listen"] for file in files if "newest_listen" in file),
            key=datetime.fromisoformat,
            default=None,
        ),
        glue=GlueUsage(job_runs=0, dpu_seconds=0, estimated_usd=0),
        completed_at=datetime.now(UTC).isoformat(),
    )


def build_complete_report(
    manifest: Manifest,
    moved: InputManifest,
    summary: GlueSummary,
    stored: StoredKpis,
    destinations: list[str | None],
    glue: GlueUsage | None,
) -> RunReport:
    """Build the report of a run whose KPIs are stored: `build_report` plus the published days and counts."""
    report = build_report(manifest, moved["outcomes"], destinations, COMPLETE)
    report["totals"] |= {
        "new": summary["new"],
        "repeated": summary["repeated"],
        "late": _count_late(summary, moved.get("frozen_at_before")),
    }
    report["days"] = {
        day: ReportedDay(
            rows_read=counts["rows_read"],
            new=counts["new"],
            repeated=counts["repeated"],
            total=counts["total"],
            version=stored["versions"].get(day),
        )
        for day, counts in summary["days"].items()
    }
    report["catalogs"] = {
        name: ReportedCatalog(files=catalog["files"], rows=catalog["rows"], notes=catalog["notes"])
        for name, catalog in (("songs", moved["songs"]), ("users", moved["users"]))
    }
    report["checks"] = moved["checks"] + stored["checks"]
    report["accept_checks"] = moved["accept_checks"]
    report["reprocess_dates"] = moved["reprocess_dates"]
    report["kpi_items_written"] = stored["items_written"]
    report["kpi_items_deleted"] = stored["items_deleted"]
    report["glue"] = glue
    return report


def write_report(run: RunStore, report: RunReport) -> str:
    """Write the run report, unless an earlier attempt wrote it; return its key.

    Also record the files that are left, so that they alone do not begin another run.
    """
    bucket, key = run.config.archive_bucket, report_key(run.run_key)
    left = {file["key"]: file["last_modified"] for file in report["files"] if file["disposition"] == "left"}
    if left:
        write_json(run.s3, bucket, LEFT_KEY, left)
    write_json_once(run.s3, bucket, key, report)
    logger.info("Run report: s3://%s/%s", bucket, key)
    return key


def without_index(outcome: FileOutcome) -> dict[str, Any]:
    """Return the outcome without the manifest's index, which means nothing outside the run."""
    return {name: value for name, value in outcome.items() if name != "index"}


def _count_late(summary: GlueSummary, frozen_at_before: str | None) -> int:
    """Count the new listens of days that were over at that time and that another run had computed."""
    own = f"{summary['batch_id']}__"
    return sum(
        counts["new"]
        for day, counts in summary["days"].items()
        if frozen_at_before
        and day < frozen_at_before[:10]
        and any(not name.startswith(own) for name in counts["history_objects"])
    )


def _files(
    manifest: Manifest, outcomes: list[FileOutcome], destinations: list[str | None]
) -> list[ReportedFile]:
    return [
        {**manifest["streams"][outcome["index"]], **without_index(outcome), "destination": destination}  # type: ignore[typeddict-item]
        for outcome, destination in zip(outcomes, destinations, strict=True)
    ]


def _totals(files: list[ReportedFile]) -> ReportTotals:
    dispositions = Counter(file["disposition"] for file in files)
    by_reason: Counter[str] = Counter()
    for file in files:
        by_reason.update(file["rejected_by_reason"])
    return ReportTotals(
        files=len(files),
        archived=dispositions["archive"],
        quarantined=dispositions["quarantine"],
        left=dispositions["left"],
        rows=sum(file["rows"] for file in files),
        valid=sum(file["valid"] for file in files),
        rejected=sum(file["rejected"] for file in files),
        rejected_by_reason=dict(by_reason.most_common()),
    )
