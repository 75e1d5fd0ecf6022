"""The Glue job's output: its summary, its KPI records, and the checks that they are complete."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from helpers.aws.s3_objects import list_sizes, read_json, write_json
from helpers.contract.keys import history_prefix, output_prefix, summary_key
from helpers.contract.records import GlueSummary
from helpers.errors import GlueOutputError
from helpers.run.store import RunStore

RUN_GLUE_AGAIN = "Nothing was archived. Clear trigger_glue_job and its downstream tasks."


def write_summary_of_nothing(run: RunStore) -> None:
    """Write the summary of a run whose files have no rows, without the cost of a Glue job run."""
    summary = GlueSummary(
        batch_id=run.run_key,
        computed_at=datetime.now(UTC).isoformat(),
        rows_read=0,
        new=0,
        repeated=0,
        days={},
        objects={},
    )
    write_json(run.s3, run.config.intermediate_bucket, summary_key(run.run_key), summary)


def read_summary(run: RunStore) -> GlueSummary:
    """Return the Glue job's summary of the run.

    Raises:
        GlueOutputError: there is none, or it belongs to another batch.
    """
    bucket, key = run.config.intermediate_bucket, summary_key(run.run_key)
    summary: GlueSummary | None = read_json(run.s3, bucket, key)
    if summary is None or summary["batch_id"] != run.run_key:
        raise GlueOutputError(
            f"The Glue job left no summary of run {run.run_key} at s3://{bucket}/{key}, "
            f"so its output is missing or partial. {RUN_GLUE_AGAIN}"
        )
    return summary


def check_summary(run: RunStore, summary: GlueSummary, valid_rows: int) -> None:
    """Check that the Glue job read every valid row, that its counts add up and that its output is complete.

    Raises:
        GlueOutputError: one of these conditions fails.
    """
    problem = _count_mismatch(summary, valid_rows) or _object_mismatch(run, summary)
    if problem:
        raise GlueOutputError(f"Run {run.run_key}: {problem}. {RUN_GLUE_AGAIN}")


def read_kpi_records(run: RunStore, summary: GlueSummary) -> list[dict[str, Any]]:
    """Return the job's KPI records; numbers are int or Decimal."""
    records: list[dict[str, Any]] = []
    for name in sorted(summary["objects"]):
        if name.startswith("kpis/"):
            key = output_prefix(run.run_key) + name
            body = run.s3.get_object(Bucket=run.config.intermediate_bucket, Key=key)["Body"].read()
            records += [json.loads(line, parse_float=Decimal) for line in body.splitlines()]
    return records


def history_copies(summary: GlueSummary) -> dict[str, str]:
    """Return object of new listens -> its key in the history.

    The name derives from the batch and the object. The same output is therefore added once, however often it
    is copied, and other output of the same batch never replaces existing objects.
    """
    copies = {}
    for name in summary["objects"]:
        if name.startswith("listens/"):
            folder, _, file = name.rpartition("/")
            copies[name] = f"{folder}/{summary['batch_id']}__{file}"
    return copies


def history_problem(run: RunStore, summary: GlueSummary, added: bool) -> str | None:
    """Describe how the history differs from what Glue read plus the run's own objects; None if it does not.

    If `added` is false, the run's own objects may or may not be there.
    """
    own_keys = set(history_copies(summary).values())
    for day, counts in summary["days"].items():
        prefix = history_prefix(day)
        listed = list_sizes(run.s3, run.config.archive_bucket, prefix)
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


def _object_mismatch(run: RunStore, summary: GlueSummary) -> str | None:
    prefix = output_prefix(run.run_key)
    sizes = list_sizes(run.s3, run.config.intermediate_bucket, prefix)
    for name, size in summary["objects"].items():
        if sizes.get(prefix + name) != size:
            found = sizes.get(prefix + name)
            return f"the Glue job's output {name} should have {size} bytes, found {found}"
    return None
