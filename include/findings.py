"""The findings of `make doctor`, and the remedies for errors of AWS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from botocore.exceptions import BotoCoreError, ClientError

DEPLOY = "deploy include/stack.yaml (docs/deploy.md) or correct the variable"
RENEW = "renew the credentials: they are wrong, or have expired"
DENIED = frozenset(
    {"403", "AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"}
)
MISSING = frozenset(
    {
        "404",
        "NoSuchBucket",
        "NoSuchKey",
        "ResourceNotFoundException",
        "NoSuchEntity",
        "NotFound",
        "AWS.SimpleQueueService.NonExistentQueue",
    }
)


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        state: "warning" if runs succeed nevertheless; "not checked" if the state is unknown, or if the
            identity may not read it and the pipeline need not either.
        what: the thing that was checked and its state.
        remedy: what to do; empty if it is fine.
    """

    state: Literal["fine", "wrong", "warning", "not checked"]
    what: str
    remedy: str = ""


Findings = Iterator[Finding]


def fine(what: str) -> Finding:
    """Return the finding that everything is correct."""
    return Finding("fine", what)


def wrong(what: str, remedy: str) -> Finding:
    """Return the finding that this must be fixed."""
    return Finding("wrong", what, remedy)


def failed(what: str, error: BotoCoreError | ClientError) -> Finding:
    """Return the finding for an AWS call that failed, with the remedy for its error."""
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
    """Return the finding that AWS cannot be called at all, with the remedy for this error."""
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
