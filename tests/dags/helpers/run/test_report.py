"""All reports have the fields of one record, however the run ends."""

import pytest
from pipeline_support import BAD, DAY, GOOD, RUN_KEY, GlueDay, Pipeline, Wire, answer, streams

from helpers.archive_streams_data import archive_streams_data
from helpers.contract.keys import history_prefix, input_prefix, report_key
from helpers.contract.records import (
    ReportedCatalog,
    ReportedDay,
    ReportedFile,
    ReportTotals,
    RunReport,
    StoredKpis,
)
from helpers.errors import NoValidRowsError
from helpers.run.glue_output import write_summary_of_nothing
from helpers.run.store import RunStore

PUBLISHED_NOTHING = ReportTotals.__annotations__.keys() - {"new", "repeated", "late"}


def archive(pipeline: Pipeline) -> RunReport:
    stored = StoredKpis(run_key=RUN_KEY, items_written=2, items_deleted=0, versions={DAY: 1}, checks=[])
    report: RunReport = pipeline.archived_json(archive_streams_data(stored, pipeline.config))
    return report


def test_report_of_a_run_that_published_has_every_field_of_the_record(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD))
    pipeline.move()
    pipeline.put_glue_output({DAY: GlueDay({"pop": 1}, new=1)})

    report = archive(pipeline)

    assert report.keys() == RunReport.__annotations__.keys()
    assert report["schema_version"] == 1
    assert report["totals"].keys() == ReportTotals.__annotations__.keys()
    assert report["days"][DAY].keys() == ReportedDay.__annotations__.keys()
    assert report["catalogs"]["songs"].keys() == ReportedCatalog.__annotations__.keys()
    assert report["newest_listen"] == f"{DAY}T10:00:00+00:00"
    assert report["glue"] == {"job_runs": 0, "dpu_seconds": 0, "estimated_usd": 0}
    (file,) = report["files"]
    assert file.keys() == ReportedFile.__annotations__.keys() - {"sample_of_rejected_rows"}


def test_report_of_files_with_only_a_header_has_the_same_fields(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams())
    pipeline.move()
    write_summary_of_nothing(RunStore(RUN_KEY, pipeline.config))

    report = archive(pipeline)

    assert report.keys() == RunReport.__annotations__.keys()
    assert (report["schema_version"], report["status"], report["days"]) == (1, "complete", {})
    assert report["totals"].keys() == ReportTotals.__annotations__.keys()


def test_report_of_a_run_without_a_valid_row_has_them_too_and_no_kpis(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(BAD))
    with pytest.raises(NoValidRowsError):
        pipeline.move()

    report: RunReport = pipeline.archived_json(report_key(RUN_KEY))

    assert report.keys() == RunReport.__annotations__.keys()
    assert (report["schema_version"], report["status"]) == (1, "no_valid_rows")
    assert report["totals"].keys() == PUBLISHED_NOTHING
    assert (report["days"], report["catalogs"], report["checks"]) == ({}, {}, [])
    assert (report["kpi_items_written"], report["kpi_items_deleted"]) == (0, 0)


def test_newest_listen_is_that_of_the_accepted_files(pipeline: Pipeline) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD, f"u1,t1,{DAY} 10:00:00.5"))
    pipeline.upload("streams/b.csv", streams(f"u1,t1,{DAY} 23:00:00", BAD))
    pipeline.move()
    pipeline.put_glue_output({DAY: GlueDay({"pop": 2}, new=2)})

    assert archive(pipeline)["newest_listen"] == f"{DAY}T10:00:00.500000+00:00"


@pytest.mark.parametrize(
    ("frozen_at_before", "computed_by_another", "late"),
    [
        ("2024-06-26T01:00:00+00:00", True, 5),
        ("2024-06-26T01:00:00+00:00", False, 0),
        ("2024-06-25T23:59:59+00:00", True, 0),
        (None, True, 0),
    ],
    ids=["day was over and computed", "day was not computed", "day was not over", "first run"],
)
def test_listens_are_late_for_a_day_that_was_over_and_computed(
    pipeline: Pipeline, frozen_at_before: str | None, computed_by_another: bool, late: int
) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(*(f"u1,t1,{DAY} 10:00:0{second}" for second in range(7))))
    pipeline.move()
    # A second attempt of the run meets its own objects, which make nothing late.
    for batch in [RUN_KEY] + ["another-run-1a2b3c4d"] * computed_by_another:
        key = f"{history_prefix(DAY)}{batch}__part-00000.parquet"
        pipeline.put(pipeline.config.archive_bucket, key, b"listens")
    pipeline.put_glue_output({DAY: GlueDay({"pop": 8}, new=5, repeated=2)})
    key = f"{input_prefix(RUN_KEY)}manifest.json"
    moved = pipeline.intermediate_json("input/manifest.json") | {"frozen_at_before": frozen_at_before}
    pipeline.put(pipeline.config.intermediate_bucket, key, moved)

    totals = archive(pipeline)["totals"]

    assert (totals["new"], totals["late"]) == (5, late)


def test_run_that_cannot_ask_glue_is_complete_without_its_cost(pipeline: Pipeline, wire: Wire) -> None:
    pipeline.upload_catalogs()
    pipeline.upload("streams/a.csv", streams(GOOD))
    pipeline.move()
    pipeline.put_glue_output({DAY: GlueDay({"pop": 1}, new=1)})
    wire.once("AWSGlue.GetJobRuns", answer(400, '{"__type": "AccessDeniedException"}'))

    report = archive(pipeline)

    assert (report["status"], report["glue"]) == ("complete", None)
    assert pipeline.source_keys() == ["songs/songs.csv", "users/users.csv"]
