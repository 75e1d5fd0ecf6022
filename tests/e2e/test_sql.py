"""The ten queries on the archive of a pipeline whose runs really ran, against a count by hand."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from include.kpis.problems import ReadError
from include.kpis.reports import Archive
from include.sql.__main__ import named_queries
from include.sql.session import Session
from local_aws_support import REPOSITORY
from tests.e2e import data
from tests.e2e.conftest import MakeRunner
from tests.e2e.data import DAYS
from tests.e2e.deployment import Deployment
from tests.e2e.observed import observe
from tests.e2e.oracle import accepted_listens

UNKNOWN_TRACK = "not-in-the-catalog"


@pytest.fixture(scope="module")
def deployment(make_deployment: Callable[[], Deployment], make_runner: MakeRunner) -> Deployment:
    """A pipeline after two runs, with rejected rows of two senders and a track that no catalog has."""
    made = make_deployment()
    first = [
        *data.listens(1, 60, DAYS),
        ("u1", UNKNOWN_TRACK, f"{DAYS[0]} 10:00:00"),
        ("", "t1", f"{DAYS[0]} 10:00:00"),
    ]
    late = [*data.listens(2, 120, DAYS), ("u1", "t1", "yesterday"), ("u2", "t1", 'a, "b"')]
    made.upload_all({**data.catalogs(), "streams/web/first.csv": data.stream_file(first)})
    make_runner(made).run()
    made.upload_all({"streams/app/late.csv": data.stream_file(late)})
    make_runner(made).run()
    return made


@pytest.fixture
def session(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Session:
    resources = deployment.resources
    for name, value in {
        "AWS_ENDPOINT_URL": deployment.endpoint_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "ARCHIVE_BUCKET_NAME": resources.archive_bucket,
    }.items():
        monkeypatch.setenv(name, value)
    return Session(Archive(resources.s3, resources.archive_bucket))


@pytest.fixture
def listens(deployment: Deployment) -> dict[date, set[Any]]:
    """The distinct accepted listens by day, read from the archived CSV files."""
    observed = observe(deployment.resources)
    return {date.fromisoformat(day): set(found) for day, found in accepted_listens(observed).items()}


def run_command(*arguments: str, typed: str = "") -> tuple[str, str]:
    """Return what `python -m include.sql` prints to its output and its error output."""
    completed = subprocess.run(
        [sys.executable, "-m", "include.sql", *arguments],
        cwd=REPOSITORY,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return completed.stdout, completed.stderr


def rows(session: Session, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = session.query(named_queries()[name]).to_pylist()
    return found


def test_there_are_ten_queries_and_each_is_in_the_docs_with_its_question() -> None:
    page = (REPOSITORY / "docs" / "sql.md").read_text()

    assert len(named_queries()) == 10
    for name, text in named_queries().items():
        question, _, sql = text.partition("\n")
        assert question.startswith("-- ")
        assert f"### {name}\n\n{question.removeprefix('-- ')}\n\n```sql\n{sql.strip()}\n```" in page


def test_listens_per_hour(session: Session, listens: dict[date, set[Any]]) -> None:
    expected = Counter(listen.listen_time.hour for day in listens.values() for listen in day)

    assert {row["hour_of_day"]: row["listens"] for row in rows(session, "listens_per_hour")} == expected


def test_retention_and_new_listeners(session: Session, listens: dict[date, set[Any]]) -> None:
    users = {day: {listen.user_id for listen in found} for day, found in sorted(listens.items())}
    seen: set[str] = set()
    new = {}
    for day, found in users.items():
        new[day] = len(found - seen)
        seen |= found

    assert [(r["listen_date"], r["listeners"], r["came_back"]) for r in rows(session, "retention")] == [
        (day, len(found), len(found & users.get(day + timedelta(days=1), set())))
        for day, found in list(users.items())[:-1]
    ]
    assert {r["listen_date"]: r["new_listeners"] for r in rows(session, "new_listeners")} == new


def test_genre_shares_of_a_country_are_its_listens_and_add_up_to_the_kpis(
    session: Session, deployment: Deployment
) -> None:
    by_genre: Counter[str] = Counter()
    percent: defaultdict[str, float] = defaultdict(float)
    for row in rows(session, "genre_share_per_country"):
        by_genre[row["track_genre"]] += row["listens"]
        percent[row["user_country"]] += row["percent"]
    stored: Counter[str] = Counter()
    for (_, genre), item in observe(deployment.resources).items.items():
        stored[genre] += int(item["listen_count"])
    del stored["ALL_GENRES"]

    assert by_genre == stored
    assert all(abs(total - 100) < 1 for total in percent.values())


def test_unknown_tracks_are_those_of_no_catalog(session: Session) -> None:
    unknown = {row["track_id"]: row for row in rows(session, "unknown_tracks")}

    assert unknown[UNKNOWN_TRACK] == {
        "track_id": UNKNOWN_TRACK,
        "listens": 1,
        "listeners": 1,
        "first_day": date.fromisoformat(DAYS[0]),
        "last_day": date.fromisoformat(DAYS[0]),
    }


def test_rejected_rows_are_counted_by_sender_and_reason(session: Session) -> None:
    found = [(r["sender"], r["reason"], r["rejected_rows"]) for r in rows(session, "rejected_rows_by_sender")]

    assert found == [("app", "invalid listen_time", 2), ("web", "empty user_id", 1)]


def test_top_tracks(session: Session, listens: dict[date, set[Any]]) -> None:
    counts = Counter(listen.track_id for day in listens.values() for listen in day)
    expected = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:10]

    assert [(row["track_id"], row["listens"]) for row in rows(session, "top_tracks")] == expected


def test_genres_change_by_what_the_kpis_say(session: Session, deployment: Deployment) -> None:
    items = observe(deployment.resources).items
    found = rows(session, "growing_genres")

    assert {(r["listen_date"].isoformat(), r["track_genre"]): r["listen_count"] for r in found} == {
        key: int(item["listen_count"]) for key, item in items.items() if key[1] != "ALL_GENRES"
    }
    first_days = {row["track_genre"]: row["listen_date"] for row in reversed(found)}
    assert all(
        (row["more_than_before"] is None) is (row["listen_date"] == first_days[row["track_genre"]])
        for row in found
    )


def test_runs_per_day_have_the_sums_of_the_reports(session: Session, deployment: Deployment) -> None:
    reports = observe(deployment.resources).reports.values()
    found = rows(session, "runs_per_day")

    assert sum(row["runs"] for row in found) == len(reports) == 2
    for name, column in {"files": "files", "rows": "rows_read", "rejected": "rejected_rows"}.items():
        assert sum(row[column] for row in found) == sum(report["totals"][name] for report in reports)


def test_kpis_differ_from_the_history_by_nothing(session: Session, listens: dict[date, set[Any]]) -> None:
    assert rows(session, "kpis_against_history") == [
        {"listen_date": day, "listens": len(found), "difference_of_listens": 0, "difference_of_listeners": 0}
        for day, found in sorted(listens.items())
    ]


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("form", ["csv", "json"])
def test_command_prints_csv_and_json(form: str, listens: dict[date, set[Any]]) -> None:
    sql = "SELECT listen_date, count(*) AS n, 1.50 AS d FROM listens GROUP BY 1 ORDER BY 1"

    printed, _ = run_command(sql, "--format", form)

    read = json.loads(printed) if form == "json" else list(csv.DictReader(io.StringIO(printed)))
    assert [(row["listen_date"], int(row["n"]), row["d"]) for row in read] == [
        (day.isoformat(), len(found), "1.50") for day, found in sorted(listens.items())
    ]


@pytest.mark.usefixtures("session")
def test_shell_takes_statements_over_lines_and_continues_after_a_wrong_one() -> None:
    typed = "SELECT no_such_column FROM songs;\nSELECT count(*) AS n\nFROM songs;\n"

    printed, errors = run_command("--format", "json", typed=typed)

    assert '"n": ' in printed
    assert "no_such_column" in errors


@pytest.mark.parametrize("sql", ["SELECT * FROM no_such_table", "SELEC 1"])
def test_wrong_statement_is_an_error_that_names_the_tables(sql: str, session: Session) -> None:
    with pytest.raises(
        ReadError, match=r"The tables are listens, kpis, songs, users, run_reports, rejected_rows\."
    ):
        session.query(sql)


def test_empty_archive_has_empty_tables(session: Session, deployment: Deployment) -> None:
    s3 = deployment.resources.s3
    s3.create_bucket(Bucket="empty-archive")
    empty = Session(Archive(s3, "empty-archive"))

    for name, text in named_queries().items():
        assert empty.query(text).num_rows == 0, name
