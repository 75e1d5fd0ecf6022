"""What the tests of all parts share."""

import os
import tempfile
from collections.abc import Iterator

import pytest

from local_aws_support import REPOSITORY, running_server

# Airflow reads its settings once, when it is imported: a home of the tests' own, nothing of the developer's.
_AIRFLOW_HOME = tempfile.TemporaryDirectory(prefix="music-streaming-tests-")
for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "AWS_"))]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": _AIRFLOW_HOME.name,
    "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}


@pytest.fixture(scope="session")
def local_aws() -> Iterator[str]:
    """The address of a local AWS that the tests share, started by a user with an account and a PYTHONPATH."""
    with running_server(AWS_ACCESS_KEY_ID="of-the-user", AWS_PROFILE="x", PYTHONPATH=str(REPOSITORY)) as (
        endpoint_url,
        _,
    ):
        yield endpoint_url
