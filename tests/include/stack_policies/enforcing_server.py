"""Local AWS that checks S3 requests against the policies of who sends them, and records what its Glue calls.

`python -m tests.include.stack_policies.enforcing_server FILE`; a POST to /moto-api/reset-auth switches the
checks on and off. moto's check is exact for S3 but for two things, mended here: HeadBucket takes the right to
list, and DeleteObjects the right to delete each key. Other services are not checked, for moto would do it
against the resource `*`.
"""

import sys
from pathlib import Path
from typing import Any

import xmltodict  # type: ignore[import-untyped]
from moto.core.authorization import ActionAuthenticatorMixin
from moto.s3 import responses

from include.local_aws.server import serve
from tests.include.stack_policies.recorder import record_calls

_authorize = ActionAuthenticatorMixin._authenticate_and_authorize_s3_action


def _authorize_every_key(self: Any, bucket_name: str | None = None, key_name: str | None = None) -> None:
    if self.data["Action"] != "DeleteObject" or key_name:
        _authorize(self, bucket_name, key_name)
        return
    for entry in xmltodict.parse(self.body, force_list=("Object",))["Delete"]["Object"]:
        _authorize(self, bucket_name, entry["Key"])


if __name__ == "__main__":
    record_calls(Path(sys.argv[1]))
    responses.ACTION_MAP["BUCKET"]["HEAD"]["DEFAULT"] = "ListBucket"
    replacements: dict[str, Any] = {
        "_authenticate_and_authorize_s3_action": _authorize_every_key,
        "_authenticate_and_authorize_normal_action": lambda self, resource="*": None,
    }
    for name, replacement in replacements.items():
        setattr(ActionAuthenticatorMixin, name, replacement)
    serve("127.0.0.1", 0)
