"""The pipeline's safeguards; when one is switched off in a process, the oracle must complain."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


def _write_items_unconditionally() -> None:
    from helpers.aws import kpi_table as module

    # True for every item; it uses all names and values, as DynamoDB requires.
    unused = " OR #version = :version OR #frozen = :frozen"
    module.NOT_NEWER = f"attribute_not_exists(#version) OR attribute_exists(#version){unused}"
    _change_arguments("transact_write_items", _without_checks)


def _without_checks(given: dict[str, Any]) -> dict[str, Any]:
    return {"TransactItems": [action for action in given["TransactItems"] if "ConditionCheck" not in action]}


def _delete_whatever_is_there() -> None:
    _drop_argument("delete_object", "IfMatch")


def _replace_the_list_of_files() -> None:
    _drop_argument("put_object", "IfNoneMatch")


def _read_the_present_version() -> None:
    _drop_argument("get_object", "VersionId")


def _do_not_look_at_the_history() -> None:
    from helpers import store_kpis_in_dynamodb as module

    _set(module, "history_problem", lambda *args, **kwargs: None)


def _do_not_check_the_output() -> None:
    from helpers import store_kpis_in_dynamodb as module

    _set(module, "check_summary", lambda *args: None)


def _keep_stale_items() -> None:
    from helpers.aws import kpi_table as module

    _set(module, "_stored_genres", lambda *args: set())


def _trust_copies() -> None:
    from helpers.aws import s3_objects as module

    _set(module, "_same_content", lambda *args: True)


def _report_before_archiving() -> None:
    from helpers import archive_streams_data as module

    write_report, carry_out = module.write_report, module.carry_out_dispositions
    postponed: list[Any] = []

    def announce(run: Any, manifest: Any, outcomes: Any) -> list[str | None]:
        postponed.append((run, manifest, outcomes))
        return [None] * len(outcomes)

    def report_first(*args: Any) -> str:
        key = write_report(*args)
        for arguments in postponed:
            carry_out(*arguments)
        return key

    _set(module, "carry_out_dispositions", announce)
    _set(module, "write_report", report_first)


def _drop_argument(operation: str, argument: str) -> None:
    def without(given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name != argument}

    _change_arguments(operation, without)


def _change_arguments(operation: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from helpers.aws import clients as aws

    uncached: Any = aws._client

    @cache
    def client(service: str) -> Any:
        made = uncached(service)
        if hasattr(made, operation):
            unchanged = getattr(made, operation)
            setattr(made, operation, lambda **given: unchanged(**change(given)))
        return made

    _set(aws, "_client", client)


def _set(module: Any, name: str, value: Any) -> None:
    assert hasattr(module, name), f"{module.__name__} has no {name} any more"
    setattr(module, name, value)


SAFEGUARDS: dict[str, Callable[[], None]] = {
    "items are written only over older ones": _write_items_unconditionally,
    "only the archived version is deleted": _delete_whatever_is_there,
    "the list of files is written once": _replace_the_list_of_files,
    "the listed version is read": _read_the_present_version,
    "the history must be what Glue saw": _do_not_look_at_the_history,
    "Glue's output must be whole": _do_not_check_the_output,
    "items of vanished genres are deleted": _keep_stale_items,
    "a copy is compared before its source is deleted": _trust_copies,
    "the report is written last": _report_before_archiving,
}
