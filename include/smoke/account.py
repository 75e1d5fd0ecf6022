"""The user's AWS account; only resources that carry the suffix can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include.commands.errors import UserError
from include.findings import unreachable
from include.smoke.names import Names

_READING = ("Get", "List", "Describe", "Head")
_NAMING = (
    "Bucket",
    "StackName",
    "TableName",
    "JobName",
    "RoleArn",
    "Statement",
    "logGroupName",
    "logStreamName",
)
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


class ForeignResourceError(Exception):
    """A call that would have changed a resource without the suffix; it was not made."""


class Account:
    """The caller's identity in AWS, and the names of one smoke test.

    Attributes:
        names: the resources of this smoke test; nothing else may be changed.
        logs: log groups and streams of this smoke test, which Glue names without the suffix.
    """

    def __init__(self, names: Names) -> None:
        """Find out the identity of the credentials.

        Raises:
            UserError: there are no credentials or no region, they are refused, or they are the root user's.
        """
        self.names = names
        self.logs: set[str] = set()
        try:
            self._session = boto3.Session()
            self._session.events.register("provide-client-params", self._refuse_others)
            if not self._session.region_name:
                raise UserError("AWS: no region is set -> set AWS_DEFAULT_REGION, for example to us-east-1")
            self.region = str(self._session.region_name)
            identity = self.client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            found = unreachable(error)
            raise UserError(f"{found.what} -> {found.remedy}") from error
        self.id, self.arn = str(identity["Account"]), str(identity["Arn"])
        self.partition = self.arn.split(":")[1]
        if self.arn.endswith(":root"):
            raise UserError(
                f"These are credentials of the root user of account {self.id}, who cannot assume roles -> "
                "use those of an IAM user or role with administrator rights"
            )

    @property
    def is_aws(self) -> bool:
        """Whether this is AWS and not a stand-in for it."""
        host = urlsplit(self.client("sts").meta.endpoint_url).hostname or ""
        return host.endswith(_AWS_HOSTS)

    @property
    def principal_arn(self) -> str:
        """The principal that may assume the role for Airflow: any in this account that may assume roles."""
        return f"arn:{self.partition}:iam::{self.id}:root"

    @property
    def topic_arn(self) -> str:
        """The topic of the messages."""
        return f"arn:{self.partition}:sns:{self.region}:{self.id}:{self.names.topic}"

    def client(self, service: str, **options: Any) -> Any:
        """Return a client with the user's identity and bounded retries."""
        config = Config(
            connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 5}
        )
        client: Any = self._session.client  # not overloaded by service
        return client(service, config=config, **options)

    def role_session(self, role_arn: str, external_id: str) -> boto3.Session:
        """Return a session as the role.

        Raises:
            ClientError: the role cannot be assumed.
        """
        credentials = self.client("sts").assume_role(
            RoleArn=role_arn, RoleSessionName="smoke", ExternalId=external_id
        )["Credentials"]
        return boto3.Session(
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
            region_name=self.region,
        )

    def _refuse_others(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        if model.name.startswith(_READING):
            return
        named = [str(params[key]) for key in _NAMING if key in params]
        if not any(self.names.stack in name or name in self.logs for name in named):
            raise ForeignResourceError(f"{model.name} of {', '.join(named) or 'nothing named'} was not made")
