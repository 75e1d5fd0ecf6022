"""Explains in a sentence, with the remedy, why AWS did not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError


class ReadError(Exception):
    """The requested data cannot be read; the message gives the reason and the remedy."""


SIGN_IN = (
    "For AWS sign in again, for example with `aws sso login`, or name a profile in AWS_PROFILE. "
    "Local AWS takes any: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to local."
)
_NO_CREDENTIALS = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)
_STALE_CREDENTIALS = (
    exceptions.CredentialRetrievalError,
    exceptions.SSOError,
    exceptions.TokenRetrievalError,
    exceptions.LoginError,
)
_NO_ANSWER = (exceptions.ConnectionError, exceptions.HTTPClientError)
_REFUSED_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_ACCESS_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "403"})
_MISSING = frozenset({"ResourceNotFoundException", "NoSuchBucket"})
_TOO_BUSY = frozenset(
    {"ProvisionedThroughputExceededException", "RequestLimitExceeded", "SlowDown", "ThrottlingException"}
)


@contextmanager
def explained(resource: str, variable: str) -> Iterator[None]:
    """Convert boto3's exceptions in the block into a sentence.

    Args:
        resource: the thing that is read, such as `table music_kpis_table`.
        variable: the environment variable that names it.

    Raises:
        ReadError: boto3 raised an exception.
    """
    try:
        yield
    except ClientError as error:
        raise ReadError(_of_answer(error, resource, variable)) from error
    except BotoCoreError as error:
        raise ReadError(_of_client(error)) from error
    except ValueError as error:
        # Botocore raises this for an AWS_ENDPOINT_URL that is not an address.
        if not str(error).startswith("Invalid endpoint"):
            raise
        raise ReadError(
            f"{error}. AWS_ENDPOINT_URL must be an address such as http://127.0.0.1:5555, and unset for AWS."
        ) from error


def _of_client(error: BotoCoreError) -> str:
    if isinstance(error, _NO_CREDENTIALS):
        return f"No AWS credentials were found. {SIGN_IN}"
    if isinstance(error, exceptions.ProfileNotFound):
        return f"{error}. Set AWS_PROFILE to one that `aws configure list-profiles` names."
    if isinstance(error, exceptions.NoRegionError):
        return "No AWS region is set. Set AWS_DEFAULT_REGION, for example to us-east-1."
    if isinstance(error, _STALE_CREDENTIALS):
        return f"The AWS credentials cannot be loaded: {error}. {SIGN_IN}"
    if isinstance(error, _NO_ANSWER):
        return (
            f"AWS does not answer: {error}. Local AWS is started by `make run` or `make up`, and "
            "AWS_ENDPOINT_URL must name its port. For AWS leave AWS_ENDPOINT_URL out, and check the network."
        )
    return f"AWS cannot be called: {error}"


def _of_answer(error: ClientError, resource: str, variable: str) -> str:
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "")
    if code in _MISSING:
        return (
            f"The {resource} does not exist. For local AWS, `make run` makes it; for AWS, deploy "
            f"include/stack.yaml. Or set {variable}, AWS_DEFAULT_REGION or AWS_PROFILE to where it is."
        )
    if code in _REFUSED_CREDENTIALS:
        return f"AWS does not accept these credentials ({code}). {SIGN_IN}"
    if code in _ACCESS_DENIED:
        return (
            f"These credentials may not read the {resource}: {message}. docs/kpis.md, section Rights, says "
            "which permissions reading takes."
        )
    if code in _TOO_BUSY:
        return f"The {resource} gets too many requests at the moment ({code}). Try again in a minute."
    return f"AWS refuses to read the {resource}: {code}: {message}"
