"""What the Glue job left for a run: its summary, its KPI records, and whether they are whole."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

from helpers.config import PipelineConfig
from helpers.errors import ReconciliationError
from helpers.run_key import history_prefix, output_prefix
from helpers.s3_objects import list_sizes, read_json

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RUN_GLUE_AGAIN = "Nothing was archived. Clear trigger_glue_job and what follows it."


class DayCounts(TypedDict):
    """One listen day of a Glue run; `history_objects` names the history's objects that it read."""

    rows_read: int
    new: int
    repeated: int
    added: int
    total: int
    history_objects: list[str]


class GlueSummary(TypedDict):
    """What the Glue job says of its run; `objects` are sizes in bytes by key under the output prefix."""

    batch_id: str
    computed_at: str
    rows_read: int
    new: int
    repeated: int
    days: dict[str, DayCounts]
    objects: dict[str, int]


def read_summary(s3: S3Client, config: PipelineConfig, run_key: str) -> GlueSummary:
    """Return the summary of the run's Glue job.

    Raises:
        ReconciliationError: there is none, or it belongs to another batch.
    """
    key = f"{output_prefix(run_key)}summary.json"
    summary: GlueSummary | None = read_json(s3, config.intermediate_bucket, key)
    if summary is None or summary["batch_id"] != run_key:
        raise ReconciliationError(
            f"The Glue job left no summary of run {run_key} at s3://{config.intermediate_bucket}/{key}, "
            f"so its output is missing or partial. {RUN_GLUE_AGAIN}"
        )
    return summary


def check_summary(s3: S3Client, config: PipelineConfig, summary: GlueSummary, valid_rows: int) -> None:
    """Check that the Glue job read every valid row, that its counts add up and that its output is whole.

    Raises:
        ReconciliationError: one of it does not hold.
    """
    problem = _count_mismatch(summary, valid_rows) or _object_mismatch(s3, config, summary)
    if problem:
        raise ReconciliationError(f"Run {summary['batch_id']}: {problem}. {RUN_GLUE_AGAIN}")


def read_kpi_records(s3: S3Client, config: PipelineConfig, summary: GlueSummary) -> list[dict[str, Any]]:
    """Return the job's KPI records, numbers as int or Decimal."""
    records: list[dict[str, Any]] = []
    for name in sorted(summary["objects"]):
        if name.startswith("kpis/"):
            key = output_prefix(summary["batch_id"]) + name
            body = s3.get_object(Bucket=config.intermediate_bucket, Key=key)["Body"].read()
            records += [json.loads(line, parse_float=Decimal) for line in body.splitlines()]
    return records


def history_copies(summary: GlueSummary) -> dict[str, str]:
    """Return, for each object of new listens, its key in the history.

    The name derives from the batch and from the object, so that the same output is added once however often
    it is copied, and other output of the same batch never replaces what is there.
    """
    copies = {}
    for name in summary["objects"]:
        if name.startswith("listens/"):
            folder, _, file = name.rpartition("/")
            copies[name] = f"{folder}/{summary['batch_id']}__{file}"
    return copies


def history_problem(s3: S3Client, config: PipelineConfig, summary: GlueSummary, added: bool) -> str | None:
    """Say how the history differs from what the Glue job saw plus the run's own objects, or return None.

    With `added` false, the run's own objects may be there or not.
    """
    own_keys = set(history_copies(summary).values())
    for day, counts in summary["days"].items():
        prefix = history_prefix(day)
        listed = list_sizes(s3, config.archive_bucket, prefix)
        present = {key for key in listed if key.endswith(".parquet")}
        own = {key for key in own_keys if key.startswith(prefix)}
        expected = {prefix + name for name in counts["history_objects"]} | own
        unexpected, missing = present - expected, expected - present - (set() if added else own)
        if unexpected:
            return f"another run added {sorted(unexpected)[0]} to the history of {day} after Glue had read it"
        if missing:
            return f"the history of {day} lacks {sorted(missing)[0]}"
    return None


def _count_mismatch(summary: GlueSummary, valid_rows: int) -> str | None:
    read, new, repeated = summary["rows_read"], summary["new"], summary["repeated"]
    if read != valid_rows:
        return f"the ingest counted {valid_rows} valid rows, the Glue job read {read}"
    if read != new + repeated:
        return f"the Glue job read {read} rows, but counts {new} new and {repeated} repeated ones"
    for name, total in (("rows_read", read), ("new", new), ("repeated", repeated)):
        by_day = sum(counts[name] for counts in summary["days"].values())  # type: ignore[literal-required]
        if by_day != total:
            return f"the Glue job counts {name} = {total}, its days add up to {by_day}"
    return None


def _object_mismatch(s3: S3Client, config: PipelineConfig, summary: GlueSummary) -> str | None:
    prefix = output_prefix(summary["batch_id"])
    sizes = list_sizes(s3, config.intermediate_bucket, prefix)
    for name, size in summary["objects"].items():
        if sizes.get(prefix + name) != size:
            found = sizes.get(prefix + name)
            return f"the Glue job's output {name} should have {size} bytes, found {found}"
    return None
