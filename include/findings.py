"""What `make doctor` finds, and what to do about an error of AWS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from botocore.exceptions import BotoCoreError, ClientError

DEPLOY = "deploy include/stack.yaml (README, Deploying) or correct the variable"
RENEW = "renew the credentials: they are wrong, or have expired"
DENIED = frozenset(
    {"403", "AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"}
)
MISSING = frozenset(
    {"404", "NoSuchBucket", "NoSuchKey", "ResourceNotFoundException", "NoSuchEntity", "NotFound"}
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: "warning" where runs succeed all the same; "not checked" when it cannot be told, or when the
            identity may not look, where the pipeline itself need not look either.
        what: the thing and how it is.
        remedy: what to do; empty when it is fine.
    """

    state: Literal["fine", "wrong", "warning", "not checked"]
    what: str
    remedy: str = ""


Findings = Iterator[Finding]


def fine(what: str) -> Finding:
    """Return the finding that this is as it must be."""
    return Finding("fine", what)


def wrong(what: str, remedy: str) -> Finding:
    """Return the finding that this must be mended."""
    return Finding("wrong", what, remedy)


def failed(what: str, error: BotoCoreError | ClientError) -> Finding:
    """Return what it means that AWS could not be asked for this, with what to do about the error."""
    if not isinstance(error, ClientError):
        return wrong(f"{what}: {error}", "check the network and AWS_ENDPOINT_URL")
    code = error.response["Error"]["Code"]
    if code in MISSING:
        return wrong(f"{what}: does not exist", DEPLOY)
    if code in DENIED:
        remedy = "use credentials of the role that the stack makes for Airflow, or of who deployed it"
        if what.startswith("bucket"):
            remedy += (
                "; bucket names are unique in all of AWS: this one, above all under a default name, may be "
                "somebody else's; then deploy with a name of your own"
            )
        return wrong(f"{what}: access denied ({error.operation_name})", remedy)
    if (
        "Token" in code
        or "Signature" in code
        or code in {"InvalidAccessKeyId", "UnrecognizedClientException"}
    ):
        return wrong(f"{what}: {error}", RENEW)
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500 or "Thrott" in code:
        return wrong(f"{what}: {error}", "AWS has a fault or too many requests: try again in some minutes")
    return wrong(
        f"{what}: {error}", f"correct what the message names; {error.operation_name} answered {code}"
    )


def unreachable(error: Exception) -> Finding:
    """Return the finding that AWS cannot be asked anything, with what to do about this error."""
    if isinstance(error, ClientError):
        return wrong(f"AWS: {error}", RENEW)
    remedies = {
        "NoCredentialsError": "log in (aws sso login), or set AWS_PROFILE or keys; local AWS takes any keys",
        "PartialCredentialsError": "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "ProfileNotFound": "correct AWS_PROFILE, or make the profile with aws configure",
        "NoRegionError": "set AWS_DEFAULT_REGION, for example to us-east-1",
    }
    otherwise = (
        "check the network and AWS_ENDPOINT_URL: none for real AWS; local AWS, started by make run or astro "
        "dev start, is http://127.0.0.1:5555, and http://local-aws:5555 only inside of Docker"
    )
    return wrong(f"AWS: {error}", remedies.get(type(error).__name__, otherwise))
