from datetime import date, timedelta
from typing import Any

import pytest
from pipeline_support import BAD, DAY, GOOD, RUN_ID, RUN_KEY, GlueDay, Pipeline, streams

from helpers.contract.keys import report_key, run_key_of, stopped_key
from helpers.contract.records import ACCEPTED, PASSED, STOPPED, WARNED, Check
from helpers.contract.settings import PipelineConfig
from helpers.errors import BadInputError
from helpers.move_files_to_intermediate_bucket import move_files_to_intermediate_bucket
from helpers.prepare_reprocessing import prepare_reprocessing
from helpers.run.checks import check_days, stop_unless_passed
from helpers.store_kpis_in_dynamodb import store_kpis_in_dynamodb

SONG_HEADER = "track_id,track_name,artists,track_genre,duration_ms,popularity"
OTHER_RUN = run_key_of("scheduled__2024-06-20T00:00:00+00:00")


def verdicts(checks: list[Check]) -> dict[str, str]:
    """Return the verdicts of the checks that did not pass, by name."""
    return {check["name"]: check["verdict"] for check in checks if check["verdict"] != PASSED}


def moved_checks(pipeline: Pipeline) -> list[Check]:
    checks: list[Check] = pipeline.intermediate_json("input/manifest.json")["checks"]
    return checks


def songs(count: int, duration: str = "1000") -> str:
    return "\n".join([SONG_HEADER, *(f"t{n},Song,A,pop,{duration},1" for n in range(count)), ""])


def put_last_report(pipeline: Pipeline, **values: Any) -> None:
    report = {
        "status": "complete",
        "frozen_at": "2024-06-25T00:00:00+00:00",
        "reprocess_dates": [],
        "files": [],
        "days": {DAY: {}},
        "catalogs": {"songs": {"rows": 2}, "users": {"rows": 2}},
        **values,
    }
    pipeline.put(pipeline.config.archive_bucket, report_key(OTHER_RUN), report)


@pytest.fixture
def strict(make_pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline with the default limits."""
    pipeline: Pipeline = make_pipeline()
    monkeypatch.delenv("MAX_QUARANTINED_FRACTION")
    pipeline.config = PipelineConfig.from_env()
    return pipeline


class TestInput:
    def test_good_input_passes_every_check(self, strict: Pipeline) -> None:
        strict.upload_catalogs()
        strict.upload("streams/a.csv", streams(GOOD))

        strict.move()

        assert verdicts(moved_checks(strict)) == {}
        assert len(moved_checks(strict)) == 11

    @pytest.mark.scenarios(54)
    def test_run_of_which_most_bytes_would_go_to_quarantine_is_stopped(self, strict: Pipeline) -> None:
        strict.upload_catalogs()
        strict.upload("streams/a.csv", streams(GOOD))
        strict.upload("streams/b.csv", streams(*[GOOD] * 20).replace("listen_time", "played_at"))
        before = strict.objects(strict.config.source_bucket)

        with pytest.raises(
            BadInputError, match=r"9\d\.\d% of the delivered bytes .*b\.csv: missing column"
        ) as raised:
            strict.move()

        assert "trigger one with the parameter accept_checks" in str(raised.value)
        assert strict.objects(strict.config.source_bucket) == before
        assert strict.archived("quarantine/") == strict.archived("streams/") == {}
        kept = strict.archived_json(stopped_key(RUN_KEY))
        assert verdicts(kept) == {"quarantined_bytes_fraction": STOPPED, "quarantined_files": WARNED}

    def test_parameter_accepts_what_would_be_stopped_and_that_is_recorded(self, strict: Pipeline) -> None:
        strict.upload_catalogs(songs=songs(10, "3:00"))
        strict.upload("streams/a.csv", streams(GOOD))

        move_files_to_intermediate_bucket(RUN_ID, strict.ingest(), strict.config, accept_checks=True)

        manifest = strict.intermediate_json("input/manifest.json")
        assert manifest["accept_checks"]
        assert verdicts(manifest["checks"]) == {"unreadable_durations_fraction": ACCEPTED}

    @pytest.mark.scenarios(53)
    @pytest.mark.parametrize("duration", ["3:00", '"180,000"', "", "-1"])
    def test_durations_that_cannot_be_read_stop_the_run(self, strict: Pipeline, duration: str) -> None:
        strict.upload_catalogs(songs=songs(10, duration))
        strict.upload("streams/a.csv", streams(GOOD))

        with pytest.raises(BadInputError, match="10 of 10 durations of the songs catalog cannot be read"):
            strict.move()

    @pytest.mark.scenarios(53)
    @pytest.mark.parametrize(("rows", "stopped"), [(10, True), (79, True), (80, False), (200, False)])
    def test_catalog_that_shrank_since_the_last_complete_run_stops_the_run(
        self, strict: Pipeline, rows: int, stopped: bool
    ) -> None:
        put_last_report(strict, catalogs={"songs": {"rows": 100}, "users": {"rows": 2}})
        strict.upload_catalogs(songs=songs(rows))
        strict.upload("streams/a.csv", streams(GOOD))

        if stopped:
            with pytest.raises(BadInputError, match=f"songs catalog shrank from 100 rows to {rows}"):
                strict.move()
        else:
            strict.move()

    def test_catalog_that_shrank_stops_reprocessing_too(self, strict: Pipeline) -> None:
        put_last_report(strict, catalogs={"songs": {"rows": 100}, "users": {"rows": 2}})
        strict.upload_catalogs()
        strict.put(strict.config.archive_bucket, f"listens/listen_date={DAY}/a.parquet", b"history")

        with pytest.raises(BadInputError, match="songs catalog shrank"):
            prepare_reprocessing(RUN_ID, DAY, strict.config)

        assert prepare_reprocessing(RUN_ID, DAY, strict.config, accept_checks=True)["rows"] == 0

    @pytest.mark.parametrize("values", [{"status": "no_valid_rows"}, {"days": {}}])
    def test_report_of_a_run_that_published_no_listens_is_not_compared_with(
        self, strict: Pipeline, values: dict[str, Any]
    ) -> None:
        put_last_report(strict, **values, catalogs={})
        strict.upload_catalogs()
        strict.upload("streams/a.csv", streams(GOOD))

        strict.move()

        assert verdicts(moved_checks(strict)) == {}

    @pytest.mark.scenarios(55)
    def test_quarantined_rows_and_changed_columns_are_warned_of(self, strict: Pipeline) -> None:
        put_last_report(strict, files=[{"extra_columns": ["device"]}])
        strict.upload_catalogs()
        text = streams(*[GOOD] * 40, BAD).replace("\n", ",x\n").replace("time,x", "time,app")
        strict.upload("streams/a.csv", text)

        strict.move()

        checks = moved_checks(strict)
        assert verdicts(checks) == {"rejected_rows": WARNED, "changed_columns": WARNED}
        (message,) = [check["message"] for check in checks if check["name"] == "changed_columns"]
        assert message == "2 optional columns changed since the last run: new app; missing device"

    @pytest.mark.scenarios(58)
    def test_files_that_are_left_are_warned_of(self, strict: Pipeline) -> None:
        strict.upload_catalogs()
        strict.upload("streams/a.csv", streams(GOOD))
        strict.s3.put_object(
            Bucket=strict.config.source_bucket,
            Key="streams/cold.csv",
            Body=streams(GOOD).encode(),
            StorageClass="GLACIER",
        )

        strict.move()

        (check,) = [check for check in moved_checks(strict) if check["verdict"] == WARNED]
        assert check["name"] == "left_files"
        assert check["message"].startswith(
            "1 file left in the source (streams/cold.csv: in storage class GLACIER: restore it"
        )

    def test_old_catalog_is_warned_of(self, strict: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MAX_CATALOG_AGE_DAYS", "0")
        strict.upload_catalogs()
        strict.upload("streams/a.csv", streams(GOOD))
        validated = strict.ingest()
        key = f"runs/{RUN_KEY}/manifest.json"
        manifest = strict.archived_json(key)
        manifest["users"][0]["last_modified"] = "2020-01-01T00:00:00+00:00"
        strict.put(strict.config.archive_bucket, key, manifest)

        move_files_to_intermediate_bucket(RUN_ID, validated, PipelineConfig.from_env())

        (check,) = [check for check in moved_checks(strict) if check["verdict"] == WARNED]
        assert check["name"] == "catalog_age_days"
        assert check["message"].startswith("The catalog file users/users.csv is ")

    @pytest.mark.scenarios(55)
    @pytest.mark.parametrize(
        ("user", "track", "expected"),
        [
            pytest.param("u1.0", "t1", {"user_ids_in_another_form": "'u1.0' as 'u1'"}, id="fraction"),
            pytest.param(
                "u1",
                "spotify:track:t1",
                {"track_ids_in_another_form": "'spotify:track:t1' as 't1'"},
                id="URI",
            ),
            pytest.param("U1", "t1", {"user_ids_in_another_form": "'U1' as 'u1'"}, id="case"),
            pytest.param("nobody", "nothing", {}, id="unknown in every form"),
        ],
    )
    def test_ids_that_match_only_in_another_form_are_named(
        self, strict: Pipeline, user: str, track: str, expected: dict[str, str]
    ) -> None:
        strict.upload_catalogs()
        strict.upload("streams/a.csv", streams(f"{user},{track},{DAY} 10:00:00"))

        strict.move()

        warned = {
            check["name"]: check["message"] for check in moved_checks(strict) if check["verdict"] == WARNED
        }
        assert warned.keys() == expected.keys()
        assert all(text in warned[name] for name, text in expected.items())


class TestKpis:
    @pytest.mark.scenarios(52)
    @pytest.mark.parametrize("kind", ["track", "user"])
    def test_listens_that_no_catalog_knows_stop_the_run_before_anything_is_written(
        self, pipeline: Pipeline, kind: str
    ) -> None:
        pipeline.put_input_manifest(rows=100)
        day = GlueDay({"Unknown": 100}, new=100)
        records = [record | {f"unmatched_{kind}_listens": 21} for record in day.records(DAY)]
        pipeline.put_glue_output({DAY: day}, records=records)

        with pytest.raises(BadInputError, match=f"21 of 100 listens have a {kind} that the .* catalog lacks"):
            store_kpis_in_dynamodb(RUN_ID, pipeline.config)

        assert pipeline.items() == {}
        assert pipeline.archived("listens/") == {}
        assert verdicts(pipeline.archived_json(stopped_key(RUN_KEY))) == {
            f"unmatched_{kind}s_fraction": STOPPED
        }

    @pytest.mark.scenarios(55)
    def test_day_is_compared_with_its_weekday_in_the_table(self, pipeline: Pipeline) -> None:
        for weeks in (1, 2, 3):
            before = (date.fromisoformat(DAY) - timedelta(weeks=weeks)).isoformat()
            item = {
                "date": {"S": before},
                "track_genre": {"S": "ALL_GENRES"},
                "listen_count": {"N": "100"},
                "version": {"N": "1"},
                "catalogs_frozen_at": {"S": f"{before}T12:00:00+00:00"},
                "status": {"S": "complete"},
            }
            pipeline.dynamodb.put_item(TableName=pipeline.config.kpi_table, Item=item)
        pipeline.put_input_manifest(rows=40)
        pipeline.put_glue_output({DAY: GlueDay({"pop": 40}, new=40)})

        stored = store_kpis_in_dynamodb(RUN_ID, pipeline.config)

        (check,) = [check for check in stored["checks"] if check["verdict"] == WARNED]
        assert check["message"] == f"1 unusual day ({DAY} has 40 listens, the same weekday had 100)"


class TestCheckDays:
    @pytest.mark.parametrize(
        ("listens", "earlier", "frozen_at", "warned"),
        [
            pytest.param(49, [100, 100], "2024-06-26", True, id="few"),
            pytest.param(50, [100, 100], "2024-06-26", False, id="half"),
            pytest.param(200, [100, 100], "2024-06-26", False, id="double"),
            pytest.param(201, [100, 100], "2024-06-26", True, id="many"),
            pytest.param(1, [100], "2024-06-26", False, id="one week tells nothing"),
            pytest.param(1, [100, 100], "2024-06-25", False, id="day is not over"),
        ],
    )
    def test_day_far_from_its_weekday_is_warned_of(
        self, listens: int, earlier: list[int], frozen_at: str, warned: bool
    ) -> None:
        checks = check_days({DAY: listens}, {DAY: earlier}, f"{frozen_at}T10:00:00+00:00", None)

        assert verdicts(checks) == ({"days_far_from_usual": WARNED} if warned else {})

    @pytest.mark.parametrize(
        ("days", "newest_before", "old"),
        [
            pytest.param(["2024-06-25", "2024-06-18"], None, 0, id="a week"),
            pytest.param(["2024-06-25", "2024-06-17"], None, 1, id="more than a week"),
            pytest.param(["2024-06-17"], "2024-06-25", 1, id="against the last run"),
            pytest.param(["2024-06-17"], None, 0, id="an old file alone, as in a backfill"),
        ],
    )
    def test_days_long_before_the_newest_are_warned_of(
        self, days: list[str], newest_before: str | None, old: int
    ) -> None:
        checks = check_days(dict.fromkeys(days, 1), {}, "2024-06-26T00:00:00+00:00", newest_before)

        assert [check["value"] for check in checks if check["name"] == "old_days"] == [old]


def test_message_of_a_stopped_run_has_its_warnings_too() -> None:
    checks = [
        Check(name="a", value=1, limit=0, verdict=STOPPED, message="A is wrong"),
        Check(name="b", value=1, limit=0, verdict=WARNED, message="B is odd"),
        Check(name="c", value=0, limit=0, verdict=PASSED, message=""),
    ]

    with pytest.raises(
        BadInputError, match=r"cannot be trusted: A is wrong\. B is odd\. Correct what is named"
    ):
        stop_unless_passed(checks, accepted=False)


def test_ids_in_another_form_come_first_since_they_are_why_a_catalog_seems_to_lack_them() -> None:
    checks = [
        Check(name="unmatched_users_fraction", value=1, limit=0, verdict=STOPPED, message="Users lack"),
        Check(name="user_ids_in_another_form", value=1, limit=0, verdict=WARNED, message="Ids end in .0"),
    ]

    with pytest.raises(BadInputError, match=r"cannot be trusted: Ids end in \.0\. Users lack\."):
        stop_unless_passed(checks, accepted=False)
