"""All reports have the fields of one record, however the run ends."""

import pytest
from pipeline_support import BAD, DAY, GOOD, RUN_KEY, GlueDay, Pipeline, streams

from helpers.archive_streams_data import archive_streams_data
from helpers.contract.keys import report_key
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

PUBLISHED_NOTHING = ReportTotals.__annotations__.keys() - {"new", "repeated"}


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
