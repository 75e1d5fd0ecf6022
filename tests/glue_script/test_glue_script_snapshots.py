"""Large days that continue from a snapshot: the results must be those of a computation from all listens."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from glue_job_support import LISTENS, JobFolder, at, listen, write_parquet
from pyspark.sql import SparkSession

from glue_script import glue_script
from helpers.run.glue_output import history_copies
from tests.kpi_oracle import Listen, Song, User, kpi_items

DAY, NEXT_DAY = "2024-06-25", "2024-06-26"
GENRES = 2 * glue_script.GENRES_PER_WORD + 3
SONGS = [Song(f"t{n}", f"Song {n}", "Artist", f"genre {n % GENRES}", 60_000 + n) for n in range(200)]
USERS = [User(f"u{n}", "Malta" if n % 3 else None) for n in range(20)]
MORNING = [listen(f"u{n % 23}", f"t{n}", f"{DAY} 08:{n % 60:02}:00") for n in range(210)]
NOON = [listen(f"u{n % 23}", f"t{n * 7 % 210}", f"{DAY} 12:{n % 60:02}:00") for n in range(50)]


@pytest.fixture(autouse=True)
def every_day_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glue_script, "SNAPSHOT_BYTES", 0)
    # A snapshot of few listens is larger than their history.
    monkeypatch.setattr(glue_script, "SHARE_READ_WITH_SNAPSHOT", 100)
    monkeypatch.setattr(glue_script, "PARTITION_BYTES", 4_000)


@pytest.fixture
def morning(job: JobFolder) -> JobFolder:
    """A job whose history has a batch of the morning, with its snapshot."""
    run_batch(job, "morning", MORNING)
    return job


def run_batch(job: JobFolder, batch_id: str, listens: Sequence[Listen], **catalogs: Any) -> None:
    job.write_input(listens, **{"songs": SONGS, "users": USERS, **catalogs})
    job.run(batch_id)
    job.keep_added(batch_id)


def days_with_a_snapshot(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the last job printed about the snapshots that it used."""
    [*_, line] = [line for line in capsys.readouterr().out.splitlines() if "days with a snapshot" in line]
    return line.removeprefix("days with a snapshot: ")


def test_random_batches_agree_with_the_oracle(job: JobFolder, capsys: pytest.CaptureFixture[str]) -> None:
    random = Random(20240625)
    days = (DAY, NEXT_DAY)
    accepted: set[Listen] = set()
    for batch in range(5):
        # Few instants, users and tracks, so listens repeat; some are not in the catalogs.
        listens = [
            listen(
                f"u{random.randrange(25)}",
                f"t{random.randrange(210)}",
                f"{random.choice(days)} {random.randrange(24):02}:{random.choice(('00:00', '59:59.999999'))}",
            )
            for _ in range(400)
        ]
        # A batch of few hours, as an hourly run has.
        if batch % 2:
            listens = [row for row in listens if 8 <= row.listen_time.hour <= 10]
        new = set(listens) - accepted
        accepted |= new
        run_batch(job, f"batch-{batch}", listens)
        assert days_with_a_snapshot(capsys) == (", ".join(days) if batch else "none")
        assert job.items() == kpi_items(list(accepted), SONGS, USERS)
        assert job.added() == sorted(new)
        assert (job.summary()["new"], job.summary()["repeated"]) == (len(new), len(listens) - len(new))
        assert sum(day["total"] for day in job.summary()["days"].values()) == len(accepted)


def test_day_without_a_snapshot_is_computed_beside_one_that_has_it(
    morning: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [listen("u1", "t1", f"{NEXT_DAY} 10:00:00"), listen("u2", "t2", f"{NEXT_DAY} 20:00:00")]
    morning.write_history("other__0.parquet", other[:1])

    run_batch(morning, "noon", [*NOON, other[1]])

    assert days_with_a_snapshot(capsys) == DAY
    assert morning.items() == kpi_items([*MORNING, *NOON, *other], SONGS, USERS)


def test_replayed_batch_adds_nothing_and_writes_no_new_snapshot(
    morning: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(morning.snapshots.rglob("*"))

    run_batch(morning, "morning", MORNING)

    assert days_with_a_snapshot(capsys) == DAY
    assert morning.day(DAY) == {
        **morning.day(DAY),
        "rows_read": 210,
        "new": 210,
        "repeated": 0,
        "added": 0,
        "total": 210,
    }
    assert morning.items() == kpi_items(MORNING, SONGS, USERS)
    assert sorted(morning.snapshots.rglob("*")) == before


def test_only_the_batchs_span_of_time_is_read_from_a_days_files(spark: SparkSession, tmp_path: Path) -> None:
    midnight = at(f"{DAY} 00:00:00")
    rows = [Listen(f"u{minute}", "t1", midnight + timedelta(minutes=minute)) for minute in range(24 * 60)]
    stray = listen("stray", "t1", f"{NEXT_DAY} 09:30:00")
    table = pa.Table.from_pylist([row._asdict() for row in [*rows, stray]], LISTENS)
    # A row group of each hour.
    pq.write_table(table, tmp_path / "day.parquet", row_group_size=60)
    history = glue_script.read_parquet(spark, glue_script.LISTENS_SCHEMA, [tmp_path.as_uri()])
    first, last = (round(rows[minute].listen_time.timestamp() * 1_000_000) for minute in (550, 560))

    needed = history.where(glue_script.is_needed({DAY: (first, last)}))

    users = {row["user_id"] for row in needed.collect()}
    assert users == {"stray", *(f"u{minute}" for minute in range(550, 561))}
    scan = needed._jdf.queryExecution().executedPlan().collectLeaves().head()
    assert scan.metrics().apply("numOutputRows").value() <= 60 + 1


@pytest.mark.parametrize(
    "songs",
    [
        pytest.param(
            [*SONGS, Song("t0", "Song 0", "Artist", "another genre", 1)], id="track-has-another-genre"
        ),
        pytest.param([Song("t205", "New", "Artist", "genre 1", 1), *SONGS], id="track-is-new"),
        pytest.param([song._replace(track_genre="x") for song in SONGS], id="all-genres-are-others"),
    ],
)
def test_changed_genres_make_the_day_be_computed_from_all_its_listens(
    morning: JobFolder, capsys: pytest.CaptureFixture[str], songs: list[Song]
) -> None:
    run_batch(morning, "noon", NOON, songs=songs)
    assert days_with_a_snapshot(capsys) == "none"
    assert morning.items() == kpi_items([*MORNING, *NOON], songs, USERS)


def test_changed_names_durations_and_countries_apply_to_the_snapshots_listens_too(
    morning: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    songs = [song._replace(track_name=f"{song.track_name}!", duration_ms=90_000) for song in SONGS]
    users = [User(user.user_id, "Iceland") for user in USERS]
    run_batch(morning, "noon", NOON, songs=songs, users=users)
    assert days_with_a_snapshot(capsys) == DAY
    assert morning.items() == kpi_items([*MORNING, *NOON], songs, users)


def lose_listens(job: JobFolder) -> list[Listen]:
    shutil.rmtree(job.history)
    job.write_history("morning__0.parquet", MORNING[:100])
    return MORNING[:100]


def gain_a_file(job: JobFolder) -> list[Listen]:
    more = [listen("u1", "t1", f"{DAY} 23:00:00")]
    job.write_history("by-hand.parquet", more)
    return [*MORNING, *more]


def rewrite_a_file(job: JobFolder) -> list[Listen]:
    for file in (job.history / f"listen_date={DAY}").iterdir():
        write_parquet(file, MORNING[10:], LISTENS)
    return MORNING[10:]


@pytest.mark.parametrize("change", [lose_listens, gain_a_file, rewrite_a_file])
def test_changed_history_makes_the_day_be_computed_from_all_its_listens(
    morning: JobFolder, capsys: pytest.CaptureFixture[str], change: Any
) -> None:
    history = change(morning)
    run_batch(morning, "noon", NOON)
    assert days_with_a_snapshot(capsys) == "none"
    assert morning.items() == kpi_items([*history, *NOON], SONGS, USERS)


@pytest.mark.parametrize("pattern", ["tracks/*/*.parquet", "users/*/*.parquet"])
def test_snapshot_without_one_of_its_files_is_none(
    morning: JobFolder, capsys: pytest.CaptureFixture[str], pattern: str
) -> None:
    next(morning.snapshots.rglob(pattern)).unlink()
    run_batch(morning, "noon", NOON)
    assert days_with_a_snapshot(capsys) == "none"
    assert morning.items() == kpi_items([*MORNING, *NOON], SONGS, USERS)


@pytest.mark.parametrize("pattern", ["tracks/*/*.parquet", "users/*/*.parquet"])
def test_snapshot_that_loses_a_file_after_it_was_found_fails_the_job_and_its_retry_does_without(
    morning: JobFolder, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    def read_listens(*arguments: Any) -> Any:
        next(morning.snapshots.rglob(pattern)).unlink()
        return unchanged(*arguments)

    unchanged = glue_script.read_listens
    with monkeypatch.context() as patched:
        patched.setattr(glue_script, "read_listens", read_listens)
        with pytest.raises(Exception, match=r"\.parquet"):
            run_batch(morning, "noon", NOON)

    run_batch(morning, "noon", NOON)

    assert morning.items() == kpi_items([*MORNING, *NOON], SONGS, USERS)


def test_damaged_snapshot_is_none_and_is_replaced(
    morning: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    [file] = morning.snapshots.rglob("*.json")
    file.write_text(file.read_text()[:50])
    file.with_name(f".{file.name}.crc").unlink()
    run_batch(morning, "noon", NOON)
    assert days_with_a_snapshot(capsys) == "none"
    evening = [listen("u1", "t1", f"{DAY} 20:00:00")]
    run_batch(morning, "evening", evening)
    assert days_with_a_snapshot(capsys) == DAY
    assert morning.items() == kpi_items([*MORNING, *NOON, *evening], SONGS, USERS)


def test_only_the_present_snapshot_and_the_one_before_are_kept(morning: JobFolder) -> None:
    for hour in range(12, 15):
        run_batch(morning, f"batch-{hour}", [listen("u1", "t1", f"{DAY} {hour}:00:00")])
    assert len(list(morning.snapshots.rglob("*.json"))) == 2
    assert len(list(morning.snapshots.glob("tables/*/users/day=*"))) == 2
    assert len(list(morning.snapshots.glob("tables/*/tracks/day=*"))) == 2


def test_batch_that_spans_most_of_the_day_reads_its_history_instead_of_the_snapshot(
    morning: JobFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glue_script, "SHARE_READ_WITH_SNAPSHOT", 0.5)
    listens = [listen("u1", "t1", f"{DAY} {time}") for time in ("00:00:01", "23:59:59")]
    run_batch(morning, "late", listens)
    assert days_with_a_snapshot(capsys) == "none"
    assert morning.items() == kpi_items([*MORNING, *listens], SONGS, USERS)


def test_files_that_spark_ignores_are_none_of_the_history(
    morning: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("_x.parquet", ".x.parquet"):
        (morning.history / f"listen_date={DAY}" / name).write_text("not Parquet")
    run_batch(morning, "noon", NOON)
    assert days_with_a_snapshot(capsys) == DAY
    assert morning.items() == kpi_items([*MORNING, *NOON], SONGS, USERS)


def test_added_listens_have_the_names_under_which_the_pipeline_stores_them(morning: JobFolder) -> None:
    names = {path.relative_to(morning.history).as_posix() for path in morning.history.rglob("*.parquet")}
    assert {f"listens/{name}" for name in names} == set(history_copies(morning.summary()).values())


def test_job_that_fails_leaves_no_snapshot(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(glue_script, "compute_kpis", fail)
    job.write_input(MORNING, songs=SONGS, users=USERS)
    with pytest.raises(RuntimeError, match="the disk is full"):
        job.run()
    assert list(job.snapshots.rglob("*.json")) == []


def test_output_that_never_reached_the_history_has_no_effect(
    morning: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    morning.write_input(NOON, songs=SONGS, users=USERS)
    morning.run("noon")

    evening = [listen("u1", "t1", f"{DAY} 20:00:00")]
    run_batch(morning, "evening", evening)

    assert days_with_a_snapshot(capsys) == DAY
    assert morning.items() == kpi_items([*MORNING, *evening], SONGS, USERS)


def test_reprocessed_day_is_computed_from_all_its_listens_and_leaves_no_snapshot(
    morning: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(morning.snapshots.rglob("*"))
    songs = [song._replace(track_genre="x") for song in SONGS]
    morning.write_input(NOON[:1], songs=songs, users=USERS)
    morning.run("reprocess", DAY)
    assert days_with_a_snapshot(capsys) == "none"
    assert morning.items() == kpi_items([*MORNING, NOON[0]], songs, USERS)
    assert sorted(morning.snapshots.rglob("*")) == before


def test_history_that_changes_between_its_two_listings_fails_the_job(
    morning: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_listens = glue_script.read_listens

    def read_after_another_run(*arguments: Any) -> Any:
        morning.write_history("other__0.parquet", [listen("u9", "t9", f"{DAY} 09:00:00")])
        return read_listens(*arguments)

    monkeypatch.setattr(glue_script, "read_listens", read_after_another_run)
    with pytest.raises(RuntimeError, match=f"history of {DAY} changed meanwhile: run the job again"):
        run_batch(morning, "noon", NOON)


def test_small_day_has_no_snapshot(job: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glue_script, "SNAPSHOT_BYTES", 1024 * 1024)
    run_batch(job, "morning", MORNING)
    assert not job.snapshots.exists()
