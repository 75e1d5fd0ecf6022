"""Whole runs of the job on a local folder."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from glue_job_support import JobFolder, listen
from pyspark.sql import SparkSession

from glue_script import glue_script
from tests.kpi_oracle import Listen, Song, User, kpi_items

DAY = "2024-06-25"
A, B, C = (listen("u1", "t1", f"{DAY} 12:00:0{second}") for second in range(3))
SCRIPT = Path(glue_script.__file__)


def test_items_of_a_first_batch(job: JobFolder) -> None:
    songs = [
        Song("t1", "Song 1", "Artist 1", "pop", 60_300),
        Song("t1", "Song 1", "Artist 1", "rock", 1),
        Song("t2", None, None, None, None),
    ]
    job.write_input(
        [A, B, A],
        [listen("u1", "t2", f"{DAY} 13:00:00"), listen("u2", "t9", f"{DAY} 14:00:00")],
        songs=songs,
        users=[User("u1", "Ireland"), User("u3", None)],
    )
    job.run()

    song_1 = {"rank": 1, "track_id": "t1", "track_name": "Song 1", "artists": "Artist 1", "listen_count": 2}
    nameless = {"track_name": "Unknown", "artists": "Unknown", "listen_count": 1}
    assert job.items() == {
        (DAY, "pop"): {
            "listen_count": 2,
            "unique_listeners": 1,
            "total_listening_time": Decimal("2.01"),
            "avg_listening_time_per_user": Decimal("2.01"),
            "genre_rank": 1,
            "top_3_songs_per_genre": [song_1],
        },
        (DAY, "rock"): {
            "listen_count": 2,
            "unique_listeners": 1,
            "total_listening_time": Decimal("0.00"),
            "avg_listening_time_per_user": Decimal("0.00"),
            "genre_rank": 2,
            "top_3_songs_per_genre": [song_1],
        },
        (DAY, "Unknown"): {
            "listen_count": 2,
            "unique_listeners": 2,
            "total_listening_time": Decimal("0.00"),
            "avg_listening_time_per_user": Decimal("0.00"),
            "top_3_songs_per_genre": [
                {"rank": 1, "track_id": "t2", **nameless},
                {"rank": 2, "track_id": "t9", **nameless},
            ],
        },
        (DAY, "ALL_GENRES"): {
            "listen_count": 4,
            "unique_listeners": 2,
            "total_listening_time": Decimal("2.01"),
            "avg_listening_time_per_user": Decimal("1.01"),
            "top_5_genres_per_day": [
                {"rank": 1, "track_genre": "pop", "listen_count": 2},
                {"rank": 2, "track_genre": "rock", "listen_count": 2},
            ],
            "top_5_countries_per_day": [
                {"rank": 1, "user_country": "Ireland", "listen_count": 3, "unique_listeners": 1}
            ],
            "unmatched_track_listens": 1,
            "unmatched_user_listens": 1,
        },
    }
    counts = {"rows_read": 5, "new": 4, "repeated": 1}
    summary = job.summary()
    assert {name: summary[name] for name in counts} == counts
    assert summary["batch_id"] == "batch-1"
    assert summary["days"] == {DAY: {**counts, "added": 4, "total": 4, "history_objects": []}}
    assert all((job.output / name).stat().st_size == size for name, size in summary["objects"].items())
    assert len(job.added_objects()) == 1


def test_added_listens_are_utc_microseconds_that_any_reader_understands(job: JobFolder) -> None:
    micros = listen("u1", "t1", "2024-06-25T23:30:00.123456-02:00")
    job.write_input([micros, A])
    job.run()
    assert job.added() == sorted([A, micros])
    schema = pq.read_schema(job.output / job.added_objects()[0])
    assert schema.field("listen_time").type == pa.timestamp("us", tz="UTC")
    assert schema.names == ["user_id", "track_id", "listen_time"]


def test_late_file_completes_its_day_from_the_history(job: JobFolder) -> None:
    job.write_history("other__0.parquet", [A, B])
    job.write_history("older__0.parquet", [A])
    job.write_input([B, C])
    job.run()
    assert job.items() == kpi_items(
        [A, B, C], [Song("t1", "Song 1", "Artist 1", "pop", 60_000)], [User("u1", "Ireland")]
    )
    assert job.added() == [C]
    assert job.day(DAY) == {
        "rows_read": 2,
        "new": 1,
        "repeated": 1,
        "added": 1,
        "total": 3,
        "history_objects": ["older__0.parquet", "other__0.parquet"],
    }


def test_replayed_batch_counts_the_same_and_adds_nothing(job: JobFolder) -> None:
    job.write_history("other__0.parquet", [A])
    job.write_input([A, B, B, C])
    job.run()
    items, first = job.items(), job.day(DAY)
    job.keep_added()
    job.run()
    replayed = job.day(DAY)
    assert job.items() == items
    assert len(replayed.pop("history_objects")) == 2
    assert replayed == {"rows_read": 4, "new": 2, "repeated": 2, "added": 0, "total": 3}
    assert (first["new"], first["repeated"], first["added"]) == (2, 2, 2)
    assert job.added_objects() == []


def test_batch_whose_key_a_uri_would_escape_knows_its_own_history(job: JobFolder) -> None:
    job.write_history("100% ça #1__0.parquet", [A])
    job.write_history("other__0.parquet", [B])
    job.write_input([A, B, C])
    job.run(batch_id="100% ça #1")
    assert (job.day(DAY)["new"], job.day(DAY)["added"]) == (2, 1)


def test_batch_whose_key_starts_like_another_one_is_another_batch(job: JobFolder) -> None:
    job.write_history("batch-10__0.parquet", [A])
    job.write_input([A, B])
    job.run(batch_id="batch-1")
    assert job.day(DAY)["new"] == 1


def test_listen_of_own_and_of_another_batch_is_not_new(job: JobFolder) -> None:
    job.write_history("batch-1__0.parquet", [A, B])
    job.write_history("other__0.parquet", [A])
    job.write_input([A, B, C])
    job.run()
    assert (job.day(DAY)["new"], job.day(DAY)["added"], job.day(DAY)["total"]) == (2, 1, 3)


def test_history_of_several_writers_is_one_history(job: JobFolder, spark: SparkSession) -> None:
    large_dictionary = pa.schema(
        [
            ("user_id", pa.large_string()),
            ("track_id", pa.dictionary(pa.int32(), pa.string())),
            ("listen_time", pa.timestamp("ms", tz="Europe/Dublin")),
            ("source_file", pa.string()),
        ]
    )
    rows = [(*A, "streams1.csv"), (*B, None)]
    folder = job.history / f"listen_date={DAY}"
    folder.mkdir(parents=True)
    columns = [
        pa.array(column, field.type)
        for column, field in zip(zip(*rows, strict=True), large_dictionary, strict=True)
    ]
    pq.write_table(pa.table(columns, schema=large_dictionary), folder / "pyarrow__0.parquet")
    job.write_input([B, C])
    job.run("spark")
    job.keep_added("spark")
    job.write_input([A, B, C])
    job.run()
    assert (job.day(DAY)["new"], job.day(DAY)["total"], job.added()) == (0, 3, [])


def test_midnight_divides_a_batch_into_utc_days(job: JobFolder) -> None:
    last = listen("u1", "t1", "2024-06-25 23:59:59.999999")
    first = listen("u1", "t1", "2024-06-26 00:00:00")
    offset = listen("u1", "t1", "2024-06-26T01:59:59.999999+02:00")
    job.write_input([last, first, offset])
    job.run()
    days = job.summary()["days"]
    assert {day: (counts["rows_read"], counts["total"]) for day, counts in days.items()} == {
        "2024-06-25": (2, 1),
        "2024-06-26": (1, 1),
    }
    assert job.added() == [last, first]
    assert {key for key, _ in job.items()} == {"2024-06-25", "2024-06-26"}


def test_days_are_utc_in_a_session_of_another_time_zone(job: JobFolder, spark: SparkSession) -> None:
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    job.write_input([listen("u1", "t1", "2024-06-26 01:00:00")])
    job.run()
    assert list(job.summary()["days"]) == ["2024-06-26"]


def test_history_of_other_days_is_not_read(job: JobFolder) -> None:
    job.write_history("other__0.parquet", [A])
    unreadable = job.history / "listen_date=2024-06-24" / "other__0.parquet"
    unreadable.parent.mkdir()
    unreadable.write_text("not Parquet")
    job.write_input([B])
    job.run()
    assert job.day(DAY)["total"] == 2


def test_history_is_the_parquet_files_of_a_day_whatever_their_names(job: JobFolder) -> None:
    names = ["manual__2024-06-25T00_00_00-a1__0.parquet", "Ça va + 100%20 #1__0.parquet"]
    for name, accepted in zip(names, (A, B), strict=True):
        job.write_history(name, [accepted])
    folder = job.history / f"listen_date={DAY}"
    (folder / "empty.parquet").touch()
    (folder / "notes.txt").write_text("not Parquet")
    (job.history / "listen_date=2024-06-26").mkdir()
    job.write_input([C, listen("u1", "t1", "2024-06-26 00:00:00")])
    job.run()
    assert (job.day(DAY)["total"], job.day(DAY)["history_objects"]) == (3, sorted([*names, "empty.parquet"]))
    assert (job.day("2024-06-26")["total"], job.day("2024-06-26")["history_objects"]) == (1, [])


def test_objects_added_to_the_history_during_a_run_are_neither_read_nor_named(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = glue_script.part_numbers

    def plan_while_another_run_adds(*arguments: Any) -> Any:
        job.write_history("late__0.parquet", [B, C])
        return plan(*arguments)

    monkeypatch.setattr(glue_script, "part_numbers", plan_while_another_run_adds)
    job.write_history("other__0.parquet", [A])
    job.write_input([B])
    job.run()
    assert (job.day(DAY)["total"], job.day(DAY)["new"]) == (2, 1)
    assert job.day(DAY)["history_objects"] == ["other__0.parquet"]
    assert job.added() == [B]


def test_run_after_a_failed_one_in_the_same_session_reads_the_history_anew(job: JobFolder) -> None:
    job.write_history("other__0.parquet", [A])
    (job.history / f"listen_date={DAY}").rename(job.history / "listen_date=2024-06-26")
    job.write_input([listen("u1", "t1", "2024-06-26 00:00:00")])
    with pytest.raises(ValueError, match="history of 2024-06-26 holds listens of 2024-06-25"):
        job.run()
    (job.history / "listen_date=2024-06-26" / "other__0.parquet").unlink()
    job.write_history("other__1.parquet", [listen("u2", "t1", "2024-06-26 00:00:00")])
    job.run()
    assert job.day("2024-06-26")["total"] == 2
    assert job.day("2024-06-26")["history_objects"] == ["other__1.parquet"]


def test_only_objects_that_the_manifest_names_are_read(job: JobFolder) -> None:
    job.write_input([A], [B])
    stray = job.source / "listens" / "part-00002.parquet"
    stray.write_bytes((job.source / "listens" / "part-00001.parquet").read_bytes())
    job.run()
    assert job.summary()["rows_read"] == 2


def test_reprocessed_days_come_from_the_history(job: JobFolder) -> None:
    songs, users = [Song("t1", "renamed", "Artist 1", "jazz", 120_000)], [User("u1", "Spain")]
    job.write_history("other__0.parquet", [A, B, listen("u1", "t1", "2024-06-26 00:00:00")])
    job.write_input(songs=songs, users=users)
    job.run(reprocess_dates=f"2024-06-01, {DAY},2024-06-01")
    assert job.items() == kpi_items([A, B], songs, users)
    empty = {"rows_read": 0, "new": 0, "repeated": 0, "added": 0}
    assert job.summary()["days"] == {
        "2024-06-01": {**empty, "total": 0, "history_objects": []},
        DAY: {**empty, "total": 2, "history_objects": ["other__0.parquet"]},
    }


def test_reprocessing_days_without_any_listens_gives_no_items(job: JobFolder) -> None:
    job.write_input()
    job.run(reprocess_dates=DAY)
    assert (job.items(), job.day(DAY)["total"], job.added_objects()) == ({}, 0, [])


def test_rerun_replaces_the_output_of_an_earlier_attempt(job: JobFolder) -> None:
    job.write_input([A, listen("u1", "t1", "2024-06-20 00:00:00")])
    job.run()
    job.write_input([B])
    job.run()
    assert list(job.summary()["days"]) == [DAY]
    assert job.added() == [B]
    files = {str(path.relative_to(job.output)) for path in job.output.rglob("[!._]*") if path.is_file()}
    assert files == {"summary.json", *job.summary()["objects"]}


def test_failed_rerun_leaves_no_summary_of_an_earlier_attempt(job: JobFolder) -> None:
    job.write_input([A])
    job.run()
    (job.source / "songs" / "part-00000.parquet").write_text("not Parquet")
    with pytest.raises(Exception, match=r"part-00000\.parquet"):
        job.run()
    assert not (job.output / "summary.json").exists()


def test_large_day_is_written_to_several_files_and_a_small_one_to_one(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glue_script, "PARTITION_BYTES", 5_000)
    large = [listen(f"u{number}", "t1", f"{DAY} 12:00:00") for number in range(20_000)]
    small = [listen(f"u{number}", "t1", "2024-06-20 12:00:00") for number in range(20)]
    job.write_input([*large, *small])
    job.run()
    files = Counter(name.split("/")[1] for name in job.added_objects())
    assert files["listen_date=2024-06-20"] == 1
    assert 1 < files[f"listen_date={DAY}"] < 20
    assert job.added() == sorted([*large, *small])


def test_listening_time_beyond_64_bits_is_exact(job: JobFolder) -> None:
    song = Song("t1", "Song 1", "Artist 1", "pop", 2**63 - 1)
    job.write_input([A, B, C], songs=[song])
    job.run()
    expected = kpi_items([A, B, C], [song], [User("u1", "Ireland")])
    assert job.items() == expected
    assert expected[DAY, "pop"]["total_listening_time"] == Decimal("461168601842738.79")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            {
                "spark.sql.autoBroadcastJoinThreshold": "10MB",
                "spark.sql.codegen.factoryMode": "FALLBACK",
                "spark.sql.codegen.wholeStage": "true",
            },
            id="broadcast-catalogs-generated-code",
        ),
        pytest.param({"spark.sql.autoBroadcastJoinThreshold": "-1"}, id="shuffled-catalogs"),
    ],
)
def test_random_batches_agree_with_the_oracle(
    job: JobFolder, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    monkeypatch.setattr(glue_script, "PARTITION_BYTES", 4_000)
    random = Random(20240625)
    songs = random_songs(random)
    users = [User(f"u{random.randrange(40)}", random.choice([None, *"abcdefg"])) for _ in range(60)]
    accepted: set[Listen] = set()
    # The job's own settings would override them.
    monkeypatch.setattr(glue_script, "SPARK_CONF", {**glue_script.SPARK_CONF, **settings})
    with spark_settings(spark, settings):
        for batch in range(2):
            listens = [random_listen(random) for _ in range(300)]
            new = set(listens) - accepted
            accepted |= new
            job.write_input(listens[:100], listens[100:], songs=songs, users=users)
            job.run(f"batch-{batch}")
            days = {row.listen_time.date() for row in listens}
            of_days = [row for row in accepted if row.listen_time.date() in days]
            assert job.items() == kpi_items(of_days, songs, users)
            assert job.added() == sorted(new)
            assert (job.summary()["new"], job.summary()["repeated"]) == (len(new), 300 - len(new))
            job.keep_added(f"batch-{batch}")


@contextmanager
def spark_settings(spark: SparkSession, settings: dict[str, str]) -> Iterator[None]:
    before = {name: str(spark.conf.get(name)) for name in settings}
    try:
        for name, value in settings.items():
            spark.conf.set(name, value)
        yield
    finally:
        for name, value in before.items():
            spark.conf.set(name, value)


def random_songs(random: Random) -> list[Song]:
    return [
        Song(
            f"t{random.randrange(30)}",
            random.choice([None, "A", "B", "Ça"]),
            random.choice([None, "x", "y; z"]),
            random.choice([None, "Unknown", *"abcdefgh"]),
            random.choice([None, 0, 1, random.randrange(600_000), 300, 60_300]),
        )
        for _ in range(60)
    ]


def random_listen(random: Random) -> Listen:
    """Return one of so few listens that some repeat; some users and tracks are not in the catalogs."""
    minute = random.choice(["23:59:59.999999", "00:00:00", "12:00:00"])
    return listen(
        f"u{random.randrange(45)}", f"t{random.randrange(33)}", f"2024-06-{24 + random.randrange(3)} {minute}"
    )


def test_missing_manifest_names_the_task_that_writes_it(job: JobFolder) -> None:
    job.write_input([A])
    (job.source / "manifest.json").unlink()
    message = (
        r"input manifest file:.*manifest\.json not found: the run's move_files_to_intermediate_bucket has not"
    )
    with pytest.raises(FileNotFoundError, match=message):
        job.run()


def test_missing_input_folder_is_a_missing_manifest(job: JobFolder) -> None:
    with pytest.raises(FileNotFoundError, match="move_files_to_intermediate_bucket has not finished"):
        job.run()


@pytest.mark.parametrize("content", ["{", "[]", '{"listens": {}}'], ids=["cut-off", "list", "no-objects"])
def test_unusable_manifest_is_refused(job: JobFolder, content: str) -> None:
    job.write_input([A])
    (job.source / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json is unusable"):
        job.run()


def test_missing_object_is_named_and_the_earlier_output_stays(job: JobFolder) -> None:
    job.write_input([A], [B])
    job.run()
    (job.source / "listens" / "part-00001.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 objects .* not found, first listens/part-00001\.parquet"):
        job.run()
    assert job.summary()["rows_read"] == 2


def test_run_with_nothing_to_do_is_refused(job: JobFolder) -> None:
    job.write_input()
    with pytest.raises(ValueError, match="nothing to do: no listens"):
        job.run()


def test_listen_without_time_is_refused(job: JobFolder) -> None:
    job.write_input([A, Listen("u1", "t1", None)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 input rows have no listen_time"):
        job.run()


def test_history_in_the_wrong_folder_is_refused(job: JobFolder) -> None:
    job.write_history("other__0.parquet", [A])
    (job.history / f"listen_date={DAY}").rename(job.history / "listen_date=2024-06-26")
    job.write_input([listen("u1", "t1", "2024-06-26 00:00:00")])
    with pytest.raises(ValueError, match="history of 2024-06-26 holds listens of 2024-06-25"):
        job.run()


def test_stray_listen_is_refused_where_days_have_several_partitions(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glue_script, "PARTITION_BYTES", 1_000)
    job.write_history("other__0.parquet", [A])
    (job.history / f"listen_date={DAY}").rename(job.history / "listen_date=2024-06-27")
    job.write_input([listen("u1", "t1", "2024-06-27 00:00:00"), listen("u1", "t1", "2024-06-29 00:00:00")])
    with pytest.raises(ValueError, match=f"holds listens of {DAY}: move them"):
        job.run()


def test_days_far_apart_are_computed_in_partitions_of_their_own(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glue_script, "PARTITION_BYTES", 1_000)
    days = ("2023-01-01", "2024-02-29", DAY)
    rows = [listen(f"u{number}", "t1", f"{day} 12:00:00") for day in days for number in range(50)]
    job.write_history("other__0.parquet", rows)
    job.write_input()
    job.run(reprocess_dates="2023-01-01,2024-06-20," + DAY)
    totals = {day: counts["total"] for day, counts in job.summary()["days"].items()}
    assert totals == {"2023-01-01": 50, "2024-06-20": 0, DAY: 50}
    assert {day for day, _ in job.items()} == {"2023-01-01", DAY}


def test_input_without_rows_is_refused(job: JobFolder) -> None:
    job.write_input([])
    with pytest.raises(ValueError, match=r"nothing to do: the listens in .*manifest.json have no rows"):
        job.run()


@pytest.mark.parametrize("dates", ["2024-13-01", "20240625", "2024-6-25", f"{DAY},yesterday", f"{DAY};{DAY}"])
def test_bad_reprocess_date_is_refused(tmp_path: Path, dates: str) -> None:
    arguments = JobFolder(tmp_path).arguments(reprocess_dates=dates)
    with pytest.raises(ValueError, match=r"argument --REPROCESS_DATES: .* is not a day; give YYYY-MM-DD"):
        glue_script.parse_arguments(arguments)


def test_arguments_of_glue_itself_are_left_alone(tmp_path: Path) -> None:
    arguments = [*JobFolder(tmp_path).arguments(), "--enable-metrics", "true", "--BATCH", "x"]
    assert glue_script.parse_arguments(arguments).BATCH_ID == "batch-1"


def test_missing_argument_ends_the_script_with_a_message_that_names_it() -> None:
    process = subprocess.run(
        [sys.executable, SCRIPT, "--S3_SOURCE_PATH", "s3://bucket/input/", "--BATCH_ID", "batch-1"],
        capture_output=True,
        text=True,
    )
    assert process.returncode != 0
    assert process.stderr.splitlines()[-1] == (
        "ValueError: the following arguments are required: --S3_HISTORY_PATH, --S3_SNAPSHOTS_PATH, "
        "--S3_OUTPUT_PATH"
    )


def test_script_needs_no_awsglue() -> None:
    code = "import runpy, sys; sys.modules['awsglue'] = None; runpy.run_path(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, SCRIPT], check=True)


def test_time_follows_the_genres_of_a_track_and_not_those_of_the_catalog(
    job: JobFolder, spark: SparkSession
) -> None:
    tracks, genres_per_track = 2_000, 4
    listens = [
        listen(f"u{n % 997}", f"t{n % tracks}", f"{DAY} {n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}")
        for n in range(20_000)
    ]
    # Other tests may run beside this one, so the seconds are those of the JVM's processor.
    jvm = psutil.Process(spark.sparkContext._gateway.proc.pid)
    seconds: dict[int, list[float]] = defaultdict(list)
    # The first run is not counted, because Spark compiles code that the others reuse.
    for genres in (114, 6_000, 114, 6_000, 114, 6_000, 114):
        songs = [
            Song(f"t{n % tracks}", f"Song {n % tracks}", "Artist", f"genre {n % genres}", 60_000)
            for n in range(tracks * genres_per_track)
        ]
        job.write_input(listens, songs=songs)
        before = sum(jvm.cpu_times()[:2])
        job.run()
        seconds[genres].append(sum(jvm.cpu_times()[:2]) - before)
        assert len(job.items()) == genres + 1

    assert min(seconds[6_000]) < 1.5 * min(seconds[114][1:]), seconds
