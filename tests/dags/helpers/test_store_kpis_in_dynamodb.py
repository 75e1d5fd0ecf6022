from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pipeline_support import (
    DAY,
    RUN_ID,
    RUN_KEY,
    GlueDay,
    Pipeline,
    Wire,
    answer,
    answer_after_commit,
    described,
)

from helpers.contract.keys import report_key, run_key_of
from helpers.contract.records import StoredKpis
from helpers.errors import BadInputError, ReconciliationError
from helpers.run.kpi_items import day_versions, to_items
from helpers.store_kpis_in_dynamodb import store_kpis_in_dynamodb

NEXT_DAY = "2024-06-26"
LATER_RUN = "manual__2024-06-27T00:00:00+00:00"
FIRST_FROZEN = "2024-06-26T00:00:00+00:00"
LATER_FROZEN = "2024-06-27T00:00:00+00:00"
THROTTLED = '{"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}'
CONFLICT = """
{"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException", "Message": "cancelled",
 "CancellationReasons": [{"Code": "TransactionConflict", "Message": "ongoing"}, {"Code": "None"}]}
"""
INVALID = '{"__type": "com.amazon.coral.validate#ValidationException", "message": "no"}'


def compute(
    pipeline: Pipeline,
    days: dict[str, GlueDay],
    run_id: str = RUN_ID,
    frozen_at: str = FIRST_FROZEN,
    rows: int | None = None,
    **output: Any,
) -> dict[str, Any]:
    """Write a run's results up to its Glue job; return Glue's summary."""
    summary = pipeline.put_glue_output(days, run_id=run_id, **output)
    pipeline.put_input_manifest(summary["rows_read"] if rows is None else rows, run_id, frozen_at)
    return summary


def store(pipeline: Pipeline, run_id: str = RUN_ID) -> StoredKpis:
    return store_kpis_in_dynamodb(run_id, pipeline.config)


def run(pipeline: Pipeline, days: dict[str, GlueDay], run_id: str = RUN_ID, **options: Any) -> StoredKpis:
    compute(pipeline, days, run_id, **options)
    return store(pipeline, run_id)


def counts(pipeline: Pipeline, day: str = DAY) -> dict[str, int]:
    """Return the table's listens of the day by genre."""
    return {
        genre: int(item["listen_count"]) for (date, genre), item in pipeline.items().items() if date == day
    }


def history(pipeline: Pipeline) -> list[str]:
    return [key.removeprefix("listens/listen_date=") for key in pipeline.archived("listens/")]


def assert_unchanged(pipeline: Pipeline, before: Any) -> None:
    assert (pipeline.items(), pipeline.archived()) == before


@pytest.fixture
def empty(pipeline: Pipeline) -> Any:
    """The state of table and archive before a run that must not change them."""
    run(pipeline, {NEXT_DAY: GlueDay({"pop": 1}, new=1)}, "earlier")
    return pipeline.items(), pipeline.archived()


class TestItems:
    def test_items_have_the_kpis_and_identify_their_computation(self, pipeline: Pipeline) -> None:
        stored = run(
            pipeline, {DAY: GlueDay({"pop": 2, "rock": 1}, new=3)}, computed_at="2024-06-26T01:00:00Z"
        )

        stamp = {
            "run_key": RUN_KEY,
            "computed_at": "2024-06-26T01:00:00Z",
            "version": 1,
            "catalogs_frozen_at": FIRST_FROZEN,
        }
        assert pipeline.items()[DAY, "pop"] == {
            "date": DAY,
            "track_genre": "pop",
            "listen_count": 2,
            "unique_listeners": 1,
            "total_listening_time": Decimal("5.14"),
            "avg_listening_time_per_user": Decimal("5.14"),
            **stamp,
        }
        totals = pipeline.items()[DAY, "ALL_GENRES"]
        assert totals["listen_count"] == 3
        assert totals["status"] == "complete"
        assert stamp.items() <= totals.items()
        assert stored == {
            "run_key": RUN_KEY,
            "items_written": 3,
            "items_deleted": 0,
            "versions": {DAY: 1},
            "checks": stored["checks"],
        }
        assert {check["verdict"] for check in stored["checks"]} == {"passed"}

    def test_lists_numbers_and_missing_values_are_stored_as_they_are(self, pipeline: Pipeline) -> None:
        songs = [{"rank": 1, "track_id": "t", "track_name": "Ærø", "artists": "A;B", "listen_count": 2}]
        records = [
            {"date": DAY, "track_genre": "pop", "top_3_songs_per_genre": songs, "genre_rank": None},
            {
                "date": DAY,
                "track_genre": "ALL_GENRES",
                "listen_count": 2,
                "unmatched_track_listens": 0,
                "unmatched_user_listens": 0,
            },
        ]

        run(pipeline, {DAY: GlueDay({"pop": 2}, new=2)}, records=records)

        item = pipeline.items()[DAY, "pop"]
        assert item["top_3_songs_per_genre"] == songs
        assert "genre_rank" not in item
        assert pipeline.items()[DAY, "ALL_GENRES"]["unmatched_track_listens"] == 0

    @pytest.mark.parametrize("number", [0.1, 2.675, 1e-7, 123456789.12, 0])
    def test_number_is_stored_exactly(self, number: float) -> None:
        record = {"date": DAY, "track_genre": "ALL_GENRES", "listen_count": 1, "total_listening_time": number}
        record |= {"unmatched_track_listens": 0, "unmatched_user_listens": 0}
        summary: Any = {"batch_id": "b", "computed_at": "c", "days": {DAY: {"total": 1}}}

        items = to_items([record], summary, FIRST_FROZEN, {DAY: 1})

        assert items[DAY][0]["total_listening_time"] == Decimal(str(number))

    def test_version_is_the_number_of_objects_of_the_days_history(self, pipeline: Pipeline) -> None:
        for number in range(3):
            pipeline.put(
                pipeline.config.archive_bucket, f"listens/listen_date={DAY}/b__{number}.parquet", b"1"
            )
        days = {
            DAY: GlueDay({"pop": 9}, new=1),
            NEXT_DAY: GlueDay({"pop": 1}, new=1),
            "2024-06-24": GlueDay({}, 0),
        }

        assert day_versions(pipeline.put_glue_output(days)) == {DAY: 4, NEXT_DAY: 1, "2024-06-24": 0}  # type: ignore[arg-type]

    def test_items_of_one_genre_are_found_by_the_index(self, pipeline: Pipeline) -> None:
        run(pipeline, {day: GlueDay({"pop": 1, "rock": 1}, new=2) for day in (DAY, NEXT_DAY)})

        found = pipeline.dynamodb.query(
            TableName=pipeline.config.kpi_table,
            IndexName="track_genre-date-index",
            KeyConditionExpression="track_genre = :genre",
            ExpressionAttributeValues={":genre": {"S": "pop"}},
        )

        assert [item["date"]["S"] for item in found["Items"]] == [DAY, NEXT_DAY]

    def test_day_without_listens_has_no_items(self, pipeline: Pipeline) -> None:
        stored = run(pipeline, {DAY: GlueDay({}, new=0), NEXT_DAY: GlueDay({"pop": 1}, new=1)})

        assert {date for date, _ in pipeline.items()} == {NEXT_DAY}
        assert stored["versions"] == {DAY: 0, NEXT_DAY: 1}


class TestHistory:
    def test_new_listens_are_added_under_names_of_the_batch(self, pipeline: Pipeline) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 2}, new=2), NEXT_DAY: GlueDay({"pop": 1}, new=1)})

        name = f"{RUN_KEY}__part-00000-a.parquet"
        assert pipeline.archived("listens/") == {
            f"listens/listen_date={DAY}/{name}": f"2 listens of {RUN_KEY}".encode(),
            f"listens/listen_date={NEXT_DAY}/{name}": f"1 listens of {RUN_KEY}".encode(),
        }

    def test_day_with_repeated_listens_alone_adds_nothing(self, pipeline: Pipeline) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        run(pipeline, {DAY: GlueDay({"pop": 2}, new=0, repeated=2)}, LATER_RUN, frozen_at=LATER_FROZEN)

        assert history(pipeline) == [f"{DAY}/{RUN_KEY}__part-00000-a.parquet"]
        assert pipeline.items()[DAY, "ALL_GENRES"]["version"] == 1

    @pytest.mark.scenarios(32)
    def test_history_that_another_run_extended_is_reported_and_the_table_stays(
        self, pipeline: Pipeline, empty: Any
    ) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        other = f"listens/listen_date={DAY}/other__part-0.parquet"
        pipeline.put(pipeline.config.archive_bucket, other, b"listens")

        with pytest.raises(ReconciliationError, match=f"another run added {other} .* Clear trigger_glue_job"):
            store(pipeline)

        assert pipeline.items() == empty[0]

    def test_glue_run_after_that_is_accepted(self, pipeline: Pipeline, empty: Any) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        pipeline.put(pipeline.config.archive_bucket, f"listens/listen_date={DAY}/other__part-0.parquet", b"1")
        with pytest.raises(ReconciliationError):
            store(pipeline)

        # Its second output adds nothing: its listens are in the history since the first attempt.
        summary = compute(pipeline, {DAY: GlueDay({"pop": 3}, new=0)}, rows=2)
        summary |= {"rows_read": 2, "new": 2}
        summary["days"][DAY] |= {"rows_read": 2, "new": 2}
        pipeline.put(pipeline.config.intermediate_bucket, f"runs/{RUN_KEY}/output/summary.json", summary)
        stored = store(pipeline)

        assert stored["versions"] == {DAY: 2}
        assert counts(pipeline) == {"pop": 3, "ALL_GENRES": 3}


class TestSeveralRuns:
    def test_later_run_replaces_the_day_with_the_larger_history(self, pipeline: Pipeline) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        stored = run(
            pipeline, {DAY: GlueDay({"pop": 3, "rock": 1}, new=2)}, LATER_RUN, frozen_at=LATER_FROZEN
        )

        assert counts(pipeline) == {"pop": 3, "rock": 1, "ALL_GENRES": 4}
        assert {item["version"] for item in pipeline.items().values()} == {2}
        assert (stored["items_written"], stored["items_deleted"]) == (3, 0)

    @pytest.mark.scenarios(43)
    def test_genre_that_disappears_is_deleted(self, pipeline: Pipeline) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 2, "rock": 1}, new=3)})
        stored = run(
            pipeline, {DAY: GlueDay({"pop": 2, "metal": 1}, new=0)}, LATER_RUN, frozen_at=LATER_FROZEN
        )

        assert counts(pipeline) == {"pop": 2, "metal": 1, "ALL_GENRES": 3}
        assert (stored["items_written"], stored["items_deleted"]) == (3, 1)

    def test_other_days_stay(self, pipeline: Pipeline) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        before = pipeline.items()

        run(pipeline, {NEXT_DAY: GlueDay({"rock": 1}, new=1)}, LATER_RUN)

        assert before.items() <= pipeline.items().items()

    @pytest.mark.scenarios(42)
    def test_older_history_cannot_overwrite_a_day_that_a_later_run_writes(self, pipeline: Pipeline) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 1}, new=1)})
        run(pipeline, {DAY: GlueDay({"pop": 2}, new=1)}, LATER_RUN, frozen_at=LATER_FROZEN)
        # The totals of a complete day would be compared.
        pipeline.dynamodb.update_item(
            TableName=pipeline.config.kpi_table,
            Key={"date": {"S": DAY}, "track_genre": {"S": "ALL_GENRES"}},
            UpdateExpression="SET #status = :updating",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":updating": {"S": "updating"}},
        )
        before = pipeline.items()
        key = f"listens/listen_date={DAY}/{run_key_of(LATER_RUN)}__part-00000-a.parquet"
        pipeline.s3.delete_object(Bucket=pipeline.config.archive_bucket, Key=key)

        stored = run(
            pipeline, {DAY: GlueDay({"pop": 7}, new=0)}, "zombie", frozen_at="2024-06-28T00:00:00+00:00"
        )

        assert pipeline.items() == before
        assert (stored["items_written"], stored["items_deleted"]) == (0, 0)

    def test_same_history_with_newer_catalogs_wins(self, pipeline: Pipeline) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        run(pipeline, {DAY: GlueDay({"rock": 2}, new=0)}, LATER_RUN, frozen_at=LATER_FROZEN)

        assert counts(pipeline) == {"rock": 2, "ALL_GENRES": 2}

    @pytest.mark.scenarios(42)
    def test_same_history_with_older_catalogs_cannot_overwrite_the_day(self, pipeline: Pipeline) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 2}, new=2)}, frozen_at=LATER_FROZEN)
        before = pipeline.items()

        stored = run(pipeline, {DAY: GlueDay({"rock": 2}, new=0)}, LATER_RUN, frozen_at=FIRST_FROZEN)

        assert pipeline.items() == before
        assert stored["items_written"] == 0

    @pytest.mark.parametrize(
        "operation",
        [f"DynamoDB_20120810.{name}" for name in ("UpdateItem", "Query", "TransactWriteItems", "PutItem")],
    )
    @pytest.mark.scenarios(31, 42)
    def test_zombie_that_a_later_run_overtakes_does_not_change_the_day(
        self, pipeline: Pipeline, wire: Wire, operation: str
    ) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 1, "rock": 1}, new=2)})
        after_later_run: dict[str, Any] = {}

        def let_later_run_go_first(request: Any, send: Any) -> Any:
            run(pipeline, {DAY: GlueDay({"pop": 3}, new=1)}, LATER_RUN, frozen_at=LATER_FROZEN)
            after_later_run.update(pipeline.items())
            return send(request)

        wire.once(operation, let_later_run_go_first)

        store(pipeline)

        assert after_later_run[DAY, "ALL_GENRES"]["status"] == "complete"
        assert pipeline.items() == after_later_run


class TestCrashAndRetry:
    def test_second_attempt_writes_the_same(self, pipeline: Pipeline) -> None:
        first = run(pipeline, {DAY: GlueDay({"pop": 2, "rock": 1}, new=3)})
        before = pipeline.items(), pipeline.archived()

        assert store(pipeline) == first
        assert_unchanged(pipeline, before)

    @pytest.mark.parametrize("operation", ["TransactWriteItems", "PutItem"])
    @pytest.mark.scenarios(24)
    def test_day_is_not_complete_while_items_are_missing_and_the_retry_completes_it(
        self, pipeline: Pipeline, wire: Wire, operation: str
    ) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2, "rock": 1}, new=3)})
        wire.once(operation, answer(400, INVALID))
        with pytest.raises(ClientError, match="ValidationException"):
            store(pipeline)
        assert pipeline.items()[DAY, "ALL_GENRES"]["status"] == "updating"

        store(pipeline)

        assert counts(pipeline) == {"pop": 2, "rock": 1, "ALL_GENRES": 3}
        assert pipeline.items()[DAY, "ALL_GENRES"]["status"] == "complete"

    def test_day_that_is_written_again_is_marked_first(self, pipeline: Pipeline, wire: Wire) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        compute(pipeline, {DAY: GlueDay({"pop": 3}, new=1)}, LATER_RUN, frozen_at=LATER_FROZEN)
        wire.once("PutItem", answer(400, INVALID))

        with pytest.raises(ClientError, match="ValidationException"):
            store(pipeline, LATER_RUN)

        totals = pipeline.items()[DAY, "ALL_GENRES"]
        assert (totals["status"], totals["version"]) == ("updating", 2)
        assert totals["listen_count"] == 2

    @pytest.mark.parametrize("operation", ["UpdateItem", "TransactWriteItems", "PutItem", "PUT"])
    def test_response_that_is_lost_after_the_commit_changes_nothing(
        self, pipeline: Pipeline, wire: Wire, operation: str
    ) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 2, "rock": 1}, new=3)})
        compute(pipeline, {DAY: GlueDay({"pop": 4}, new=1)}, LATER_RUN, frozen_at=LATER_FROZEN)
        wire.once(operation, answer_after_commit(503))

        stored = store(pipeline, LATER_RUN)

        assert counts(pipeline) == {"pop": 4, "ALL_GENRES": 4}
        assert pipeline.items()[DAY, "ALL_GENRES"]["status"] == "complete"
        assert (stored["items_written"], stored["items_deleted"]) == (2, 1)

    @pytest.mark.parametrize("operation", ["UpdateItem", "TransactWriteItems", "PutItem"])
    @pytest.mark.scenarios(38)
    def test_throttled_write_is_repeated(self, pipeline: Pipeline, wire: Wire, operation: str) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        wire.once(operation, answer(400, THROTTLED))

        assert store(pipeline)["items_written"] == 2
        assert counts(pipeline) == {"pop": 2, "ALL_GENRES": 2}

    def test_conflict_with_another_writer_is_resolved_by_a_retry(
        self, pipeline: Pipeline, wire: Wire
    ) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        wire.once("TransactWriteItems", answer(400, CONFLICT))
        with pytest.raises(ClientError, match="TransactionCanceledException"):
            store(pipeline)

        assert store(pipeline)["items_written"] == 2
        assert pipeline.items()[DAY, "ALL_GENRES"]["status"] == "complete"

    def test_day_of_large_items_is_written_whole_in_transactions_that_dynamodb_takes(
        self, pipeline: Pipeline, wire: Wire
    ) -> None:
        genres = {f"genre {number}": 1 for number in range(12)}
        day = GlueDay(genres, new=12)
        records = [record | {"names": "x" * 380_000} for record in day.records(DAY)]

        assert run(pipeline, {DAY: day}, records=records)["items_written"] == 13

        assert counts(pipeline) == {**genres, "ALL_GENRES": 12}
        sizes = [len(request.body) for request in wire.requests if "Transact" in described(request)]
        assert sum(sizes) > 4 * 1024**2
        assert max(sizes) < 4 * 1024**2

    def test_day_of_many_genres_is_written_whole(self, pipeline: Pipeline) -> None:
        genres = {f"genre {number}": 1 for number in range(120)}

        assert run(pipeline, {DAY: GlueDay(genres, new=120)})["items_written"] == 121
        assert counts(pipeline) == {**genres, "ALL_GENRES": 120}

    def test_complete_run_changes_nothing_and_returns_what_it_wrote(self, pipeline: Pipeline) -> None:
        report = {"days": {DAY: {"version": 3}}, "kpi_items_written": 5, "kpi_items_deleted": 1}
        pipeline.put(pipeline.config.archive_bucket, report_key(RUN_KEY), report)

        assert store(pipeline) == {
            "run_key": RUN_KEY,
            "items_written": 5,
            "items_deleted": 1,
            "versions": {DAY: 3},
            "checks": [],
        }
        assert pipeline.items() == {}


def record(genre: Any = "pop", day: Any = DAY, **attributes: Any) -> dict[str, Any]:
    return {"date": day, "track_genre": genre, "listen_count": 2, **attributes}


TOTALS = record("ALL_GENRES", unmatched_track_listens=0, unmatched_user_listens=0)


TWO_ITEMS_OF_ONE_KEY = pytest.mark.scenarios(40)
NO_ITEM = pytest.mark.scenarios(41)


class TestRefusals:
    @pytest.mark.parametrize(
        ("records", "problem"),
        [
            pytest.param([record(""), TOTALS], "its key is missing", id="empty genre", marks=NO_ITEM),
            pytest.param([record(None), TOTALS], "its key is missing", id="no genre"),
            pytest.param([record(day=""), TOTALS], "its key is missing", id="empty date"),
            pytest.param(
                [record(), record(), TOTALS], "appears twice", id="genre twice", marks=TWO_ITEMS_OF_ONE_KEY
            ),
            pytest.param(
                [record(), TOTALS, TOTALS], "appears twice", id="totals twice", marks=TWO_ITEMS_OF_ONE_KEY
            ),
            pytest.param([record(day="2024-01-01"), TOTALS], "its day is not in the summary", id="other day"),
            pytest.param(
                [record(x=float("nan")), TOTALS],
                "NaN is not a number that DynamoDB can store",
                id="NaN",
                marks=NO_ITEM,
            ),
            pytest.param(
                [record(x=float("inf")), TOTALS], "Infinity is not a number", id="infinity", marks=NO_ITEM
            ),
            pytest.param(
                [record(x=[{"y": float("nan")}]), TOTALS],
                "NaN is not a number",
                id="NaN in a list",
                marks=NO_ITEM,
            ),
            pytest.param(
                [record(x=10**40 + 1), TOTALS],
                "number that DynamoDB cannot store",
                id="41 digits",
                marks=NO_ITEM,
            ),
            pytest.param([record()], "the summary counts 2 listens that day", id="no totals"),
            pytest.param([], "the summary counts 2 listens that day", id="no items"),
            pytest.param(
                [record(), record("ALL_GENRES") | {"listen_count": 3}],
                r"\(2024-06-25, ALL_GENRES\) .* the summary counts 2 listens that day",
                id="other total",
            ),
        ],
    )
    def test_item_that_cannot_be_stored_is_refused_before_anything_is_written(
        self, pipeline: Pipeline, empty: Any, records: list[dict[str, Any]], problem: str
    ) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)}, records=records)

        with pytest.raises(ReconciliationError, match=f"{problem}.* No item was written. .* Clear trigger"):
            store(pipeline)

        assert_unchanged(pipeline, empty)

    @pytest.mark.parametrize(
        ("genre", "problem"),
        [
            pytest.param(
                record("é" * 513), "its key is longer than 1,024 bytes", id="long genre", marks=NO_ITEM
            ),
            pytest.param(record(x="é" * 205_000), "it is larger than 400 KB", id="large", marks=NO_ITEM),
        ],
    )
    def test_item_that_is_too_large_is_refused_with_a_working_remedy(
        self, pipeline: Pipeline, empty: Any, genre: dict[str, Any], problem: str
    ) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)}, records=[genre, TOTALS])

        with pytest.raises(BadInputError, match=f"DynamoDB's limits: {problem}.* trigger a new run"):
            store(pipeline)

        assert_unchanged(pipeline, empty)

    def test_genres_of_a_day_without_listens_are_refused(self, pipeline: Pipeline, empty: Any) -> None:
        compute(pipeline, {DAY: GlueDay({}, new=0)}, records=[record()])

        with pytest.raises(ReconciliationError, match=f"{DAY}"):
            store(pipeline)

        assert_unchanged(pipeline, empty)

    @pytest.mark.parametrize("rows", [1, 3])
    @pytest.mark.scenarios(30)
    def test_glue_run_that_read_other_rows_than_the_ingest_counted_is_refused(
        self, pipeline: Pipeline, empty: Any, rows: int
    ) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)}, rows=rows)

        with pytest.raises(ReconciliationError, match=f"counted {rows} valid rows, the Glue job read 2"):
            store(pipeline)

        assert_unchanged(pipeline, empty)

    @pytest.mark.scenarios(30)
    def test_partial_output_is_refused(self, pipeline: Pipeline, empty: Any) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        key = f"runs/{RUN_KEY}/output/listens/listen_date={DAY}/part-00000-a.parquet"
        pipeline.s3.delete_object(Bucket=pipeline.config.intermediate_bucket, Key=key)

        with pytest.raises(ReconciliationError, match=r"should have .* bytes, found None"):
            store(pipeline)

        assert_unchanged(pipeline, empty)

    @pytest.mark.parametrize("missing", ["input/manifest.json", "output/summary.json"])
    @pytest.mark.scenarios(30)
    def test_run_without_input_or_output_is_refused(
        self, pipeline: Pipeline, empty: Any, missing: str
    ) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        pipeline.s3.delete_object(Bucket=pipeline.config.intermediate_bucket, Key=f"runs/{RUN_KEY}/{missing}")

        with pytest.raises(ReconciliationError, match=r"[Cc]lear"):
            store(pipeline)

        assert_unchanged(pipeline, empty)

    def test_total_that_is_not_the_old_total_plus_added_listens_is_refused(self, pipeline: Pipeline) -> None:
        run(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        before = pipeline.items(), pipeline.archived()
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=1)}, LATER_RUN, frozen_at=LATER_FROZEN)

        with pytest.raises(
            ReconciliationError,
            match=r"has 2 listens of 1 history objects and the run adds 1, .* counts 2 of 2",
        ):
            store(pipeline, LATER_RUN)

        assert_unchanged(pipeline, before)

    @pytest.mark.parametrize(("runs_before", "listens"), [(1, 1), (2, 1), (2, 3)])
    @pytest.mark.scenarios(64)
    def test_day_whose_history_lost_objects_keeps_its_kpis(
        self, pipeline: Pipeline, runs_before: int, listens: int
    ) -> None:
        """A late file would replace the day by its own few listens, or never be seen by the table."""
        for number in range(runs_before):
            run(pipeline, {DAY: GlueDay({"pop": 2 + number}, new=2 - number)}, f"earlier {number}")
        for key in pipeline.archived("listens/"):
            pipeline.s3.delete_object(Bucket=pipeline.config.archive_bucket, Key=key)
        before = pipeline.items(), pipeline.archived()
        compute(pipeline, {DAY: GlueDay({"rock": listens}, new=listens)}, LATER_RUN, frozen_at=LATER_FROZEN)

        with pytest.raises(
            ReconciliationError, match=r"counts \d of 1\. .*put archived files back \(docs/recovery"
        ):
            store(pipeline, LATER_RUN)

        assert_unchanged(pipeline, before)

    def test_total_of_an_incomplete_day_is_not_compared(self, pipeline: Pipeline, wire: Wire) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        wire.once("PutItem", answer(400, INVALID))
        with pytest.raises(ClientError):
            store(pipeline)

        run(pipeline, {DAY: GlueDay({"pop": 3}, new=1)}, LATER_RUN, frozen_at=LATER_FROZEN)

        assert counts(pipeline) == {"pop": 3, "ALL_GENRES": 3}

    def test_missing_table_changes_no_history(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compute(pipeline, {DAY: GlueDay({"pop": 2}, new=2)})
        monkeypatch.setenv("KPI_TABLE_NAME", "no-such-table")
        without_table = Pipeline(pipeline.endpoint_url, type(pipeline.config).from_env())

        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            store(without_table)

        assert history(pipeline) == []
