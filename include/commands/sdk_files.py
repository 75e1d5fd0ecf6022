"""The AWS SDK's descriptions of services, which each client would read and parse again."""

from __future__ import annotations

from functools import cache

from botocore.loaders import JSONFileLoader

_load_once = cache(JSONFileLoader().load_file)


def share_sdk_files() -> None:
    """Let all clients of this process share the SDK's JSON files.

    On Airflow each task has a process of its own. Where all tasks run in one, their clients would spend a
    third of its processor time on these files.
    """
    JSONFileLoader.load_file = lambda _, path: _load_once(path)  # type: ignore[method-assign, assignment]
