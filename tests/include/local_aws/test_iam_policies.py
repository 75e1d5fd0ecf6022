from typing import Any

import pytest

from include.local_aws.iam_policies import Request, is_allowed

OBJECTS = "arn:aws:s3:::bucket/runs/*"
READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": OBJECTS}


def list_statement(operator: str) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::bucket",
        "Condition": {operator: {"s3:prefix": ["runs/*", "listens"]}},
    }


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("s3:GetObject", "arn:aws:s3:::bucket/runs/a/b", True),
        ("S3:getobject", "arn:aws:s3:::bucket/runs/a", True),
        ("s3:GetObject", "arn:aws:s3:::bucket/runs/with\nnewline", True),
        ("s3:GetObjectVersion", "arn:aws:s3:::bucket/runs/a", False),
        ("s3:GetObject", "arn:aws:s3:::bucket/other/a", False),
        ("s3:GetObject", "arn:aws:s3:::bucket/Runs/a", False),
        ("s3:GetObject", "arn:aws:s3:::bucket2/runs/a", False),
        ("s3:GetObject", "arn:aws:s3:::bucket", False),
    ],
)
def test_action_and_resource_both_have_to_match_as_a_whole(action: str, resource: str, allowed: bool) -> None:
    assert is_allowed(Request(action, resource), [READ]) is allowed


def test_characters_that_mean_something_in_regular_expressions_stand_for_themselves() -> None:
    folder = {**READ, "Resource": "arn:aws:s3:::bucket/output_$folder$"}

    assert is_allowed(Request("s3:GetObject", "arn:aws:s3:::bucket/output_$folder$"), [folder])
    assert not is_allowed(Request("s3:GetObject", "arn:aws:s3:::bucket/output_"), [folder])


def test_nothing_is_allowed_without_a_statement() -> None:
    assert not is_allowed(Request("s3:GetObject", "arn:aws:s3:::bucket/runs/a"), [])


def test_one_deny_overrides_every_allow() -> None:
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}

    assert not is_allowed(Request("s3:GetObject", "arn:aws:s3:::bucket/runs/a"), [READ, deny, READ])


@pytest.mark.parametrize(
    ("operator", "context", "allowed"),
    [
        ("StringLike", {"s3:prefix": "runs/a/"}, True),
        ("StringLike", {"s3:prefix": "quarantine/"}, False),
        ("StringLike", {"s3:prefix": ""}, False),
        ("StringLike", {}, False),
        ("StringLikeIfExists", {"s3:prefix": "listens"}, True),
        ("StringLikeIfExists", {"s3:prefix": "quarantine/"}, False),
        ("StringLikeIfExists", {"s3:prefix": ""}, False),
        ("StringLikeIfExists", {}, True),
        ("StringEquals", {"s3:prefix": "listens"}, True),
        ("StringEquals", {"s3:prefix": "runs/a/"}, False),
    ],
)
def test_condition_key_that_is_not_there_fails_unless_the_operator_ends_in_if_exists(
    operator: str, context: dict[str, str], allowed: bool
) -> None:
    request = Request("s3:ListBucket", "arn:aws:s3:::bucket", context)

    assert is_allowed(request, [list_statement(operator)]) is allowed


def test_all_conditions_of_a_statement_have_to_hold() -> None:
    statement = list_statement("StringLike")
    statement["Condition"]["Bool"] = {"aws:SecureTransport": "true"}
    prefix = {"s3:prefix": "runs/"}

    for secure, allowed in (("true", True), ("false", False)):
        request = Request("s3:ListBucket", "arn:aws:s3:::bucket", {**prefix, "aws:SecureTransport": secure})
        assert is_allowed(request, [statement]) is allowed


@pytest.mark.parametrize(
    "unknown",
    [
        {"NotAction": "s3:GetObject"},
        {"NotResource": "*"},
        {"Condition": {"StringNotLike": {"s3:prefix": "a"}}},
        {"Condition": {"ForAnyValue:StringLike": {"s3:prefix": "a"}}},
    ],
)
def test_what_is_not_known_is_an_error_also_where_nothing_else_matches(unknown: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Not supported by this evaluator"):
        is_allowed(Request("sns:Publish", "arn:aws:sns:::other"), [READ | unknown])
