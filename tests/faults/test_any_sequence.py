"""Any events in any order: deliveries, crashes, repeated and overlapping runs.

Hypothesis draws the sequences from a seed, which it prints when one fails: `make test-faults SEED=...`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.e2e.data import FIRST_DAY, SECOND_DAY, csv_bytes, stream_file
from tests.e2e.observed import observe
from tests.e2e.oracle import assert_another_run_changes_nothing, find_problems
from tests.faults import batch
from tests.faults.attempts import Attempt
from tests.faults.bench import Bench
from tests.faults.stories import comes_of_overlap
from tests.faults.wire import PAUSED, Fault
from tests.scenarios import Scenarios

BROKEN = {
    "truncated": stream_file(batch.listens(FIRST_DAY, 0, 30))[:-9],
    "empty": b"",
    "header only": b"user_id,track_id,listen_time\n",
    "no such columns": b"who,what\nu1,t1\n",
    "no text": b"\x00\xff\xfe",
    "other order": csv_bytes(
        [("extra", "listen_time", "track_id", "user_id"), ("x", f"{SECOND_DAY}T10:00:59+02:00", "t2", "u1")]
    ),
}
SCENARIOS_OF_BROKEN = {
    "truncated": 9,
    "empty": 10,
    "header only": 10,
    "no such columns": 15,
    "no text": 18,
    "other order": 16,
}
# There were no files, or all went into quarantine; a rerun cannot change that.
END_WITHOUT_KPIS = ("AirflowSkipException", "NoValidRowsError")
# About the number of calls of a run of one file.
CALLS = st.integers(1, 90)
KEYS = st.sampled_from(["streams/a.csv", "streams/b.csv", "streams/c d+é.csv"])


class AnySequence(RuleBasedStateMachine):
    """A pipeline with random events; runs that died wait in `unfinished`."""

    def __init__(self, bench: Bench, scenarios: Scenarios) -> None:
        super().__init__()
        self.bench = bench
        self.scenarios = scenarios
        self.deployment = bench.deploy_empty()
        self.runs = 0
        self.something_waits = False
        self.unfinished: dict[str, Attempt] = {}
        self.ended: dict[str, Attempt] = {}
        self.happened: Counter[int] = Counter()
        self.listens_of: set[tuple[str, int]] = set()
        self.runs_overlapped = False

    @initialize()
    def deliver_catalogs(self) -> None:
        self.deployment.upload_all(batch.CATALOGS)

    @rule(
        key=KEYS,
        day=st.sampled_from([FIRST_DAY, SECOND_DAY]),
        start=st.sampled_from([0, 10, 50]),
        count=st.sampled_from([1, 25]),
        rejected=st.integers(0, 2),
    )
    def deliver(self, key: str, day: str, start: int, count: int, rejected: int) -> None:
        rows = [*batch.listens(day, start, count), *[("u1", "", f"{day} 10:00:00")] * rejected]
        known = {upload.key for upload in self.deployment.delivered.uploads}
        repeats, is_late = (day, start) in self.listens_of, day == FIRST_DAY and bool(self.ended)
        self.happened.update({6: repeats, 7: key in known, 13: is_late, 17: rejected > 0, 19: rejected > 1})
        self.listens_of.add((day, start))
        self._upload(key, stream_file(rows))

    @rule(key=KEYS, form=st.sampled_from(sorted(BROKEN)))
    def deliver_broken(self, key: str, form: str) -> None:
        self.happened[SCENARIOS_OF_BROKEN[form]] += 1
        self._upload(key, BROKEN[form])

    @precondition(lambda self: self.deployment.delivered.uploads)
    @rule(key=KEYS, data=st.data())
    def deliver_again(self, key: str, data: st.DataObject) -> None:
        upload = data.draw(st.sampled_from(self.deployment.delivered.uploads))
        self.happened[4 if upload.key == key else 5] += 1
        self._upload(key, upload.content)

    @precondition(lambda self: self.something_waits)
    @rule()
    def run(self) -> None:
        self._go_on(*self._start())

    @precondition(lambda self: self.something_waits)
    @rule(kind=st.sampled_from(["killed before", "killed after"]), call=CALLS)
    def die(self, kind: str, call: int) -> None:
        dag_run_id, attempt = self._start(Fault(kind, call))
        self.happened[23] += attempt.killed
        self._keep(dag_run_id, attempt)

    @precondition(lambda self: self.unfinished)
    @rule(kind=st.sampled_from(["killed before", "killed after"]), call=CALLS, data=st.data())
    def run_again_and_die(self, kind: str, call: int, data: st.DataObject) -> None:
        dag_run_id = data.draw(st.sampled_from(sorted(self.unfinished)))
        attempt = self.unfinished.pop(dag_run_id)
        attempt = self.bench.attempts.make(
            self.deployment, dag_run_id, attempt.results, attempt.unfinished, fault=Fault(kind, call)
        )
        self.happened[23] += attempt.killed
        self._keep(dag_run_id, attempt)

    @precondition(lambda self: self.unfinished)
    @rule(data=st.data())
    def run_again(self, data: st.DataObject) -> None:
        dag_run_id = data.draw(st.sampled_from(sorted(self.unfinished)))
        self._go_on(dag_run_id, self.unfinished.pop(dag_run_id))

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        dag_run_id = data.draw(st.sampled_from(sorted(self.ended)))
        attempt = self.ended[dag_run_id]
        task_id = data.draw(st.sampled_from(list(attempt.results)))
        self.happened[33] += 1
        self._go_on(
            dag_run_id, self.bench.attempts.make(self.deployment, dag_run_id, attempt.results, task_id)
        )

    @precondition(lambda self: self.something_waits)
    @rule(call=CALLS, key=KEYS)
    def file_comes_during_run(self, call: int, key: str) -> None:
        # The bytes differ each time: identical ones may be deleted together with those that a run archives.
        content = stream_file(batch.listens(SECOND_DAY, 100 + self.runs, 3))
        dag_run_id, attempt = self._start(Fault(PAUSED, call), lambda _: self._upload(key, content))
        self.happened[1] += attempt.paused
        self._go_on(dag_run_id, attempt)

    @precondition(lambda self: self.something_waits)
    @rule(call=CALLS)
    def another_run_between(self, call: int) -> None:
        dag_run_id, attempt = self._start(Fault(PAUSED, call), lambda _: self.run())
        self.happened.update({32: attempt.paused, 42: attempt.paused})
        self.runs_overlapped |= attempt.paused
        self._go_on(dag_run_id, attempt)

    def teardown(self) -> None:
        for dag_run_id in sorted(self.unfinished):
            self._go_on(dag_run_id, self.unfinished.pop(dag_run_id))
        self.run()
        self._check()
        assert_another_run_changes_nothing(self.deployment.resources, self.run)
        for number, times in self.happened.items():
            for _ in range(times):
                self.scenarios.record([number], survived=True)

    def _upload(self, key: str, content: bytes) -> None:
        self.deployment.upload(key, content)
        self.something_waits = True

    def _start(self, fault: Fault | None = None, meanwhile: Any = None) -> tuple[str, Attempt]:
        self.runs += 1
        self.something_waits = False
        self.runs_overlapped |= bool(self.unfinished)
        dag_run_id = f"manual__2024-07-{self.runs:02}T00:00:00+00:00"
        return dag_run_id, self.bench.attempts.make(
            self.deployment, dag_run_id, fault=fault, meanwhile=meanwhile
        )

    def _go_on(self, dag_run_id: str, attempt: Attempt) -> None:
        attempt = self.bench.attempts.run_to_end(self.deployment, dag_run_id, attempt, tries=2)
        self._keep(dag_run_id, attempt)
        assert dag_run_id not in self.unfinished, f"{attempt.unfinished} failed: {attempt.error}"

    def _keep(self, dag_run_id: str, attempt: Attempt) -> None:
        if attempt.unfinished is None:
            self.ended[dag_run_id] = attempt
        elif not (attempt.error or "").startswith(END_WITHOUT_KPIS):
            self.unfinished[dag_run_id] = attempt

    def _check(self) -> None:
        problems = find_problems(observe(self.deployment.resources), self.deployment.delivered)
        if self.runs_overlapped:
            problems = [problem for problem in problems if not comes_of_overlap(problem)]
        assert not problems, "\n".join(problems)


@pytest.mark.scenarios(1, 4, 5, 6, 7, 32, 33)
def test_nothing_is_lost_or_counted_twice_whatever_happens(bench: Bench, scenarios: Scenarios) -> None:
    run_state_machine_as_test(
        lambda: AnySequence(bench, scenarios),
        settings=settings(
            max_examples=25,
            stateful_step_count=12,
            deadline=None,
            database=None,
            # A sequence takes seconds, and is short enough to read without shrinking.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
