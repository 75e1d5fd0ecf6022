"""The files contain what the generator reports as planted, as read by Python's csv module."""

from __future__ import annotations

import csv
import itertools
import json
import re
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from include.sample_data import (
    BROKEN_ROW_KINDS,
    MISNAMED_HEADER,
    STREAM_HEADER,
    DayTotals,
    SampleData,
    write_sample_data,
)
from include.sample_data.__main__ import main
from include.sample_data.streams import Population, _different_listens, _Part

SIZES = {"listens": 20_000, "days": 3, "tracks": 2_000, "users": 3_000}
MAX_REJECTED_FRACTION = 0.05

Listen = tuple[str, str, str]


@dataclass(frozen=True)
class Sample:
    """A written sample and its files, read back."""

    root: Path
    planted: SampleData
    streams: dict[str, list[list[str]]]
    songs: list[dict[str, str]]
    users: list[dict[str, str]]

    def valid_listens(self, name: str) -> list[Listen]:
        return [(row[0], row[1], row[2]) for row in self.streams[name][1:] if fault_of(row) is None]

    def accepted_listens(self) -> list[Listen]:
        return [listen for file in self.planted.accepted_files for listen in self.valid_listens(file.name)]


def fault_of(row: list[str]) -> str | None:
    if len(row) != 3:
        return "short_row"
    if not row[0]:
        return "empty_user_id"
    if not row[1]:
        return "empty_track_id"
    try:
        datetime.strptime(row[2], "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return "impossible_listen_time"
    return None


def read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


def read_records(path: Path) -> list[dict[str, str]]:
    header, *rows = read_csv(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


def contents_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("sample")
    planted = write_sample_data(root, **SIZES, seed=11)
    return Sample(
        root=root,
        planted=planted,
        streams={path.name: read_csv(path) for path in (root / "streams").iterdir()},
        songs=read_records(root / "songs" / "songs.csv"),
        users=read_records(root / "users" / "users.csv"),
    )


class TestRepeatability:
    def test_same_seed_and_sizes_give_the_same_bytes(self, sample: Sample, tmp_path: Path) -> None:
        planted = write_sample_data(tmp_path, **SIZES, seed=11)

        assert planted == sample.planted
        assert contents_of(tmp_path) == contents_of(sample.root)

    def test_another_seed_gives_other_listens_and_catalogs(self, sample: Sample, tmp_path: Path) -> None:
        write_sample_data(tmp_path, **SIZES, seed=12)

        same = contents_of(tmp_path).items() & contents_of(sample.root).items()
        assert {name for name, _ in same} <= {"planted.json"}

    def test_catalogs_stay_the_same_when_only_the_number_of_listens_changes(
        self, sample: Sample, tmp_path: Path
    ) -> None:
        write_sample_data(tmp_path, **{**SIZES, "listens": 5_000}, seed=11)

        for catalog in ("songs/songs.csv", "users/users.csv"):
            assert (tmp_path / catalog).read_bytes() == (sample.root / catalog).read_bytes()


class TestShape:
    def test_headers_are_those_of_real_files(self, sample: Sample) -> None:
        assert sample.streams["streams1.csv"][0] == ["user_id", "track_id", "listen_time"]
        assert ",".join(sample.songs[0]) == (
            "id,track_id,artists,album_name,track_name,popularity,duration_ms,explicit,danceability,energy,key,"
            "loudness,mode,speechiness,acousticness,instrumentalness,liveness,valence,tempo,time_signature,"
            "track_genre"
        )
        assert list(sample.users[0]) == ["user_id", "user_name", "user_age", "user_country", "created_at"]

    def test_files_are_numbered_and_hold_the_rows_that_were_asked_for(self, sample: Sample) -> None:
        planted = sample.planted.stream_files

        assert [file.name for file in planted] == [f"streams{n}.csv" for n in range(1, len(planted) + 1)]
        assert {file.name: file.rows for file in planted} == {
            name: len(rows) - 1 for name, rows in sample.streams.items()
        }
        assert sample.planted.rows == SIZES["listens"]

    @pytest.mark.parametrize("listens", [900, 12_345])
    def test_number_of_listens_is_respected(self, tmp_path: Path, listens: int) -> None:
        write_sample_data(tmp_path, **{**SIZES, "listens": listens})

        assert sum(len(read_csv(path)) - 1 for path in (tmp_path / "streams").iterdir()) == listens

    def test_catalogs_have_the_sizes_that_were_asked_for(self, sample: Sample) -> None:
        tracks = {song["track_id"] for song in sample.songs}

        assert len(sample.users) == len({user["user_id"] for user in sample.users}) == SIZES["users"]
        assert len(tracks) + sample.planted.tracks_not_in_catalog == SIZES["tracks"]
        assert all(re.fullmatch("[0-9A-Za-z]{22}", track) for track in tracks)
        assert len({song["track_genre"] for song in sample.songs}) == 114

    def test_a_day_that_exceeds_a_file_goes_to_several_files_without_a_gap_or_an_overlap(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("include.sample_data.streams.ROWS_PER_FILE", 1_000)

        planted = write_sample_data(tmp_path, **{**SIZES, "listens": 9_000})

        rows = [file.rows for file in planted.stream_files if file.kind == "daily"]
        assert len(rows) == 9
        assert max(rows) - min(rows) <= 1
        files = [read_csv(tmp_path / "streams" / f"streams{number}.csv")[1:] for number in (1, 2, 3)]
        times = [[row[2] for row in file if fault_of(row) is None] for file in files]
        assert {time[:13] for time in itertools.chain(*times)} == {f"2024-06-25 {h:02d}" for h in range(24)}
        # The second file repeats rows of the first, and the third rows of the second.
        assert max(times[0]) < min(times[2])

    def test_what_was_planted_is_written_beside_the_data(self, sample: Sample) -> None:
        written = json.loads((sample.root / "planted.json").read_text(encoding="utf-8"))

        assert written == json.loads(json.dumps(asdict(sample.planted)))


class TestListens:
    def test_totals_of_each_day_are_those_of_the_distinct_valid_rows(self, sample: Sample) -> None:
        tracks = {song["track_id"] for song in sample.songs}
        users = {user["user_id"] for user in sample.users}
        distinct = set(sample.accepted_listens())

        assert sample.planted.days == {
            day: DayTotals(
                listens=len(listens),
                unmatched_track_listens=sum(track not in tracks for _, track, _ in listens),
                unmatched_user_listens=sum(user not in users for user, _, _ in listens),
            )
            for day in ("2024-06-25", "2024-06-26", "2024-06-27")
            for listens in [[listen for listen in distinct if listen[2].startswith(day)]]
        }
        assert sample.planted.distinct_listens == len(distinct)

    def test_tracks_are_as_popular_as_zipfs_law_has_it(self, sample: Sample) -> None:
        counts = sorted(Counter(track for _, track, _ in sample.accepted_listens()).values(), reverse=True)

        decades = [sum(counts[edge : edge * 10]) for edge in (1, 10, 100)]
        # Under Zipf's law the ranks 1 to 9, 10 to 99 and 100 to 999 have about equal shares.
        assert 0.02 < counts[0] / sum(counts) < 0.1
        assert max(decades) < 2.5 * min(decades)
        assert sum(counts[: len(counts) // 10]) > sum(counts) / 2

    def test_evenings_are_busier_than_nights(self, sample: Sample) -> None:
        hours = Counter(int(time[11:13]) for _, _, time in sample.accepted_listens())

        assert set(hours) == set(range(24))
        assert hours[20] > 5 * hours[3]

    def test_about_one_in_two_hundred_listened_tracks_is_not_in_the_catalog(self, sample: Sample) -> None:
        tracks = {song["track_id"] for song in sample.songs}
        listened = {track for _, track, _ in sample.accepted_listens()}

        assert 0.003 < len(listened - tracks) / len(listened) < 0.007

    def test_about_one_in_a_hundred_listens_is_by_a_user_who_is_not_in_the_catalog(
        self, sample: Sample
    ) -> None:
        users = {user["user_id"] for user in sample.users}
        listens = sample.accepted_listens()

        assert 0.005 < sum(user not in users for user, _, _ in listens) / len(listens) < 0.015


class TestFaults:
    def test_every_daily_file_has_rows_of_every_fault_well_below_the_limit(self, sample: Sample) -> None:
        for file in sample.planted.stream_files:
            rows = sample.streams[file.name][1:]
            faults = Counter(fault for row in rows if (fault := fault_of(row)))

            assert faults == file.broken_rows
            assert set(faults) == (set(BROKEN_ROW_KINDS) if file.kind == "daily" else set())
            assert sum(faults.values()) < MAX_REJECTED_FRACTION / 5 * len(rows)

    def test_smallest_sample_keeps_broken_rows_below_the_limit_too(self, tmp_path: Path) -> None:
        planted = write_sample_data(tmp_path, listens=900, days=3, tracks=200, users=10)

        assert all(file.broken / file.rows < MAX_REJECTED_FRACTION / 2 for file in planted.stream_files)

    def test_listens_are_repeated_inside_a_file_and_across_files(self, sample: Sample) -> None:
        earlier: set[Listen] = set()
        for file in sample.planted.accepted_files:
            listens = sample.valid_listens(file.name)
            inside = len(listens) - len(set(listens))
            across = len(set(listens) & earlier)

            assert file.repeated_rows == len(listens) - len(set(listens) - earlier)
            assert inside > 0 or file.kind == "late"
            assert across > 0 or file.name == "streams1.csv"
            earlier |= set(listens)

    def test_late_file_comes_after_later_days_and_holds_new_listens_of_the_first(
        self, sample: Sample
    ) -> None:
        late = sample.planted.late_file
        daily = [file.name for file in sample.planted.stream_files if file.kind == "daily"]
        known = {listen for name in daily for listen in sample.valid_listens(name)}
        listens = set(sample.valid_listens(late.name))

        assert late.name > max(daily)
        assert max(time[:10] for _, _, time in known) == "2024-06-27"
        assert {time[:10] for _, _, time in listens} == {"2024-06-25"}
        assert len(listens - known) == late.rows - late.repeated_rows

    def test_exactly_one_file_has_no_listen_time_column(self, sample: Sample) -> None:
        headers = {name: ",".join(rows[0]) for name, rows in sample.streams.items()}

        misnamed = sample.planted.misnamed_file.name
        assert headers == {name: MISNAMED_HEADER if name == misnamed else STREAM_HEADER for name in headers}
        assert "listen_time" not in MISNAMED_HEADER


class TestCatalogNames:
    @pytest.mark.parametrize("needed", ['"', ",", "\n"], ids=["quote", "comma", "newline"])
    def test_track_names_need_quoting(self, sample: Sample, needed: str) -> None:
        assert any(needed in song["track_name"] for song in sample.songs)

    @pytest.mark.parametrize("script", ["CJK UNIFIED", "HANGUL", "ARABIC", "CYRILLIC", "HEADPHONE"])
    def test_track_names_are_in_several_scripts(self, sample: Sample, script: str) -> None:
        letters = {letter for song in sample.songs for letter in song["track_name"]}

        assert any(unicodedata.name(letter, "").startswith(script) for letter in letters)

    def test_popular_tracks_have_such_names(self, sample: Sample) -> None:
        popular = Counter(track for _, track, _ in sample.accepted_listens()).most_common(20)
        names = {song["track_id"]: song["track_name"] for song in sample.songs}
        shown = "".join(names[track] for track, _ in popular)

        assert '"' in shown
        assert "," in shown
        assert not shown.isascii()

    def test_one_row_has_no_names(self, sample: Sample) -> None:
        (nameless,) = [song for song in sample.songs if not song["track_name"]]

        assert (nameless["artists"], nameless["album_name"]) == ("", "")
        assert nameless["track_genre"]
        assert int(nameless["duration_ms"]) > 0

    def test_one_in_a_hundred_tracks_has_two_genres(self, sample: Sample) -> None:
        rows = Counter(song["track_id"] for song in sample.songs)
        genres = {(song["track_id"], song["track_genre"]) for song in sample.songs}

        assert set(rows.values()) == {1, 2}
        assert sum(count == 2 for count in rows.values()) == SIZES["tracks"] // 100
        assert len(genres) == len(sample.songs) == sample.planted.song_rows


class TestFolder:
    def test_earlier_sample_is_overwritten_and_leaves_no_file_behind(self, tmp_path: Path) -> None:
        write_sample_data(tmp_path, **{**SIZES, "days": 8})
        planted = write_sample_data(tmp_path, **SIZES)

        names = {path.name for path in (tmp_path / "streams").iterdir()}
        assert names == {file.name for file in planted.stream_files}

    def test_folder_of_someone_elses_data_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        theirs = tmp_path / "streams" / "streams1.csv"
        theirs.parent.mkdir()
        theirs.write_text("user_id,track_id,listen_time\n")

        with pytest.raises(FileExistsError, match="not empty"):
            write_sample_data(tmp_path, **SIZES)

        assert contents_of(tmp_path) == {"streams/streams1.csv": b"user_id,track_id,listen_time\n"}

    def test_file_in_place_of_the_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "sample").write_text("")

        with pytest.raises(FileExistsError, match="is a file"):
            write_sample_data(tmp_path / "sample", **SIZES)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param({"listens": -1}, "listens is -1", id="negative"),
            pytest.param({"listens": 899, "days": 3}, "at least 900", id="too few for the days"),
            pytest.param({"days": 1}, "days is 1; it must be at least 2", id="no later day"),
            pytest.param({"tracks": 100}, "tracks is 100", id="tracks"),
            pytest.param({"users": 0}, "users is 0", id="users"),
            pytest.param({"seed": -3}, "seed is -3", id="seed"),
        ],
    )
    def test_size_that_is_too_small_is_named(
        self, tmp_path: Path, arguments: dict[str, int], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            write_sample_data(tmp_path / "sample", **arguments)

        assert not (tmp_path / "sample").exists()

    def test_more_listens_than_can_differ_are_refused(self) -> None:
        population = Population.of(["track a", "track b"], np.array([True, True]), known_users=10)
        one_second = _Part(day=0, first=0, end=1, rows=23)

        with pytest.raises(ValueError, match="do not give 23 different listens"):
            _different_listens(np.random.default_rng(1), population, np.array([1, 2]), one_second, 23)

    def test_command_line_prints_what_was_planted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        exit_code = main([str(tmp_path), "--listens", "3000", "--days", "2", "--users", "100", "--seed", "3"])

        printed = capsys.readouterr().out
        planted = json.loads((tmp_path / "planted.json").read_text(encoding="utf-8"))
        distinct = sum(day["listens"] for day in planted["days"].values())
        assert exit_code == 0
        assert "4 files, 3,000 rows, 2024-06-25 to 2024-06-26" in printed
        assert f"{distinct:,} distinct listens" in printed
        assert "late: streams3.csv" in printed
        assert "to be quarantined: streams4.csv" in printed
        assert "users    100 rows" in printed

    def test_command_line_names_a_wrong_size(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as exit_info:
            main([str(tmp_path / "sample"), "--listens", "-5"])

        assert exit_info.value.code == 2
        assert "listens is -5; it must be at least 900" in capsys.readouterr().err
