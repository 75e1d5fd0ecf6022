"""All places where a person reads about a run say in the same words which rows and files it rejected."""

import io
from typing import Any

import pytest
from pipeline_support import DAY, GOOD, RUN_ID, RUN_KEY, GlueDay, Pipeline, streams
from rich.console import Console

from helpers.archive_streams_data import archive_streams_data
from helpers.contract.keys import report_key
from helpers.contract.records import StoredKpis
from helpers.errors import NoValidRowsError
from helpers.notices.note_run import MAX_CHECK, run_note
from helpers.notices.notify_failure import failure_message, notify_failure
from helpers.notices.notify_warnings import warning_message
from helpers.run.store import RunStore
from include.commands.tables import report_tables
from include.kpis.reports import Archive, read_report
from include.redrive import list_quarantined

SLASHED = "u1,t1,25/06/2024 17:43"
RULE = "write it like 2024-06-25 17:43:13 (UTC) or 2024-06-25T19:43:13+02:00"
OF_ROWS = (
    "invalid listen_time in 1 row, such as '1719337393000' in line 32, which looks like milliseconds since "
    f"1970: {RULE}"
)
OF_FILE = (
    "200 of 200 rows are bad: invalid listen_time in 200 rows, such as '25/06/2024 17:43' in line 2, which "
    f"looks like day/month/year: {RULE} (MAX_REJECTED_FRACTION allows a fraction of 0.05)"
)


def read_everywhere(pipeline: Pipeline) -> dict[str, str]:
    """Return what the readers of the run's report show of it."""
    report: Any = RunStore(RUN_KEY, pipeline.config).report()
    archive = pipeline.config.archive_bucket
    for_dashboard = read_report(Archive(pipeline.s3, archive), report_key(RUN_KEY))
    console = Console(file=io.StringIO(), width=2000)
    console.print(report_tables(report))
    return {
        "terminal": console.file.getvalue(),  # type: ignore[attr-defined]
        "redrive": "\n".join(
            reason for item in list_quarantined(pipeline.s3, archive, RUN_KEY) for reason in item.reasons
        ),
        "note": run_note(report, [], []),
        "message": warning_message(report, "https://report")[1],
        "dashboard": "\n".join(
            [for_dashboard.why_rows, *(file.reason for file in for_dashboard.quarantined_files)]
        ),
    }


def test_rejected_rows_and_files_of_a_run_that_ended_well(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/rows.csv", streams(*[GOOD] * 30, "u1,t1,1719337393000"))
    pipeline.upload("streams/file.csv", streams(*[SLASHED] * 200))
    pipeline.move()
    pipeline.put_glue_output({DAY: GlueDay({"pop": 1}, new=1)})
    stored = StoredKpis(run_key=RUN_KEY, items_written=2, items_deleted=0, versions={DAY: 1}, checks=[])
    archive_streams_data(stored, pipeline.config)

    read = read_everywhere(pipeline)

    # A note has 1,000 characters in all, so the end of a long sentence is not in it.
    ends = {place: MAX_CHECK // 2 if place == "note" else None for place in read}
    assert {place: OF_ROWS[: ends[place]] in text for place, text in read.items()} == dict.fromkeys(
        read, True
    )
    assert {place: OF_FILE[: ends[place]] in text for place, text in read.items()} == dict.fromkeys(
        read, True
    )


def test_only_file_of_a_run_that_failed_for_it(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/file.csv", streams(*[SLASHED] * 200))
    with pytest.raises(NoValidRowsError) as raised:
        pipeline.move()
    task: Any = type(
        "Task", (), {"dag_id": "d", "task_id": "move", "try_number": 1, "log_url": "https://log"}
    )
    context: Any = {"task_instance": task, "run_id": RUN_ID, "exception": raised.value}
    notify_failure(context)

    run = RunStore(RUN_KEY, pipeline.config)
    read = read_everywhere(pipeline) | {
        "note": run_note(run.report(), ["move"], [], ending=run.ending()),
        "message": failure_message(context)[1],
    }

    assert {place: OF_FILE in text for place, text in read.items()} == dict.fromkeys(read, True)
