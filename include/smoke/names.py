"""The names of everything that a smoke test creates; each carries its suffix."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

PREFIX = "music-smoke-"
_SUFFIX = re.compile(r"[0-9a-f]{10}")


@dataclass(frozen=True)
class Names:
    """The resources of a smoke test, named by the stack's parameters.

    Raises:
        ValueError: the suffix is not one of a smoke test.
    """

    suffix: str

    def __post_init__(self) -> None:
        if not _SUFFIX.fullmatch(self.suffix):
            raise ValueError(f"{self.suffix!r} is not a suffix of a smoke test: ten digits from 0 to f")

    @classmethod
    def new(cls) -> Names:
        """Return names that are not in use, with near certainty."""
        return cls(secrets.token_hex(5))

    @property
    def stack(self) -> str:
        """The stack; names given by a parameter have further words appended."""
        return f"{PREFIX}{self.suffix}"

    @property
    def source_bucket(self) -> str:
        """The bucket to which files are delivered."""
        return f"{self.stack}-source"

    @property
    def intermediate_bucket(self) -> str:
        """The bucket through which tasks pass data."""
        return f"{self.stack}-intermediate"

    @property
    def archive_bucket(self) -> str:
        """The bucket of archive, quarantine, history and reports."""
        return f"{self.stack}-archive"

    @property
    def buckets(self) -> tuple[str, str, str]:
        """All three."""
        return self.source_bucket, self.intermediate_bucket, self.archive_bucket

    @property
    def table(self) -> str:
        """The KPI table."""
        return f"{self.stack}-kpis"

    @property
    def job(self) -> str:
        """The Glue job, which belongs to the pipeline and not to the stack."""
        return f"{self.stack}-job"

    @property
    def glue_role(self) -> str:
        """The role of the Glue job."""
        return f"{self.stack}-glue-role"

    @property
    def airflow_role(self) -> str:
        """The role of Airflow's tasks."""
        return f"{self.stack}-airflow-role"

    @property
    def topic(self) -> str:
        """The topic of the messages."""
        return f"{self.stack}-alerts"

    @property
    def alarm(self) -> str:
        """The alarm, which the template names after the stack."""
        return f"{self.stack}-no-run-succeeded"

    def parameters(self, principal_arn: str, external_id: str) -> dict[str, str]:
        """Return the parameters of the stack.

        Args:
            principal_arn: the principal that may assume the role for Airflow.
            external_id: the external id that the role requires.
        """
        return {
            "SourceBucketParameter": self.source_bucket,
            "IntermediateBucketParameter": self.intermediate_bucket,
            "ArchiveBucketParameter": self.archive_bucket,
            "KpiTableParameter": self.table,
            "GlueJobParameter": self.job,
            "GlueRoleParameter": self.glue_role,
            "AirflowRoleParameter": self.airflow_role,
            "AlertTopicParameter": self.topic,
            # Athena's tables belong to a database without hyphens in its name.
            "SqlDatabaseParameter": self.stack.replace("-", "_"),
            "AirflowPrincipalArn": principal_arn,
            "AirflowExternalId": external_id,
            # The table must be removable, and an alarm over more than a day is evaluated only once an hour.
            "KpiTableDeletionProtection": "false",
            "HoursWithoutSuccess": "1",
        }
