"""Brings quarantined data back, after the pipeline's own tasks filled the quarantine in local AWS."""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.contract.keys import run_key_of
from helpers.contract.records import FileOutcome
from helpers.contract.settings import PipelineConfig
from helpers.extract_and_combine_streams import extract_and_combine_streams
from helpers.list_stream_files import list_stream_files
from helpers.move_files_to_intermediate_bucket import collect_outcomes
from helpers.run.dispositions import carry_out_dispositions
from helpers.run.store import RunStore
from helpers.validate_csv_files import validate_csv_files
from include import redrive
from include.redrive import Action, RedriveError, list_quarantined, list_runs
from local_aws_support import connect

RUN = "manual__2024-06-25T10:00:00+00:00"
RUN_KEY = run_key_of(RUN)
HEADER = "user_id,track_id,listen_time\n"
GOOD_ROWS = "".join(f"{number},track{number},2024-06-25 10:00:00\n" for number in range(50))
MISNAMED = HEADER.replace("listen_time", "played_at") + "7,track7,2024-06-26 10:00:00\n"
CORRECTED = MISNAMED.replace("played_at", "listen_time")
REJECTED_ROWS = "rejected_rows/part-00000.csv"

Actions = dict[str, Action]


class Killed(BaseException):
    """Represents the end of the process."""


class Pipeline:
    """A test's own buckets, and the tasks that fill their quarantine."""

    def __init__(self, endpoint_url: str) -> None:
        self.s3 = connect("s3", endpoint_url)
        name = f"redrive-{uuid.uuid4().hex[:12]}"
        self.source, self.archive = f"{name}-source", f"{name}-archive"
        self.config = PipelineConfig(
            source_bucket=self.source,
            intermediate_bucket=f"{name}-intermediate",
            archive_bucket=self.archive,
            kpi_table="none",
            glue_job_name="none",
            glue_role_name="none",
            glue_worker_type="G.1X",
            glue_number_of_workers=2,
            sensor_timeout_minutes=0,
            max_rejected_fraction=0.05,
            archive_storage_class="GLACIER_IR",
        )
        for bucket in (self.source, self.config.intermediate_bucket, self.archive):
            self.s3.create_bucket(Bucket=bucket)
            self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for catalog in ("songs", "users"):
            self.deliver(f"{catalog}/{catalog}.csv", "")

    def deliver(self, key: str, text: str) -> None:
        self.s3.put_object(Bucket=self.source, Key=key, Body=text.encode())

    def ingest(self, run_id: str) -> list[FileOutcome]:
        """Run the tasks that read the stream files, check them and archive or quarantine them."""
        parts = list_stream_files(run_id, self.config)
        validated = [
            validate_csv_files(extract_and_combine_streams(part, self.config), self.config) for part in parts
        ]
        run = RunStore(run_key_of(run_id), self.config)
        manifest = run.manifest()
        outcomes = collect_outcomes(run, manifest, validated)
        carry_out_dispositions(run, manifest, outcomes)
        return outcomes

    def redrive(self, folder: Path, run_key: str = RUN_KEY) -> Actions:
        outcomes = redrive.redrive(self.s3, self.archive, self.source, run_key, folder)
        return {outcome.text.split(": ")[0]: outcome.action for outcome in outcomes}

    def waiting(self) -> dict[str, str]:
        """The stream files in the source, as text by key."""
        listed = self.s3.list_objects_v2(Bucket=self.source, Prefix="streams/").get("Contents", [])
        return {
            entry["Key"]: self.s3.get_object(Bucket=self.source, Key=entry["Key"])["Body"].read().decode()
            for entry in listed
        }

    def versions(self) -> list[tuple[str, str, str]]:
        """Every version of every object in source and archive."""
        found = []
        for bucket in (self.source, self.archive):
            listed = self.s3.list_object_versions(Bucket=bucket)
            for version in listed.get("Versions", []) + listed.get("DeleteMarkers", []):
                found.append((bucket, version["Key"], version["VersionId"]))
        return sorted(found)


@pytest.fixture
def pipeline(local_aws: str, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    connection = {
        "conn_type": "aws",
        "login": "test",
        "password": "test",
        "extra": {"region_name": "us-east-1", "endpoint_url": local_aws},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return Pipeline(local_aws)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "quarantine" / RUN_KEY


def _misnamed_in(pipeline: Pipeline) -> str:
    """Let a run reject a file with a wrong header; return its name in the quarantine."""
    pipeline.deliver("streams/good.csv", HEADER + GOOD_ROWS)
    pipeline.deliver("streams/misnamed.csv", MISNAMED)
    pipeline.ingest(RUN)
    return list_quarantined(pipeline.s3, pipeline.archive, RUN_KEY)[0].name


def _target(name: str) -> str:
    return f"streams/redriven/{RUN_KEY}/{name}"


def test_first_call_fetches_every_file_as_it_was_delivered_and_says_why_it_was_rejected(
    pipeline: Pipeline, folder: Path
) -> None:
    name = _misnamed_in(pipeline)

    outcomes = list(redrive.redrive(pipeline.s3, pipeline.archive, pipeline.source, RUN_KEY, folder))

    assert [outcome.action for outcome in outcomes] == [Action.FETCHED]
    assert outcomes[0].text.startswith(f"{name}: missing column listen_time")
    assert name.startswith("misnamed__")
    assert (folder / name).read_text() == MISNAMED
    assert pipeline.waiting() == {}


def test_corrected_rejected_rows_and_files_are_taken_whole_by_the_next_run(
    pipeline: Pipeline, folder: Path
) -> None:
    bad_rows = ",track1,2024-06-25 10:00:00\n8,track8\n"
    pipeline.deliver("streams/good.csv", HEADER + GOOD_ROWS + bad_rows)
    pipeline.deliver("streams/misnamed.csv", MISNAMED)
    pipeline.ingest(RUN)
    pipeline.redrive(folder)
    misnamed = next(folder.glob("misnamed__*"))
    misnamed.write_text(CORRECTED)
    with (folder / REJECTED_ROWS).open(newline="") as file:
        rows = {row["reason"]: row for row in csv.DictReader(file)}
    rows["empty user_id"]["user_id"] = "6"
    assert rows["wrong number of fields"]["malformed_record"] == "8,track8"
    rows["wrong number of fields"] |= {
        "user_id": "8",
        "track_id": "track8",
        "listen_time": "2024-06-26 11:00:00",
    }
    with (folder / REJECTED_ROWS).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows["empty user_id"]))
        writer.writeheader()
        writer.writerows(rows.values())

    assert pipeline.redrive(folder) == {misnamed.name: Action.PUT_BACK, REJECTED_ROWS: Action.PUT_BACK}

    outcomes = pipeline.ingest("the next run")
    assert [(outcome["disposition"], outcome["valid"]) for outcome in outcomes] == [
        ("archive", 1),
        ("archive", 2),
    ]
    assert pipeline.waiting() == {}


@pytest.mark.parametrize("taken", [False, True], ids=["before a run", "after a run took it"])
def test_further_call_changes_nothing(pipeline: Pipeline, folder: Path, taken: bool) -> None:
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    (folder / name).write_text(CORRECTED)
    assert pipeline.redrive(folder) == {name: Action.PUT_BACK}
    assert pipeline.waiting() == {_target(name): CORRECTED}
    if taken:
        pipeline.ingest("the next run")
    before = pipeline.versions()

    assert pipeline.redrive(folder) == {name: Action.PUT_BACK_BEFORE}

    assert pipeline.versions() == before


def test_uncorrected_files_stay_in_quarantine(pipeline: Pipeline, folder: Path) -> None:
    pipeline.deliver("streams/also.csv", MISNAMED)
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    other = next(folder.glob("misnamed__*")).name
    (folder / other).write_text(CORRECTED)

    assert pipeline.redrive(folder) == {name: Action.LEFT, other: Action.PUT_BACK}

    assert pipeline.waiting() == {_target(other): CORRECTED}
    assert list_runs(pipeline.s3, pipeline.archive) == {RUN_KEY: (2, 1)}


@pytest.mark.parametrize("taken", [False, True], ids=["before a run", "after a run took it"])
def test_call_that_died_between_its_two_writes_is_completed_without_putting_back_twice(
    pipeline: Pipeline, folder: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    (folder / name).write_text(CORRECTED)
    with monkeypatch.context() as patch:
        # The first write, upload_file, passes here too.
        put_object = pipeline.s3.put_object
        patch.setattr(pipeline.s3, "put_object", _dying_for(redrive.REDRIVEN_SUFFIX, put_object))
        with pytest.raises(Killed):
            pipeline.redrive(folder)
    assert pipeline.waiting() == {_target(name): CORRECTED}
    if taken:
        _take(pipeline, _target(name))
    source_before = [version for version in pipeline.versions() if version[0] == pipeline.source]

    assert pipeline.redrive(folder) == {name: Action.PUT_BACK_BEFORE}

    assert [version for version in pipeline.versions() if version[0] == pipeline.source] == source_before
    assert list_runs(pipeline.s3, pipeline.archive) == {RUN_KEY: (1, 1)}


def test_going_back_to_an_earlier_correction_counts_although_the_note_of_a_later_one_was_lost(
    pipeline: Pipeline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    (folder / name).write_text(CORRECTED)
    pipeline.redrive(folder)
    (folder / name).write_text(CORRECTED.replace("track7", "track8"))
    with monkeypatch.context() as patch:
        put_object = pipeline.s3.put_object
        patch.setattr(pipeline.s3, "put_object", _dying_for(redrive.REDRIVEN_SUFFIX, put_object))
        with pytest.raises(Killed):
            pipeline.redrive(folder)
    (folder / name).write_text(CORRECTED)

    assert pipeline.redrive(folder) == {name: Action.PUT_BACK}

    assert pipeline.waiting() == {_target(name): CORRECTED}


def test_call_that_died_before_its_first_write_is_done_by_the_next(
    pipeline: Pipeline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    (folder / name).write_text(CORRECTED)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.s3, "upload_file", _die)
        with pytest.raises(Killed):
            pipeline.redrive(folder)
    assert pipeline.waiting() == {}

    assert pipeline.redrive(folder) == {name: Action.PUT_BACK}

    assert pipeline.waiting() == {_target(name): CORRECTED}


def test_second_correction_replaces_a_first_that_still_waits(pipeline: Pipeline, folder: Path) -> None:
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    for text in (CORRECTED, CORRECTED.replace("track7", "track8"), CORRECTED):
        (folder / name).write_text(text)

        assert pipeline.redrive(folder) == {name: Action.PUT_BACK}

        assert pipeline.waiting() == {_target(name): text}


def test_note_remembers_when_the_source_keeps_no_version(pipeline: Pipeline, folder: Path) -> None:
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    (folder / name).write_text(CORRECTED)
    pipeline.redrive(folder)
    _take(pipeline, _target(name))
    listed = pipeline.s3.list_object_versions(Bucket=pipeline.source, Prefix=_target(name))
    for version in listed["Versions"] + listed["DeleteMarkers"]:
        pipeline.s3.delete_object(Bucket=pipeline.source, Key=version["Key"], VersionId=version["VersionId"])

    assert pipeline.redrive(folder) == {name: Action.PUT_BACK_BEFORE}

    assert pipeline.waiting() == {}


def test_fetching_goes_on_where_it_was_interrupted(pipeline: Pipeline, folder: Path) -> None:
    pipeline.deliver("streams/also.csv", MISNAMED)
    _misnamed_in(pipeline)
    steps = redrive.redrive(pipeline.s3, pipeline.archive, pipeline.source, RUN_KEY, folder)
    next(steps)
    steps.close()

    actions = pipeline.redrive(folder)

    assert list(actions.values()) == [Action.LEFT, Action.FETCHED]
    assert {path.read_text() for path in folder.iterdir()} == {MISNAMED}
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("key", ["streams/../../escaped.csv", "streams//escaped.csv"])
def test_name_that_leads_out_of_the_folder_is_neither_written_nor_read(
    pipeline: Pipeline, folder: Path, tmp_path: Path, key: str
) -> None:
    pipeline.deliver(key, MISNAMED)
    _misnamed_in(pipeline)
    before = pipeline.versions()

    actions = pipeline.redrive(folder)

    assert sorted(action.name for action in actions.values()) == ["FETCHED", "LEFT"]
    escaped = next(name for name, action in actions.items() if action is Action.LEFT)
    assert [path.name.split("__")[0] for path in tmp_path.rglob("*.csv")] == ["misnamed"]

    outside = Path(f"{folder}/{escaped}") if ".." in escaped else tmp_path / "unreachable"
    outside.write_text("a file of the user's own\n")
    assert pipeline.redrive(folder)[escaped] is Action.LEFT
    assert pipeline.versions() == before


def test_correction_with_rows_that_are_still_bad_is_put_back_and_they_are_named(
    pipeline: Pipeline, folder: Path
) -> None:
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    (folder / name).write_text(HEADER + GOOD_ROWS + "7,track7,25/06/2024 10:00\n")

    (put_back,) = redrive.redrive(pipeline.s3, pipeline.archive, pipeline.source, RUN_KEY, folder)

    first, second = put_back.text.splitlines()
    assert first.endswith(f"put back as s3://{pipeline.source}/{_target(name)}, but a run will reject:")
    assert second.startswith("  invalid listen_time in 1 row, such as '25/06/2024 10:00' in line ")
    assert _target(name) in pipeline.waiting()


@pytest.mark.parametrize("content", [MISNAMED + "8,track8,2024-06-25 10:00:00\n", ""])
def test_correction_that_is_still_no_stream_file_is_put_back_and_the_reason_named(
    pipeline: Pipeline, folder: Path, content: str
) -> None:
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    (folder / name).write_text(content)

    (put_back,) = redrive.redrive(pipeline.s3, pipeline.archive, pipeline.source, RUN_KEY, folder)

    reason = "the file is empty" if not content else "missing column listen_time"
    assert reason in put_back.text.splitlines()[1]


def test_names_and_reasons_cannot_steer_the_terminal(pipeline: Pipeline, folder: Path) -> None:
    pipeline.deliver("streams/right to left\u202e.csv", "user_id,track_id,red\x1b[31m\n")
    pipeline.deliver("streams/good.csv", HEADER + GOOD_ROWS)
    pipeline.ingest(RUN)

    outcomes = list(redrive.redrive(pipeline.s3, pipeline.archive, pipeline.source, RUN_KEY, folder))

    assert outcomes[0].text.startswith("right to left\ufffd__")
    assert outcomes[0].text.endswith(r"red\x1b[31m")
    assert outcomes[0].text.isprintable()


@pytest.mark.parametrize("character", ["k", "é"])
@pytest.mark.scenarios(59)
def test_file_of_a_key_near_1024_bytes_is_fetched_and_put_back(
    pipeline: Pipeline, folder: Path, character: str
) -> None:
    room = (1024 - len("streams/a/.csv")) // len(character.encode())
    for part in "ab":
        pipeline.deliver(f"streams/{part}/{character * room}.csv", MISNAMED)
    pipeline.ingest(RUN)

    assert list(pipeline.redrive(folder).values()) == [Action.FETCHED] * 2
    fetched = sorted(path for path in folder.rglob("*") if path.is_file())
    assert [path.parent.name for path in fetched] == ["a", "b"]
    assert all(len(path.name.encode()) <= 255 for path in fetched)
    fetched[0].write_text(CORRECTED)
    assert sorted(action.name for action in pipeline.redrive(folder).values()) == ["LEFT", "PUT_BACK"]

    [(key, content)] = pipeline.waiting().items()
    assert key.startswith(f"streams/redriven/{RUN_KEY}/a/{character * 300}")
    assert content == CORRECTED
    assert [outcome["disposition"] for outcome in pipeline.ingest(f"{RUN}_2")] == ["archive"]
    assert pipeline.waiting() == {}
    assert sorted(action.name for action in pipeline.redrive(folder).values()) == ["LEFT", "PUT_BACK_BEFORE"]


def test_correction_under_a_new_name_is_pointed_out_and_not_put_back(
    pipeline: Pipeline, folder: Path
) -> None:
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    (folder / "mended.csv").write_text(CORRECTED)

    assert pipeline.redrive(folder) == {name: Action.LEFT, "mended.csv": Action.IGNORED}

    assert pipeline.waiting() == {}


def test_what_is_rejected_again_can_be_corrected_again(
    pipeline: Pipeline, folder: Path, tmp_path: Path
) -> None:
    name = _misnamed_in(pipeline)
    pipeline.redrive(folder)
    (folder / name).write_text(MISNAMED.replace("played_at", "still_wrong"))
    pipeline.redrive(folder)
    pipeline.deliver("streams/good.csv", HEADER + GOOD_ROWS)
    pipeline.ingest("second")
    second = run_key_of("second")

    (again,) = pipeline.redrive(tmp_path / "second", second)
    (tmp_path / "second" / again).write_text(CORRECTED)
    assert pipeline.redrive(tmp_path / "second", second) == {again: Action.PUT_BACK}

    (key,) = pipeline.waiting()
    assert key.startswith(f"streams/redriven/{second}/misnamed__")
    assert key.count("redriven") == 1
    assert [outcome["disposition"] for outcome in pipeline.ingest("third")] == ["archive"]


@pytest.mark.parametrize("run_key", ["unknown", "", "..", f"{RUN_KEY}/rejected_rows", RUN_KEY[:-1]])
def test_unknown_run_is_named_with_those_that_rejected_something(
    pipeline: Pipeline, folder: Path, run_key: str
) -> None:
    _misnamed_in(pipeline)

    with pytest.raises(RedriveError, match=f"(?s)Nothing of a run '{run_key}'.*\n  {RUN_KEY}$"):
        pipeline.redrive(folder, run_key)

    assert not folder.exists()


def test_command_line_lists_runs_fetches_and_puts_back(
    pipeline: Pipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = _misnamed_in(pipeline)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("boto3.client", lambda service: pipeline.s3)

    def output_of(*arguments: str) -> str:
        assert redrive.main(list(arguments)) == 0
        return capsys.readouterr().out

    assert redrive.main([RUN_KEY]) == 1
    assert "set SOURCE_BUCKET_NAME and ARCHIVE_BUCKET_NAME" in capsys.readouterr().err
    monkeypatch.setenv("SOURCE_BUCKET_NAME", pipeline.source)
    monkeypatch.setenv("ARCHIVE_BUCKET_NAME", pipeline.archive)
    assert output_of() == f"{RUN_KEY}: 1 in quarantine, 0 put back\n"
    assert f"Fetched into quarantine-{RUN_KEY}." in output_of(RUN_KEY)
    (tmp_path / f"quarantine-{RUN_KEY}" / name).write_text(CORRECTED)
    assert output_of(RUN_KEY).endswith("The next run takes the corrected files.\n")
    assert pipeline.waiting() == {_target(name): CORRECTED}
    assert redrive.main(["unknown"]) == 1
    assert "Nothing of a run 'unknown'" in capsys.readouterr().err


def _die(*args: Any, **kwargs: Any) -> None:
    raise Killed


def _dying_for(key_ending: str, put_object: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **request: (_die if request["Key"].endswith(key_ending) else put_object)(**request)


def _take(pipeline: Pipeline, key: str) -> None:
    """Remove the files from the source like archiving."""
    pipeline.s3.delete_object(Bucket=pipeline.source, Key=key)
