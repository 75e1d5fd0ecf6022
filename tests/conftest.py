"""Fixtures that all tests share."""

import gc
import os
import tempfile
from collections.abc import Generator, Iterator

import pytest

from include.commands.sdk_files import share_sdk_files
from local_aws_support import REPOSITORY, RUNNING_LOCAL_AWS, running_server
from tests.scenarios import Scenarios

# Airflow reads its settings once, on import. It must find a home of the tests and nothing of the developer's.
_AIRFLOW_HOME = tempfile.TemporaryDirectory(prefix="music-streaming-tests-")
for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "AWS_"))]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": _AIRFLOW_HOME.name,
    "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}

share_sdk_files()

_TRIED = pytest.StashKey[Scenarios]()
_PROPERTY = "scenarios"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-scenarios", action="store_true", help="fail unless every scenario was survived")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; left out of the fast cut")
    config.addinivalue_line("markers", "scenarios(*numbers): an instance of these; see tests/scenarios.py")
    is_worker = hasattr(config, "workerinput")
    if config.getoption("all_scenarios") and not is_worker:
        config.pluginmanager.register(_ScenarioTable())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave scenarios of whole runs to `make test-faults`, since each takes seconds to minutes."""
    for item in items:
        if item.path.parent.name in ("e2e", "faults") and item.get_closest_marker("scenarios"):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the imported libraries, in which it spent a third of its time."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count the test for its scenarios, unless it records them itself."""
    report = yield
    tried = item.stash.setdefault(_TRIED, Scenarios())
    counts_itself = "scenarios" in getattr(item, "fixturenames", ())
    if report.failed or (report.when == "call" and not counts_itself):
        for marker in item.iter_markers("scenarios"):
            tried.record(marker.args, report.passed)
    if report.when == "teardown":
        # Only the report reaches the process that prints the table, because another process may run the test.
        report.user_properties.append((_PROPERTY, tried.counts()))
    return report


class _ScenarioTable:
    """Adds up what all tests tried, prints the table, and fails the session where a scenario is missing."""

    def __init__(self) -> None:
        self._tried = Scenarios()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, counts in report.user_properties:
            if name == _PROPERTY:
                self._tried.add(counts)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._tried.missing:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("scenarios")
        for line in self._tried.table():
            terminalreporter.line(line)


@pytest.fixture
def scenarios(request: pytest.FixtureRequest) -> Scenarios:
    """Records what a test tried and survived, for the table at the end."""
    return request.node.stash.setdefault(_TRIED, Scenarios())


@pytest.fixture(scope="session")
def local_aws() -> Iterator[str]:
    """The address of a shared local AWS, started by a user with an AWS account and a PYTHONPATH."""
    if running := os.environ.get(RUNNING_LOCAL_AWS):
        yield running
        return
    with running_server(AWS_ACCESS_KEY_ID="of-the-user", AWS_PROFILE="x", PYTHONPATH=str(REPOSITORY)) as (
        endpoint_url,
        _,
    ):
        yield endpoint_url
