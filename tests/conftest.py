"""What the tests of all parts share."""

import os
import tempfile
from collections.abc import Generator, Iterator

import pytest

from local_aws_support import REPOSITORY, running_server
from tests.scenarios import Scenarios

# Airflow reads its settings once, when it is imported: a home of the tests' own, nothing of the developer's.
_AIRFLOW_HOME = tempfile.TemporaryDirectory(prefix="music-streaming-tests-")
for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "AWS_"))]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": _AIRFLOW_HOME.name,
    "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}

_SCENARIOS = pytest.StashKey[Scenarios]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-scenarios", action="store_true", help="fail unless every scenario was survived")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; left out of the fast cut")
    config.addinivalue_line("markers", "scenarios(*numbers): an instance of these; see tests/scenarios.py")
    config.stash[_SCENARIOS] = Scenarios()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count the test for its scenarios, unless it counts by itself what it tries."""
    report = yield
    counts_itself = "scenarios" in getattr(item, "fixturenames", ())
    if report.failed or (report.when == "call" and not counts_itself):
        for marker in item.iter_markers("scenarios"):
            item.config.stash[_SCENARIOS].record(marker.args, report.passed)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("all_scenarios") and session.config.stash[_SCENARIOS].missing:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("all_scenarios"):
        terminalreporter.section("scenarios")
        for line in config.stash[_SCENARIOS].table():
            terminalreporter.line(line)


@pytest.fixture
def scenarios(pytestconfig: pytest.Config) -> Scenarios:
    """Takes down what a test tried and survived, for the table at the end."""
    return pytestconfig.stash[_SCENARIOS]


@pytest.fixture(scope="session")
def local_aws() -> Iterator[str]:
    """The address of a local AWS that the tests share, started by a user with an account and a PYTHONPATH."""
    with running_server(AWS_ACCESS_KEY_ID="of-the-user", AWS_PROFILE="x", PYTHONPATH=str(REPOSITORY)) as (
        endpoint_url,
        _,
    ):
        yield endpoint_url
