"""Where moto 5.2.5 differs from AWS in ways that the pipeline would notice.

- S3 and DynamoDB check a condition and write in two steps, which two threads can interleave.
- ``CopySourceIfMatch`` of CopyObject and UploadPartCopy is ignored, as are ``IfMatch`` and ``IfNoneMatch`` of
  CopyObject.
- An ``ETag`` in DeleteObjects is ignored, ``IfMatch="*"`` of DeleteObject matches nothing.
- CopyObject takes a source of any size, BatchWriteItem any number of items.
- Query reads and sorts the whole table: seconds with a year of KPIs in it.
- A transaction copies its table with all items, once for each item that it writes: minutes with a year in it.
- The inline policies of a role made by CloudFormation are no JSON, so they cannot be read or enforced, and
  have a null where the template has a statement only under a condition.
- ``?`` in a policy, which stands for one character, breaks the check.
"""

import copy
import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse
from xml.sax.saxutils import escape

import xmltodict  # type: ignore[import-untyped]
from moto.dynamodb.exceptions import MockValidationException
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler
from moto.iam.access_control import IAMPolicyStatement
from moto.iam.models import Role
from moto.s3.exceptions import MissingKey, PreconditionFailed, S3ClientError
from moto.s3.models import FakeKey
from moto.s3.responses import S3Response
from werkzeug.datastructures import Headers

MAX_COPY_BYTES = 5 * 1024**3
MAX_BATCH_ITEMS = 25

_Method = Callable[..., Any]


def install() -> None:
    """Mend moto in this process."""
    s3_writes, dynamodb = threading.RLock(), threading.RLock()
    fixes: list[tuple[Any, str, Callable[[_Method], _Method]]] = [
        (
            S3Response,
            "copy_object",
            _checked_by(_check_copy_source, _check_copy_size, _check_copy_destination),
        ),
        (S3Response, "upload_part_copy", _checked_by(_check_copy_source)),
        (S3Response, "delete_object", _checked_by(_accept_any_etag)),
        (S3Response, "_bucket_response_delete_keys", _delete_matching_keys),
        (S3Response, "_bucket_response_delete_keys", _locked_by(s3_writes)),
        (S3Response, "_key_response_delete", _locked_by(s3_writes)),
        (S3Response, "_key_response_post", _locked_by(s3_writes)),
        (S3Response, "_key_response_put", _locked_by(s3_writes)),
        (DynamoHandler, "batch_write_item", _checked_by(_check_batch_size)),
        (DynamoHandler, "call_action", _locked_by(dynamodb)),
        (DynamoDBBackend, "transact_write_items", _undone_from_a_shallow_copy),
        (Table, "query", _within_its_partition),
        (Role, "put_policy", _put_policy_as_json),
        (IAMPolicyStatement, "_match", _match_wildcards),
    ]
    for owner, name, fix in fixes:
        setattr(owner, name, fix(getattr(owner, name)))


def _locked_by(lock: threading.RLock) -> Callable[[_Method], _Method]:
    def fix(method: _Method) -> _Method:
        @wraps(method)
        def locked(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return method(*args, **kwargs)

        return locked

    return fix


def _within_its_partition(query: _Method) -> _Method:
    """Let a query see only its partition, of the table or of an index that has the table's keys reversed."""
    parameters = signature(query)

    @wraps(query)
    def narrowed(self: Table, *args: Any, **kwargs: Any) -> Any:
        asked = parameters.bind(self, *args, **kwargs).arguments
        view: Any = copy.copy(self)
        keys = dict(asked.get("hash_key_conditions") or [])
        if not asked.get("index_name"):
            partitions = {asked["hash_key"]} & view.items.keys()
            view.items = {key: view.items[key] for key in partitions}
        elif list(keys) == [self.range_key_attr]:
            (wanted,) = keys.values()
            view.items = {
                key: {wanted: items[wanted]} for key, items in view.items.items() if wanted in items
            }
        return query(view, *args, **kwargs)

    return narrowed


def _undone_from_a_shallow_copy(transact: _Method) -> _Method:
    """Let a transaction keep for its undoing only which items there were, and those that it updates."""

    @wraps(transact)
    def transact_write_items(self: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
        updates = [item["Update"] for item in transact_items if "Update" in item]
        states: dict[str, Table] = {}

        def state_of(table: Table, memo: Any) -> Table:
            if table.name not in states:
                states[table.name] = _state(
                    table, [op["Key"] for op in updates if op["TableName"] == table.name]
                )
            return states[table.name]

        # Whoever calls holds the lock of DynamoDB, so nobody else copies a table meanwhile.
        Table.__deepcopy__ = state_of  # type: ignore[attr-defined]
        try:
            transact(self, transact_items)
        finally:
            del Table.__deepcopy__  # type: ignore[attr-defined]

    return transact_write_items


def _state(table: Table, updated: list[dict[str, Any]]) -> Table:
    state = copy.copy(table)
    items: Any = {key: dict(entry) if table.has_range_key else entry for key, entry in table.items.items()}
    state.items = defaultdict(dict, items)
    # Puts and deletions exchange items, updates change them.
    for key in updated:
        holder: Any = state.items
        name = DynamoType(key[table.hash_key_attr])
        if table.has_range_key:
            holder, name = holder.get(name, {}), DynamoType(key[str(table.range_key_attr)])
        if name in holder:
            holder[name] = copy.deepcopy(holder[name])
    return state


def _checked_by(*checks: Callable[[Any], None]) -> Callable[[_Method], _Method]:
    def fix(method: _Method) -> _Method:
        @wraps(method)
        def checked(self: Any) -> Any:
            for check in checks:
                check(self)
            return method(self)

        return checked

    return fix


def _check_copy_source(response: S3Response) -> None:
    expected = response.headers.get("x-amz-copy-source-if-match")
    found = _copy_source(response)
    if expected is not None and found is not None and not _matches(expected, found.etag):
        raise PreconditionFailed("x-amz-copy-source-If-Match")


def _check_copy_size(response: S3Response) -> None:
    found = _copy_source(response)
    if found is not None and found.size > MAX_COPY_BYTES:
        raise S3ClientError(
            "InvalidRequest",
            "The specified copy source is larger than the maximum allowable size for a copy source: "
            f"{MAX_COPY_BYTES}",
        )


def _copy_source(response: S3Response) -> FakeKey | None:
    source = urlparse(response.headers["x-amz-copy-source"])
    bucket, key = unquote(source.path).lstrip("/").split("/", 1)
    version_id = parse_qs(source.query).get("versionId", [None])[0]
    return response.backend.get_object(bucket, key, version_id=version_id)


def _check_batch_size(handler: DynamoHandler) -> None:
    if sum(map(len, handler.body["RequestItems"].values())) > MAX_BATCH_ITEMS:
        raise MockValidationException("Too many items requested for the BatchWriteItem call")


def _check_copy_destination(response: S3Response) -> None:
    expected, excluded = response.headers.get("If-Match"), response.headers.get("If-None-Match")
    if expected is None and excluded is None:
        return
    found = response.backend.get_object(response.bucket_name, response.parse_key_name())
    if excluded == "*" and found is not None:
        raise PreconditionFailed("If-None-Match")
    if expected is not None:
        if found is None:
            raise MissingKey
        if not _matches(expected, found.etag):
            raise PreconditionFailed("If-Match")


def _accept_any_etag(response: S3Response) -> None:
    if response.headers.get("If-Match") == "*":
        found = response.backend.get_object(response.bucket_name, response.parse_key_name())
        if found is not None:
            response.headers = Headers(response.headers)  # those of the request cannot be set
            response.headers["If-Match"] = found.etag


def _delete_matching_keys(delete_keys: _Method) -> _Method:
    @wraps(delete_keys)
    def delete_matching_keys(self: S3Response, bucket_name: str, *args: Any, **kwargs: Any) -> Any:
        request = xmltodict.parse(self.body, strip_whitespace=False, force_list=("Object",))
        objects = request["Delete"].get("Object", [])
        refusals = [_refusal(self, bucket_name, entry) for entry in objects]
        if not any(refusals):
            return delete_keys(self, bucket_name, *args, **kwargs)
        errors = "".join(
            f"<Error><Key>{escape(entry['Key'])}</Key><Code>{refusal.code}</Code>"
            f"<Message>{escape(refusal.message)}</Message></Error>"
            for entry, refusal in zip(objects, refusals, strict=True)
            if refusal
        )
        request["Delete"]["Object"] = [
            entry for entry, refusal in zip(objects, refusals, strict=True) if not refusal
        ]
        if not request["Delete"]["Object"]:
            namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
            return 200, {}, f'<DeleteResult xmlns="{namespace}">{errors}</DeleteResult>'
        self.body = xmltodict.unparse(request).encode()
        status, headers, body = delete_keys(self, bucket_name, *args, **kwargs)
        text = body.decode() if isinstance(body, bytes) else body
        return status, headers, text.replace("</DeleteResult>", f"{errors}</DeleteResult>")

    return delete_matching_keys


def _refusal(response: S3Response, bucket_name: str, entry: dict[str, str]) -> S3ClientError | None:
    if "ETag" not in entry:
        return None
    found = response.backend.get_object(bucket_name, entry["Key"])
    if found is None:
        return MissingKey()
    return None if _matches(entry["ETag"], found.etag) else PreconditionFailed("If-Match")


def _put_policy_as_json(put_policy: _Method) -> _Method:
    @wraps(put_policy)
    def put_policy_as_json(self: Role, name: str, document: Any) -> None:
        if not isinstance(document, str):
            statements = [statement for statement in document["Statement"] if statement is not None]
            document = json.dumps({**document, "Statement": statements})
        put_policy(self, name, document)

    return put_policy_as_json


def _match_wildcards(match: _Method) -> _Method:
    @wraps(match)
    def match_wildcards(pattern: str, text: str) -> re.Match[str] | None:
        return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text)

    return staticmethod(match_wildcards)


def _matches(expected: str, etag: str) -> bool:
    return expected == "*" or expected.strip('"') == etag.strip('"')
