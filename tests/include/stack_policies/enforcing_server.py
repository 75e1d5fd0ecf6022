"""Local AWS that checks S3 requests against the policies of who sends them, and records what its Glue calls.

`python -m tests.include.stack_policies.enforcing_server FILE`; a POST to /moto-api/reset-auth switches the
checks on and off. moto's check of S3 is mended here: HeadBucket takes the right to list, DeleteObjects the
right to delete each key, a copy the right to read its source, a HEAD of a version the right to read versions.
Not checked: conditions, tags, and other services, which moto would check
against the resource `*`. The evaluator judges all of that by the recorded calls.
"""

import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import xmltodict  # type: ignore[import-untyped]
from moto.core.authorization import ActionAuthenticatorMixin
from moto.s3 import responses

from include.local_aws.server import serve
from tests.include.stack_policies.recorder import record_calls

_authorize = ActionAuthenticatorMixin._authenticate_and_authorize_s3_action


def _authorize_every_key(self: Any, bucket_name: str | None = None, key_name: str | None = None) -> None:
    action = self.data["Action"]
    if action != "DeleteObject" or key_name:
        _authorize(self, bucket_name, key_name)
        if source := self.headers.get("x-amz-copy-source"):
            address = urlparse(source)
            source_bucket, source_key = unquote(address.path).lstrip("/").split("/", 1)
            self.data["Action"] = (
                "GetObjectVersion" if "versionId" in parse_qs(address.query) else "GetObject"
            )
            _authorize(self, source_bucket, source_key)
            self.data["Action"] = action
        return
    for entry in xmltodict.parse(self.body, force_list=("Object",))["Delete"]["Object"]:
        _authorize(self, bucket_name, entry["Key"])


if __name__ == "__main__":
    record_calls(Path(sys.argv[1]))
    responses.ACTION_MAP["BUCKET"]["HEAD"]["DEFAULT"] = "ListBucket"
    responses.ACTION_MAP["KEY"]["HEAD"]["versionId"] = "GetObjectVersion"
    replacements: dict[str, Any] = {
        "_authenticate_and_authorize_s3_action": _authorize_every_key,
        "_authenticate_and_authorize_normal_action": lambda self, resource="*": None,
    }
    for name, replacement in replacements.items():
        setattr(ActionAuthenticatorMixin, name, replacement)
    serve("127.0.0.1", 0)
