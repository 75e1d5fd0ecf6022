"""Fixes the differences between moto 5.2.5 and AWS that the pipeline would notice.

moto behaves like this:

- S3 and DynamoDB check a condition and write in two steps, which two threads can interleave.
- ``CopySourceIfMatch`` of CopyObject and UploadPartCopy is ignored, and so are ``IfMatch`` and
  ``IfNoneMatch`` of CopyObject.
- An ``ETag`` in DeleteObjects is ignored; ``IfMatch="*"`` of DeleteObject matches nothing.
- Keys of objects may have any length.
- In a versioned bucket, a listing by folders shows folders whose objects were all deleted.
- Each page of a listing of versions copies all objects of the bucket, and the copies stay in memory.
- CopyObject accepts a source of any size, BatchWriteItem any number of items.
- Query reads and sorts the whole table: seconds with a year of KPIs in it.
- A transaction copies its table with all items for each item that it writes: minutes with a year of KPIs.
- The inline policies of a role created by CloudFormation are not JSON, so they cannot be read or enforced.
  They have a null for each conditional statement.
- A managed policy created by CloudFormation has such a null too, so it is refused.
- Deleting a stack deletes resources with ``RetainExceptOnCreate``.
- A bucket created by CloudFormation has no versioning, even if its template requests it.
- The server lists its services from the disk at each request, which takes a sixth of the request's time.
"""

import copy
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from heapq import nsmallest
from inspect import signature
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse
from xml.sax.saxutils import escape

import xmltodict  # type: ignore[import-untyped]
from moto import backends
from moto.dynamodb.exceptions import MockValidationException
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler
from moto.iam.models import ManagedPolicy, Role
from moto.s3.exceptions import MissingKey, PreconditionFailed, S3AccessDeniedError, S3ClientError
from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey, S3Backend
from moto.s3.responses import S3Response
from werkzeug.datastructures import Headers

MAX_COPY_BYTES = 5 * 1024**3
MAX_BATCH_ITEMS = 25
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
MAX_KEY_BYTES = 1024

_Method = Callable[..., Any]


def install() -> None:
    """Fix moto in this process."""
    # Importing it requests an AWS session, so the server must first have dropped the user's credentials.
    from moto.cloudformation.parsing import ResourceMap

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
        (S3Response, "_key_response", _refuse_long_keys),
        (S3Backend, "list_objects", _without_deleted_objects),
        (S3Backend, "list_object_versions", _of_one_page),
        (DynamoHandler, "batch_write_item", _checked_by(_check_batch_size)),
        (DynamoHandler, "call_action", _locked_by(dynamodb)),
        (DynamoDBBackend, "transact_write_items", _undone_from_a_shallow_copy),
        (Table, "query", _within_its_partition),
        (Role, "put_policy", _put_policy_as_json),
        (ManagedPolicy, "create_from_cloudformation_json", _without_null_statements),
        (ResourceMap, "delete", _keep_what_is_retained),
        (FakeBucket, "create_from_cloudformation_json", _with_versions),
        (backends, "list_of_moto_modules", _listed_once),
    ]
    for owner, name, fix in fixes:
        setattr(owner, name, fix(getattr(owner, name)))


def _listed_once(list_modules: _Method) -> _Method:
    names = frozenset(list_modules())
    return lambda: names


def _locked_by(lock: threading.RLock) -> Callable[[_Method], _Method]:
    def fix(method: _Method) -> _Method:
        @wraps(method)
        def locked(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return method(*args, **kwargs)

        return locked

    return fix


def _refuse_long_keys(key_response: _Method) -> _Method:
    @wraps(key_response)
    def refused(self: S3Response, *args: Any) -> Any:
        if len(self.parse_key_name().encode()) > MAX_KEY_BYTES:
            raise S3ClientError("KeyTooLongError", "Your key is too long")
        return key_response(self, *args)

    return refused


def _without_deleted_objects(list_objects: _Method) -> _Method:
    @wraps(list_objects)
    def list_present_objects(self: S3Backend, bucket: FakeBucket, *args: Any, **kwargs: Any) -> Any:
        view: Any = copy.copy(bucket)
        view.keys = {name: key for name, key in bucket.keys.items() if not isinstance(key, FakeDeleteMarker)}
        return list_objects(self, view, *args, **kwargs)

    return list_present_objects


def _of_one_page(list_versions: _Method) -> _Method:
    """Limit a listing of versions to the keys that its page can show; a listing by folders stays as it is."""
    parameters = signature(list_versions)

    @wraps(list_versions)
    def list_page(self: S3Backend, *args: Any, **kwargs: Any) -> Any:
        asked = parameters.bind(self, *args, **kwargs).arguments
        bucket = self.get_bucket(asked["bucket_name"])
        first, prefix = asked.get("key_marker") or "", asked.get("prefix") or ""
        if asked.get("delimiter") or asked.get("max_keys") is None:
            return list_versions(self, *args, **kwargs)
        # Each key has at least one version. The marker's versions may all be on earlier pages, and one more
        # version than the page has shows that another page follows.
        names = (name for name in list(bucket.keys) if name >= first and name.startswith(prefix))
        shown = nsmallest(asked["max_keys"] + 2, names)
        backend: Any = copy.copy(self)
        view: Any = copy.copy(bucket)
        view.keys = type(bucket.keys)({name: bucket.keys.getlist(name) for name in shown})
        backend.get_bucket = lambda _: view
        return list_versions(backend, *args, **kwargs)

    return list_page


def _within_its_partition(query: _Method) -> _Method:
    """Limit a query to its partition, of the table or of an index with the table's keys reversed."""
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
    """Let a transaction remember, for its rollback, only the existing items and those that it updates."""

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

        # The caller holds DynamoDB's lock, so no other thread copies a table meanwhile.
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
    # Puts and deletions replace items; updates change them in place.
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
            response.headers = Headers(response.headers)  # the request's headers cannot be changed
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
    response.data["Action"] = "DeleteObjectVersion" if "VersionId" in entry else "DeleteObject"
    try:
        response._authenticate_and_authorize_s3_action(bucket_name, entry["Key"])
    except S3AccessDeniedError as error:
        return error
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
            document = json.dumps(_without_null(document))
        put_policy(self, name, document)

    return put_policy_as_json


def _without_null_statements(create: _Method) -> _Method:
    @wraps(create)
    def create_without_null(name: str, definition: Any, *args: Any, **kwargs: Any) -> ManagedPolicy:
        properties = definition["Properties"]
        properties = {**properties, "PolicyDocument": _without_null(properties["PolicyDocument"])}
        policy: ManagedPolicy = create(name, {**definition, "Properties": properties}, *args, **kwargs)
        return policy

    return create_without_null


def _without_null(document: dict[str, Any]) -> dict[str, Any]:
    return {
        **document,
        "Statement": [statement for statement in document["Statement"] if statement is not None],
    }


def _keep_what_is_retained(delete: _Method) -> _Method:
    @wraps(delete)
    def delete_others(self: Any) -> None:
        for resource in self._resource_json_map.values():
            if resource.get("DeletionPolicy") == "RetainExceptOnCreate":
                resource["DeletionPolicy"] = "Retain"
        delete(self)

    return delete_others


def _with_versions(create: _Method) -> _Method:
    @wraps(create)
    def create_with_versions(name: str, definition: Any, *args: Any, **kwargs: Any) -> FakeBucket:
        bucket: FakeBucket = create(name, definition, *args, **kwargs)
        versioning = definition.get("Properties", {}).get("VersioningConfiguration", {})
        bucket.versioning_status = versioning.get("Status")
        return bucket

    return create_with_versions


def _matches(expected: str, etag: str) -> bool:
    return expected == "*" or expected.strip('"') == etag.strip('"')
