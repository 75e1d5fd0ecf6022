"""Runs the DAG once under the Airflow that `make up` started, so its UI shows the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from include.commands.airflow_version import AIRFLOW
from include.commands.environment import DAG_ID, HOST
from include.commands.errors import UserError
from include.commands.pipeline_run import Outcome

if TYPE_CHECKING:
    from include.commands.scheduler import Airflow

POLL_SECONDS = 1
# SQLite is sometimes locked while tasks write to it; Airflow then answers with an error.
ATTEMPTS = 6
RETRY_SECONDS = 0.5
ANSWER_SECONDS = 60
SENSOR = "sense_streaming_data"
WAITING = "up_for_reschedule"
AT_WORK = {"queued", "running", "deferred"}
ENDED = {"success", "failed", "skipped", "upstream_failed", "up_for_retry", "removed"}


class RunOfScheduler:
    """A new run of the DAG."""

    def __init__(self, airflow: Airflow, conf: Mapping[str, Any]) -> None:
        """Trigger the run with these parameters.

        Raises:
            UserError: Airflow does not answer, or refuses the run.
        """
        self._airflow = airflow
        self._authorization = ""
        self.run_id: str = self._call("POST", "dagRuns", {"conf": dict(conf)} | AIRFLOW.new_run)["dag_run_id"]
        self._ended: set[tuple[str, int]] = set()

    @property
    def url(self) -> str:
        """The address of the run in Airflow's UI."""
        return f"{self._airflow.url}{AIRFLOW.run_page}{quote(self.run_id, safe='')}"

    def follow(
        self,
        on_start: Callable[[str], None],
        on_end: Callable[[str, str, float | None], None],
        on_way_made: Callable[[str], None],
    ) -> Outcome:
        """Wait until the run has ended.

        Only one run is active at a time. One that waits for files would hold this run up for hours, so its
        wait is ended. This run does not wait for files either.

        Args:
            on_start: called with a label of what the run does.
            on_end: called with a task's label, state and seconds (no seconds if it never began).
            on_way_made: called with the id of a run whose wait was ended for this one.

        Raises:
            UserError: Airflow does not answer any more.
        """
        while (state := self._call("GET", f"dagRuns/{quote(self.run_id)}")["state"]) == "queued":
            for other in self._call("GET", "dagRuns?state=running")["dag_runs"]:
                if self._end_wait(other["dag_run_id"]):
                    on_way_made(other["dag_run_id"])
                else:
                    on_start(f"waiting for the run {other['dag_run_id']} to end")
            time.sleep(POLL_SECONDS)
        while state == "running":
            self._report(on_start, on_end)
            self._end_wait(self.run_id)
            time.sleep(POLL_SECONDS)
            state = self._call("GET", f"dagRuns/{quote(self.run_id)}")["state"]
        instances = self._report(on_start, on_end)
        leaves = {
            task["task_id"] for task in self._call("GET", "tasks")["tasks"] if not task["downstream_task_ids"]
        }
        failed = [_label(instance) for instance in instances if instance["state"] == "failed"]
        if state == "success" and {i["state"] for i in instances if i["task_id"] in leaves} == {"skipped"}:
            state = "skipped"
        return Outcome(self.run_id, state, dict.fromkeys(failed, "no message"))

    def _report(
        self, on_start: Callable[[str], None], on_end: Callable[[str, str, float | None], None]
    ) -> list[dict[str, Any]]:
        instances: list[dict[str, Any]] = self._instances(self.run_id)
        for instance in sorted(instances, key=lambda instance: instance["end_date"] or "9999"):
            label, attempt = _label(instance), (_label(instance), instance["try_number"])
            if instance["state"] in AT_WORK:
                on_start(label)
            elif instance["state"] in ENDED and attempt not in self._ended:
                self._ended.add(attempt)
                on_end(
                    label, instance["state"].replace("up_for_", "").replace("_", " "), instance["duration"]
                )
        return instances

    def _end_wait(self, run_id: str) -> bool:
        sensors = [instance for instance in self._instances(run_id) if instance["task_id"] == SENSOR]
        if not any(sensor["state"] == WAITING for sensor in sensors):
            return False
        self._call("PATCH", f"dagRuns/{quote(run_id)}/taskInstances/{SENSOR}", AIRFLOW.skip)
        return True

    def _instances(self, run_id: str) -> list[dict[str, Any]]:
        pages: list[list[dict[str, Any]]] = []
        limit = 100
        while not pages or len(pages[-1]) == limit:
            query = f"limit={limit}&offset={limit * len(pages)}"
            answer = self._call("GET", f"dagRuns/{quote(run_id)}/taskInstances?{query}")
            pages.append(answer["task_instances"])
        return [instance for page in pages for instance in page]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        import requests  # type: ignore[import-untyped]
        from requests.adapters import HTTPAdapter  # type: ignore[import-untyped]
        from urllib3.util import Retry

        address = f"http://{HOST}:{self._airflow.web_port}"
        url = f"{address}{AIRFLOW.api}/dags/{DAG_ID}/{path}"
        # A repeated POST would trigger a second run.
        retries = Retry(
            ATTEMPTS,
            backoff_factor=RETRY_SECONDS,
            status_forcelist=[500, 503],
            allowed_methods=["GET", "PATCH"],
        )
        try:
            self._authorization = self._authorization or AIRFLOW.authorization(address)
            headers = {"Authorization": self._authorization}
            with requests.Session() as session:
                session.mount("http://", HTTPAdapter(max_retries=retries))
                answer = session.request(method, url, json=body, headers=headers, timeout=ANSWER_SECONDS)
                answer.raise_for_status()
        except requests.RequestException as error:
            raise UserError(
                f"Airflow, which make up started, does not do what it is asked: {error}. Its logs are in "
                f".local/logs. To start again: make down, then make up{AIRFLOW.make_option}."
            ) from error
        return answer.json()


def _label(instance: Mapping[str, Any]) -> str:
    index = instance["map_index"]
    return str(instance["task_id"] if index < 0 else f"{instance['task_id']} [{index}]")
