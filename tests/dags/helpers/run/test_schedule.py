import pytest

from helpers.contract.settings import AWS_CONN_ID
from helpers.run.schedule import AssetWatcher, dag_schedule, runs_start_by_event

QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/files"


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STREAMS_QUEUE_URL", QUEUE)
    return QUEUE


@pytest.mark.parametrize("schedule", ["@hourly", "@continuous", "*/30 * * * *"])
def test_without_a_queue_the_schedule_is_that_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    monkeypatch.setenv("PIPELINE_SCHEDULE", schedule)

    assert dag_schedule() == schedule
    assert not runs_start_by_event()


@pytest.mark.skipif(AssetWatcher is not None, reason="Airflow 3 reads the queue, as the next test shows")
def test_airflow_2_starts_runs_by_time_only(queue: str) -> None:
    assert dag_schedule() == "@daily"
    assert not runs_start_by_event()


@pytest.mark.skipif(AssetWatcher is None, reason="Airflow 2 does not read the queue; make test-airflow3")
def test_airflow_3_starts_runs_by_time_and_by_messages_of_the_queue(
    queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_SCHEDULE", "0 */6 * * *")

    schedule = dag_schedule()

    [streams] = schedule.asset_condition.objects
    [watcher] = streams.watchers
    _, arguments = watcher.trigger.serialize()
    assert schedule.timetable.expression == "0 */6 * * *"
    assert (arguments["sqs_queue"], arguments["aws_conn_id"]) == (queue, AWS_CONN_ID)
    assert runs_start_by_event()


@pytest.mark.parametrize("schedule", ["@continuous", "@once"])
def test_queue_is_not_read_beside_a_schedule_without_times(
    queue: str, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    """Nothing would look for files whose messages were lost."""
    monkeypatch.setenv("PIPELINE_SCHEDULE", schedule)

    assert dag_schedule() == schedule
    assert not runs_start_by_event()
