"""Runs under the Airflow of `make up`, whose REST API is a stand-in here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from include.commands import scheduled_run
from include.commands.airflow_version import AIRFLOW
from include.commands.errors import UserError
from include.commands.scheduled_run import RunOfScheduler
from include.commands.scheduler import Airflow

RUN = "manual__2026-06-27T10:00:00+00:00"
OTHER = "scheduled__2026-06-26T00:00:00+00:00"
LAST = "delete_files_from_intermediate_bucket"


class Api:
    """Airflow's REST API as far as it is called: one run at a time, each of whose looks is the next state."""

    def __init__(self) -> None:
        self.conf: Any = None
        self.skipped: list[str] = []
        # The task instances of each run at each look. The last look is repeated.
        self.looks: dict[str, list[dict[str, str]]] = {RUN: [{LAST: "success"}]}
        self.ends_as = "success"
        self.refuses = 0

    def answer(self, method: str, path: str, body: Any) -> Any:
        if path == "/auth/token":
            return {"access_token": "of Airflow 3"}
        start = f"{AIRFLOW.api}/dags/music_streaming_pipeline/"
        parts = unquote(urlsplit(path).path).removeprefix(start).split("/")
        if method == "POST":
            self.conf = body["conf"]
            return {"dag_run_id": RUN}
        if parts == ["tasks"]:
            return {"tasks": [{"task_id": LAST, "downstream_task_ids": []}]}
        if parts == ["dagRuns"]:
            return {"dag_runs": [{"dag_run_id": OTHER}] if self.waits_its_turn else []}
        if method == "PATCH":
            assert body == AIRFLOW.skip
            self.skipped.append(parts[1])
            self.looks[parts[1]] = [{"sense_streaming_data": "skipped", LAST: "skipped"}]
            return {}
        if len(parts) == 2:
            if self.waits_its_turn:
                return {"state": "queued"}
            return {"state": "running" if len(self.looks[RUN]) > 1 else self.ends_as}
        looks = self.looks[parts[1]]
        look = looks.pop(0) if len(looks) > 1 else looks[0]
        return {
            "task_instances": [
                {"task_id": task, "map_index": -1, "try_number": 1, "state": state}
                | {"duration": 1.5 if state == "success" else None, "end_date": None}
                for task, state in look.items()
            ]
        }

    @property
    def waits_its_turn(self) -> bool:
        return (
            OTHER in self.looks
            and set(self.looks[OTHER][0].values()) & {"up_for_reschedule", "running"} != set()
        )


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def airflow(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    monkeypatch.setattr(scheduled_run, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(scheduled_run, "RETRY_SECONDS", 0)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            api.refuses -= 1
            self.send_response(503 if api.refuses >= 0 else 200)
            self.end_headers()
            self.wfile.write(
                json.dumps(api.answer(self.command, self.path, json.loads(body or "null"))).encode()
            )

        do_GET = do_POST = do_PATCH = handle_any

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Airflow(web_port=server.server_port, aws_port=5999)
        server.shutdown()


class Shown:
    """Records the reports of a run."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[tuple[str, str, float | None]] = []
        self.made_way: list[str] = []

    def follow(self, run: RunOfScheduler) -> Any:
        return run.follow(self.started.append, lambda *end: self.ended.append(end), self.made_way.append)


def test_run_is_followed_to_its_end_with_its_parameters(airflow: Airflow, api: Api) -> None:
    task = "trigger_glue_job"
    api.looks[RUN] = [
        {task: "queued"},
        {task: "deferred"},
        {task: "success"},
        {task: "success", LAST: "success"},
    ]
    shown = Shown()

    run = RunOfScheduler(airflow, {"reprocess_dates": "2024-06-25"})
    outcome = shown.follow(run)

    assert api.conf == {"reprocess_dates": "2024-06-25"}
    assert (outcome.run_id, outcome.state, outcome.errors) == (RUN, "success", {})
    assert set(shown.started) == {task}
    assert shown.ended == [(task, "success", 1.5), (LAST, "success", 1.5)]
    assert run.url.endswith(f"{AIRFLOW.run_page}manual__2026-06-27T10%3A00%3A00%2B00%3A00")


def test_failed_tasks_are_named(airflow: Airflow, api: Api) -> None:
    api.ends_as = "failed"
    api.looks[RUN] = [{"trigger_glue_job": "failed", LAST: "upstream_failed"}]
    shown = Shown()

    outcome = shown.follow(RunOfScheduler(airflow, {}))

    assert outcome.state == "failed"
    assert set(outcome.errors) == {"trigger_glue_job"}
    assert (LAST, "upstream failed", None) in shown.ended


def test_run_that_waits_for_files_makes_way(airflow: Airflow, api: Api) -> None:
    api.looks[OTHER] = [{"sense_streaming_data": "running"}] * 2 + [
        {"sense_streaming_data": "up_for_reschedule"}
    ]
    shown = Shown()

    outcome = shown.follow(RunOfScheduler(airflow, {}))

    assert outcome.state == "success"
    assert api.skipped == shown.made_way == [OTHER]
    assert f"waiting for the run {OTHER} to end" in shown.started


def test_run_does_not_wait_for_files_itself(airflow: Airflow, api: Api) -> None:
    api.looks[RUN] = [{"sense_streaming_data": "up_for_reschedule"}] * 3
    shown = Shown()

    outcome = shown.follow(RunOfScheduler(airflow, {}))

    assert outcome.state == "skipped"
    assert api.skipped == [RUN]
    assert shown.made_way == []


def test_airflow_that_does_not_answer_is_named_with_the_remedy(airflow: Airflow, api: Api) -> None:
    api.refuses = 1

    with pytest.raises(UserError, match=r"Airflow, which make up started, .*503.*make down, then make up"):
        RunOfScheduler(airflow, {})


def test_airflow_whose_database_is_locked_is_asked_again(airflow: Airflow, api: Api) -> None:
    run = RunOfScheduler(airflow, {})
    api.refuses = 3

    assert Shown().follow(run).state == "success"
