from decimal import Decimal
from typing import Any

import pytest
from pipeline_support import DAY, RUN_ID, RUN_KEY, GlueDay, Pipeline

from helpers.errors import ReconciliationError
from helpers.run.glue_output import (
    check_summary,
    history_copies,
    history_problem,
    read_kpi_records,
    read_summary,
)
from helpers.run.store import RunStore

OTHER_DAY = "2024-06-24"
OWN_KEY = f"listens/listen_date={DAY}/{RUN_KEY}__part-00000-a.parquet"


def put_output(pipeline: Pipeline, **changes: Any) -> Any:
    days = {DAY: GlueDay({"pop": 3, "rock": 1}, new=4, repeated=2), OTHER_DAY: GlueDay({"pop": 1}, new=1)}
    return pipeline.put_glue_output(days) | changes


class TestReadSummary:
    def test_summary_of_the_run_is_returned(self, pipeline: Pipeline) -> None:
        summary = put_output(pipeline)

        assert read_summary(RunStore(RUN_KEY, pipeline.config)) == summary

    @pytest.mark.parametrize("content", [None, {"batch_id": "other"}], ids=["missing", "of another batch"])
    def test_output_without_its_summary_is_an_error(self, pipeline: Pipeline, content: Any) -> None:
        if content:
            pipeline.put(pipeline.config.intermediate_bucket, f"runs/{RUN_KEY}/output/summary.json", content)

        with pytest.raises(ReconciliationError, match=r"left no summary of run .* Clear trigger_glue_job"):
            read_summary(RunStore(RUN_KEY, pipeline.config))


class TestCheckSummary:
    def test_output_that_adds_up_is_accepted(self, pipeline: Pipeline) -> None:
        check_summary(RunStore(RUN_KEY, pipeline.config), put_output(pipeline), valid_rows=7)

    @pytest.mark.parametrize(
        ("valid_rows", "changes", "problem"),
        [
            pytest.param(8, {}, "the ingest counted 8 valid rows, the Glue job read 7", id="row lost"),
            pytest.param(6, {}, "the ingest counted 6 valid rows, the Glue job read 7", id="row made up"),
            pytest.param(
                7, {"new": 6}, "read 7 rows, but counts 6 new and 2 repeated", id="new and repeated"
            ),
            pytest.param(
                8, {"rows_read": 8, "new": 6}, "rows_read = 8, its days add up to 7", id="days' rows"
            ),
            pytest.param(7, {"new": 4, "repeated": 3}, "new = 4, its days add up to 5", id="days' new"),
        ],
    )
    def test_counts_that_disagree_are_told(
        self, pipeline: Pipeline, valid_rows: int, changes: dict[str, int], problem: str
    ) -> None:
        summary = put_output(pipeline, **changes)

        with pytest.raises(ReconciliationError, match=f"Run {RUN_KEY}: .*{problem}"):
            check_summary(RunStore(RUN_KEY, pipeline.config), summary, valid_rows)

    @pytest.mark.parametrize("content", [None, b"cut"], ids=["missing", "of another size"])
    @pytest.mark.parametrize(
        "name", [f"listens/listen_date={DAY}/part-00000-a.parquet", "kpis/part-00000.json"]
    )
    def test_object_that_is_not_as_the_summary_says_is_told(
        self, pipeline: Pipeline, name: str, content: bytes | None
    ) -> None:
        summary = put_output(pipeline)
        place = {"Bucket": pipeline.config.intermediate_bucket, "Key": f"runs/{RUN_KEY}/output/{name}"}
        if content is None:
            pipeline.s3.delete_object(**place)
        else:
            pipeline.s3.put_object(**place, Body=content)

        with pytest.raises(
            ReconciliationError, match=rf"output {name} should have \d+ bytes, found (None|3)"
        ):
            check_summary(RunStore(RUN_KEY, pipeline.config), summary, 7)


def test_kpi_records_of_all_objects_are_read_with_exact_numbers(pipeline: Pipeline) -> None:
    summary = put_output(pipeline)
    more = b'{"date": "2024-06-25", "track_genre": "x", "total_listening_time": 0.1, "listen_count": 3}\n'
    pipeline.put(pipeline.config.intermediate_bucket, f"runs/{RUN_KEY}/output/kpis/part-00001.json", more)
    summary["objects"]["kpis/part-00001.json"] = len(more)

    records = read_kpi_records(RunStore(RUN_KEY, pipeline.config), summary)

    assert [(record["date"], record["track_genre"]) for record in records] == [
        (DAY, "pop"),
        (DAY, "rock"),
        (DAY, "ALL_GENRES"),
        (OTHER_DAY, "pop"),
        (OTHER_DAY, "ALL_GENRES"),
        (DAY, "x"),
    ]
    assert records[-1]["total_listening_time"] == Decimal("0.1")
    assert isinstance(records[-1]["listen_count"], int)


def test_names_in_the_history_derive_from_batch_and_object(pipeline: Pipeline) -> None:
    assert history_copies(put_output(pipeline)) == {
        f"listens/listen_date={DAY}/part-00000-a.parquet": OWN_KEY,
        f"listens/listen_date={OTHER_DAY}/part-00000-a.parquet": OWN_KEY.replace(DAY, OTHER_DAY),
    }


class TestHistoryProblem:
    def problem(self, pipeline: Pipeline, summary: Any, added: bool) -> str | None:
        return history_problem(RunStore(RUN_KEY, pipeline.config), summary, added)

    @pytest.fixture
    def summary(self, pipeline: Pipeline) -> Any:
        pipeline.put(pipeline.config.archive_bucket, f"listens/listen_date={DAY}/older__a.parquet", b"1")
        pipeline.put(pipeline.config.archive_bucket, f"listens/listen_date={DAY}/_SUCCESS", b"")
        return pipeline.put_glue_output({DAY: GlueDay({"pop": 3}, new=1)}, run_id=RUN_ID)

    def test_history_that_glue_saw_is_fine_before_the_run_adds_to_it(
        self, pipeline: Pipeline, summary: Any
    ) -> None:
        assert self.problem(pipeline, summary, added=False) is None

    @pytest.mark.parametrize("added", [True, False])
    def test_history_that_glue_saw_and_the_runs_own_is_fine(
        self, pipeline: Pipeline, summary: Any, added: bool
    ) -> None:
        pipeline.put(pipeline.config.archive_bucket, OWN_KEY, b"own")

        assert self.problem(pipeline, summary, added) is None

    def test_missing_own_object_is_reported_once_it_should_be_there(
        self, pipeline: Pipeline, summary: Any
    ) -> None:
        assert self.problem(pipeline, summary, added=True) == f"the history of {DAY} lacks {OWN_KEY}"

    @pytest.mark.parametrize("added", [True, False])
    def test_object_of_another_run_is_told(self, pipeline: Pipeline, summary: Any, added: bool) -> None:
        pipeline.put(pipeline.config.archive_bucket, OWN_KEY, b"own")
        key = f"listens/listen_date={DAY}/later__a.parquet"
        pipeline.put(pipeline.config.archive_bucket, key, b"1")

        assert self.problem(pipeline, summary, added) == (
            f"another run added {key} to the history of {DAY} after Glue had read it"
        )

    @pytest.mark.parametrize("added", [True, False])
    def test_object_that_glue_saw_and_that_is_gone_is_told(
        self, pipeline: Pipeline, summary: Any, added: bool
    ) -> None:
        pipeline.put(pipeline.config.archive_bucket, OWN_KEY, b"own")
        key = f"listens/listen_date={DAY}/older__a.parquet"
        pipeline.s3.delete_object(Bucket=pipeline.config.archive_bucket, Key=key)

        assert self.problem(pipeline, summary, added) == f"the history of {DAY} lacks {key}"

    def test_other_days_do_not_matter(self, pipeline: Pipeline, summary: Any) -> None:
        pipeline.put(
            pipeline.config.archive_bucket, f"listens/listen_date={OTHER_DAY}/later__a.parquet", b"1"
        )

        assert self.problem(pipeline, summary, added=False) is None
