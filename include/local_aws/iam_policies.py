"""IAM's decision about a request, limited to the policy elements that include/stack.yaml uses.

It follows https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html. An
unknown element or operator raises an error, so no policy is ever half understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Statement = Mapping[str, Any]
_ELEMENTS = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda expected, actual: expected == actual,
    "StringLike": lambda pattern, actual: matches(pattern, actual),
    "Bool": lambda expected, actual: expected.lower() == actual.lower(),
}


@dataclass(frozen=True)
class Request:
    """A request: an action such as `s3:GetObject` on an ARN, with its condition keys."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def is_allowed(request: Request, statements: Iterable[Statement]) -> bool:
    """Decide as IAM does: a request needs an Allow, and a Deny overrides every Allow.

    Raises:
        ValueError: a statement has an element or operator that this module does not support.
    """
    effects = {statement["Effect"] for statement in statements if applies(statement, request)}
    return effects == {"Allow"}


def applies(statement: Statement, request: Request) -> bool:
    """Return whether the statement matches the request, whoever makes it.

    Raises:
        ValueError: it has an element or operator that this module does not support.
    """
    if unknown := statement.keys() - _ELEMENTS:
        raise ValueError(f"Not supported by this evaluator: {', '.join(sorted(unknown))}")
    # Evaluate every condition, so an unknown operator always raises an error.
    conditions = [
        _condition_holds(operator, key, as_list(values), request.context)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    ]
    return (
        any(matches(action.lower(), request.action.lower()) for action in as_list(statement["Action"]))
        and any(matches(resource, request.resource) for resource in as_list(statement["Resource"]))
        and all(conditions)
    )


def as_list(value: Any) -> list[Any]:
    """Return a policy element, which may be one value or several, as a list."""
    return value if isinstance(value, list) else [value]


def _condition_holds(operator: str, key: str, expected: list[str], context: Mapping[str, str]) -> bool:
    name = operator.removesuffix("IfExists")
    if name not in _OPERATORS:
        raise ValueError(f"Not supported by this evaluator: {operator}")
    if key not in context:
        return operator.endswith("IfExists")
    return any(_OPERATORS[name](str(value), context[key]) for value in expected)


def matches(pattern: str, text: str) -> bool:
    """Return whether the text matches a policy's pattern: `*` is any text with slashes, `?` one character."""
    expression = "".join({"*": ".*", "?": "."}.get(char) or re.escape(char) for char in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None
