"""A run's objects in S3: manifests, records of its parts, and the report that marks it as complete."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from helpers.aws.clients import MAX_CONNECTIONS, s3_client
from helpers.aws.s3_objects import (
    delete_objects,
    list_modified,
    list_sizes,
    read_json,
    write_json,
    write_json_once,
)
from helpers.contract.keys import (
    RUNS_PREFIX,
    ending_key,
    input_manifest_key,
    manifest_key,
    part_key,
    report_key,
    run_prefix,
    stopped_key,
)
from helpers.contract.records import (
    COMPLETE,
    Check,
    InputManifest,
    ListedFile,
    ListedPart,
    Manifest,
    RunEnding,
    RunReport,
)
from helpers.contract.settings import PipelineConfig
from helpers.contract.wording import counted
from helpers.errors import HandoverError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

# Number of newest reports that are searched for a complete run of new files.
_REPORTS_LOOKED_AT = 20


class RunStore:
    """One run's objects, with the client and the settings to read and write them.

    The run key names its objects; `helpers.contract.keys` defines their keys.
    """

    def __init__(self, run_key: str, config: PipelineConfig, s3: S3Client | None = None) -> None:
        """Bind the run; if `s3` is None, create a client from Airflow's connection."""
        self.run_key = run_key
        self.config = config
        self.s3 = s3 or s3_client()

    def report(self) -> RunReport | None:
        """Return the run's report, or None if the run is not complete."""
        report: RunReport | None = read_json(self.s3, self.config.archive_bucket, report_key(self.run_key))
        return report

    def report_if_complete(self) -> RunReport | None:
        """Return the run's report or None; if there is one, log that the task has nothing to do."""
        report = self.report()
        if report:
            logger.info("Run %s is complete; nothing to do", self.run_key)
        return report

    def manifest(self) -> Manifest:
        """Return the run's manifest.

        Raises:
            HandoverError: there is none.
        """
        manifest = self._stored_manifest()
        if manifest is None:
            raise HandoverError(
                f"The run's manifest s3://{self.config.archive_bucket}/{manifest_key(self.run_key)} does not "
                "exist; clear the task list_stream_files and its downstream tasks."
            )
        return manifest

    def manifest_made_once(self, make: Callable[[], Manifest]) -> Manifest:
        """Return the run's manifest; only the first attempt makes and writes it."""
        manifest = self._stored_manifest()
        if manifest is None:
            key = manifest_key(self.run_key)
            manifest = write_json_once(self.s3, self.config.archive_bucket, key, make())
        return manifest

    def write_listed_parts(self, manifest: Manifest) -> None:
        """Write the manifest in pieces, one per part, because a mapped task needs no other part's files."""

        def write(part: int) -> None:
            files = [
                ListedFile(index=index, **manifest["streams"][index]) for index in manifest["parts"][part]
            ]
            self.write_part("listed", part, ListedPart(frozen_at=manifest["frozen_at"], files=files))

        with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
            # The list raises the first error of a write.
            list(pool.map(write, range(len(manifest["parts"]))))

    def listed_part(self, part: int) -> ListedPart:
        """Return one part's piece of the manifest.

        Raises:
            HandoverError: there is none.
        """
        piece: ListedPart | None = self.read_part("listed", part)
        if piece is None:
            key = self.part_key("listed", part, "json")
            raise HandoverError(
                f"The list of a part's files, s3://{self.config.intermediate_bucket}/{key}, does not exist; "
                "clear list_stream_files and its downstream tasks."
            )
        return piece

    def input_manifest(self) -> InputManifest:
        """Return the manifest of the Glue job's input.

        Raises:
            HandoverError: there is none.
        """
        key = input_manifest_key(self.run_key)
        manifest: InputManifest | None = read_json(self.s3, self.config.intermediate_bucket, key)
        if manifest is None:
            raise HandoverError(
                f"The input manifest s3://{self.config.intermediate_bucket}/{key} does not exist; "
                "clear the task before trigger_glue_job and its downstream tasks."
            )
        return manifest

    def write_input_manifest(self, manifest: InputManifest) -> None:
        """Write the manifest of the Glue job's input."""
        write_json(self.s3, self.config.intermediate_bucket, input_manifest_key(self.run_key), manifest)

    def part_key(self, stage: str, part: int, suffix: str) -> str:
        """Return the key in the intermediate bucket of a task's object for one part."""
        return part_key(self.run_key, stage, part, suffix)

    def read_part(self, stage: str, part: int) -> Any:
        """Return the JSON that a task wrote for one part, or None."""
        return read_json(self.s3, self.config.intermediate_bucket, self.part_key(stage, part, "json"))

    def write_part(self, stage: str, part: int, value: Any) -> None:
        """Write a task's JSON for one part."""
        write_json(self.s3, self.config.intermediate_bucket, self.part_key(stage, part, "json"), value)

    def stopped_checks(self) -> list[Check] | None:
        """Return the checks that stopped the run, or None."""
        checks: list[Check] | None = read_json(self.s3, self.config.archive_bucket, stopped_key(self.run_key))
        return checks

    def write_stopped_checks(self, checks: list[Check]) -> None:
        """Store the checks that stop the run, because a stopped run has no report."""
        write_json(self.s3, self.config.archive_bucket, stopped_key(self.run_key), checks)

    def ending(self) -> RunEnding | None:
        """Return how the run failed or was skipped, or None; it may have gone on since."""
        ending: RunEnding | None = read_json(self.s3, self.config.archive_bucket, ending_key(self.run_key))
        return ending

    def write_ending(self, ending: RunEnding) -> None:
        """Keep how the run failed or was skipped; the last failure replaces an earlier one."""
        write_json(self.s3, self.config.archive_bucket, ending_key(self.run_key), ending)

    def list_temporary_objects(self) -> list[str]:
        """Return the keys of the run's objects in the intermediate bucket."""
        return list(list_sizes(self.s3, self.config.intermediate_bucket, run_prefix(self.run_key)))

    def delete_temporary_objects(self) -> int:
        """Delete the run's objects in the intermediate bucket; return their number."""
        keys = self.list_temporary_objects()
        delete_objects(self.s3, self.config.intermediate_bucket, keys)
        logger.info("Deleted %s of run %s", counted(len(keys), "temporary object"), self.run_key)
        return len(keys)

    def _stored_manifest(self) -> Manifest | None:
        manifest: Manifest | None = read_json(self.s3, self.config.archive_bucket, manifest_key(self.run_key))
        return manifest


def read_last_report(s3: S3Client, config: PipelineConfig) -> RunReport | None:
    """Return the report of the last complete run that published listens of new files, or None."""
    found = list_modified(s3, config.archive_bucket, RUNS_PREFIX)
    keys = sorted((modified, key) for key, modified in found.items() if key.endswith("/report.json"))
    for _, key in reversed(keys[-_REPORTS_LOOKED_AT:]):
        report: RunReport | None = read_json(s3, config.archive_bucket, key)
        # A run of files with only a header has no days.
        if report and report["status"] == COMPLETE and report["days"] and not report["reprocess_dates"]:
            return report
    return None
