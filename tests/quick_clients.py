"""AWS clients without work that each one repeats, which takes longer than most of the calls they make."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import boto3


def share_sessions_of_hooks(patch: pytest.MonkeyPatch) -> None:
    """Let Airflow's hooks share a session per connection, and not search the stack for their caller."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook, BaseSessionFactory

    create = BaseSessionFactory._create_basic_session
    sessions: dict[str, boto3.Session] = {}

    def session_of(factory: BaseSessionFactory, session_kwargs: dict[str, Any]) -> boto3.Session:
        # A connection without a key takes that of the environment.
        variables = sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
        key = repr((session_kwargs, variables))
        if key not in sessions:
            sessions[key] = create(factory, session_kwargs)
        return sessions[key]

    patch.setattr(BaseSessionFactory, "_create_basic_session", session_of)
    patch.setattr(AwsBaseHook, "_get_caller", lambda *_: "tests")
