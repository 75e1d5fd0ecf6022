from collections.abc import Iterator

import pytest

from local_aws_support import SLOW_SERVER, GlueJob, make_glue_job, running_server


@pytest.fixture(scope="session")
def slow_aws() -> Iterator[str]:
    """The address of a local AWS whose writes take so long that they overlap."""
    with running_server(("-c", SLOW_SERVER)) as (endpoint_url, _):
        yield endpoint_url


@pytest.fixture
def glue_job(local_aws: str) -> GlueJob:
    """A job without a script in the shared local AWS."""
    return make_glue_job(local_aws)
