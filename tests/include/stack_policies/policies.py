"""The policies of the stack as they are in local AWS, every reference resolved."""

from __future__ import annotations

from typing import Any

from local_aws_support import connect

AIRFLOW_ROLE = "music-streaming-airflow-role"
GLUE_ROLE = "music-streaming-glue-role"


def role_statements(endpoint_url: str, role: str) -> list[dict[str, Any]]:
    """Return the statements of all inline policies of the role."""
    iam = connect("iam", endpoint_url)
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    documents = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
    return [statement for document in documents for statement in document["Statement"]]
