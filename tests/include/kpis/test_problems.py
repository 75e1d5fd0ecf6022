from __future__ import annotations

import pytest
from botocore import exceptions
from botocore.exceptions import ClientError

from include.kpis.problems import ReadError, explained


def _answer(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "the answer"}}, "Query")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (_answer("ResourceNotFoundException"), r"The table kpis does not exist\. .*set KPI_TABLE_NAME"),
        (_answer("ExpiredTokenException"), r"does not accept these credentials .*`aws sso login`"),
        (_answer("AccessDeniedException"), r"may not read the table kpis: the answer"),
        (_answer("ThrottlingException"), r"table kpis gets too many requests .* Try again in a minute"),
        (_answer("SomethingNew"), r"refuses to read the table kpis: SomethingNew: the answer"),
        (exceptions.NoCredentialsError(), r"No AWS credentials were found\. .*`aws sso login`"),
        (exceptions.SSOTokenLoadError(error_msg="x"), r"credentials cannot be loaded: .*`aws sso login`"),
        (
            exceptions.ConnectTimeoutError(endpoint_url="http://x"),
            r"does not answer: .*http://x.*check the network",
        ),
        (
            exceptions.ReadTimeoutError(endpoint_url="http://x"),
            r"does not answer: .*http://x.*check the network",
        ),
        (exceptions.UnknownServiceError(service_name="x", known_service_names=""), r"AWS cannot be called: "),
    ],
)
def test_error_of_aws_becomes_a_sentence_with_the_remedy(error: Exception, message: str) -> None:
    with pytest.raises(ReadError, match=message) as raised, explained("table kpis", "KPI_TABLE_NAME"):
        raise error

    assert raised.value.__cause__ is error


def test_own_error_is_not_changed() -> None:
    with pytest.raises(ValueError, match="a mistake of ours"), explained("table kpis", "KPI_TABLE_NAME"):
        raise ValueError("a mistake of ours")
