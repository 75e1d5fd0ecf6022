"""Records that tasks pass to each other or keep in S3, with the meaning of their fields."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

# Verdicts of a check.
PASSED, WARNED, STOPPED, ACCEPTED = "passed", "warned", "stopped", "accepted"

# How the check of track ids, and that of user ids, ends its name.
IN_ANOTHER_FORM = "ids_in_another_form"

# Status of a run's report. Runs with the last two publish nothing. NO_VALID_ROWS is a failure: no row was
# valid. ALL_LEFT is a skip: every file stays in the source.
COMPLETE, NO_VALID_ROWS, ALL_LEFT = "complete", "no_valid_rows", "all_left"

# State of a run's ending.
FAILED, SKIPPED = "failed", "skipped"

# Increased when a field of the report changes its meaning or disappears; a new field does not count.
REPORT_SCHEMA_VERSION = 1


class ObjectVersion(TypedDict):
    """One version of an object; `version_id` is None in a bucket without versioning."""

    key: str
    version_id: str | None
    etag: str
    size: int
    last_modified: str


class Manifest(TypedDict):
    """The files that a run works on; `parts` holds indexes into `streams`."""

    run_key: str
    dag_run_id: str
    frozen_at: str
    streams: list[ObjectVersion]
    songs: list[ObjectVersion]
    users: list[ObjectVersion]
    ignored_keys: list[str]
    parts: list[list[int]]


class ListedFile(ObjectVersion):
    """A stream file's version, with its index in the run's manifest."""

    index: int


class ListedPart(TypedDict):
    """One part's piece of the manifest: its files, and the time when the run listed them."""

    frozen_at: str
    files: list[ListedFile]


class Part(TypedDict):
    """A reference to one part of the run's stream files."""

    run_key: str
    part: int


class LineCounts(TypedDict):
    """Physical lines of a stream file: total = header + blank + rows + continuation.

    A record with quoted line breaks is one row; its further lines are continuation lines.
    """

    total: int
    header: int
    blank: int
    continuation: int


class RejectedExample(TypedDict):
    """The value that one row was rejected for, the form that it seems to have, and what to do about it.

    `value` is cut to a bounded length, and None where the reason says all of it. `looks_like` is None where
    nothing can be guessed. The line is that of the row in its file.
    """

    line: int
    value: str | None
    looks_like: str | None
    remedy: str


class FileCounts(TypedDict):
    """The outcome of one stream file; rows = valid + rejected.

    `lines` is None if the file was not read to its end.
    """

    rows: int
    valid: int
    rejected: int
    rejected_by_reason: dict[str, int]
    extra_columns: list[str]
    lines: LineCounts | None
    # archive: accepted; quarantine: rejected as a whole; left: the next run takes the file, because it
    # changed after it was listed or cannot be read
    disposition: str
    reason: str | None
    # time of the newest valid listen, if the file is accepted and has one
    newest_listen: NotRequired[str]
    # hex digest of the file, if all of it was read
    sha256: NotRequired[str]
    sample_of_rejected_rows: NotRequired[list[dict[str, Any]]]
    # by reason, as in rejected_by_reason
    rejected_examples: NotRequired[dict[str, RejectedExample]]


class FileOutcome(FileCounts):
    """The outcome of a stream file, with its index in the run's manifest."""

    index: int


class Check(TypedDict):
    """One check of a run.

    `value` and `limit` are fractions, counts or days; `name` says which. `value` is None if there is nothing
    to compare with. `message` describes the problem and is empty if the check passed.
    """

    name: str
    value: float | None
    limit: float | None
    verdict: str
    message: str


class CatalogSummary(TypedDict):
    """One catalog as the run used it; `notes` counts values that were ignored or replaced."""

    objects: list[str]
    rows: int
    files: list[str]
    notes: dict[str, int]


class ListensSummary(TypedDict):
    """The validated listens that the Glue job reads."""

    objects: list[str]
    rows: int


class InputManifest(TypedDict):
    """Lists the Glue job's input and each file's destination; written last under the run's input prefix.

    `reprocess_dates` are days to reprocess without new listens. `checks` are the checks of the input; those
    that would have stopped the run were accepted by its parameter `accept_checks`. `newest_day_before` is the
    newest day of the last complete run, `frozen_at_before` the time when that run listed its files.
    """

    run_key: str
    frozen_at: str
    listens: ListensSummary
    songs: CatalogSummary
    users: CatalogSummary
    outcomes: list[FileOutcome]
    reprocess_dates: list[str]
    checks: list[Check]
    accept_checks: bool
    newest_day_before: str | None
    frozen_at_before: NotRequired[str | None]


class MovedInput(TypedDict):
    """A reference to the run's input, with its number of validated listens."""

    run_key: str
    rows: int


class CombinedPart(TypedDict):
    """A reference to one part's combined records, with counts."""

    run_key: str
    part: int
    files: int
    rows: int


class ValidatedPart(TypedDict):
    """A reference to one part's validated rows, with counts over its files."""

    run_key: str
    part: int
    files: int
    rows: int
    valid: int
    rejected: int


class DayCounts(TypedDict):
    """One listen day of a Glue job run; `history_objects` names the history objects that it read."""

    rows_read: int
    new: int
    repeated: int
    added: int
    total: int
    history_objects: list[str]


class GlueSummary(TypedDict):
    """The Glue job's summary; `objects` maps keys below the output prefix to sizes in bytes."""

    batch_id: str
    computed_at: str
    rows_read: int
    new: int
    repeated: int
    days: dict[str, DayCounts]
    objects: dict[str, int]


class StoredKpis(TypedDict):
    """Counts of a run's writes and the checks of its KPIs; `versions` has the version of each written day."""

    run_key: str
    items_written: int
    items_deleted: int
    versions: dict[str, int]
    checks: list[Check]


class Stamp(TypedDict):
    """Attributes of every item that identify the computation it comes from."""

    run_key: str
    computed_at: str
    version: int
    catalogs_frozen_at: str


class ReportedFile(ObjectVersion, FileCounts):
    """One stream file: its version, its outcome, and its key in the archive bucket.

    `destination` is None for a file that stays in the source.
    """

    destination: str | None


class ReportTotals(TypedDict):
    """Sums over the run's files: files = archived + quarantined + left, rows = valid + rejected.

    A run that published KPIs also has valid = new + repeated, and `late`: new listens of days that were over
    when an earlier run listed its files, and that had been computed. They changed numbers that counted as
    final.
    """

    files: int
    archived: int
    quarantined: int
    left: int
    rows: int
    valid: int
    rejected: int
    rejected_by_reason: dict[str, int]
    new: NotRequired[int]
    repeated: NotRequired[int]
    late: NotRequired[int]


class GlueUsage(TypedDict):
    """The capacity that a run's Glue job runs used, failed ones too, and its estimated cost."""

    job_runs: int
    dpu_seconds: float
    estimated_usd: float


class ReportedDay(TypedDict):
    """One listen day that the run computed; `version` is that of the day's items, None if it has none."""

    rows_read: int
    new: int
    repeated: int
    total: int
    version: int | None


class ReportedCatalog(TypedDict):
    """One catalog that the run used; `notes` counts values that were ignored or replaced."""

    files: list[str]
    rows: int
    notes: dict[str, int]


class RunEnding(TypedDict):
    """How a run ended that wrote no report, for those who look at runs without Airflow.

    `state` is "failed" or "skipped", and `task_id` names the task that ended it. The task may be cleared
    later: a report, or a manifest that is newer, says more than this. `section` is that of docs/runbook.md;
    it and `next_step` are empty where there is nothing to do.
    """

    run_key: str
    dag_run_id: str
    state: str
    task_id: str
    ended_at: str
    reason: str
    next_step: str
    section: str


class Erasure(TypedDict):
    """Users that were forgotten, see include/forget; it says how many, and never which.

    `days` has the number of distinct listens that the history of each day lost; the pipeline subtracts it
    before it looks for a loss. `finished_at` is None until every copy is gone. Until then, `user_ids` makes
    it possible to resume an interrupted erasure; the finished record lacks it.
    """

    erasure_id: str
    started_at: str
    finished_at: str | None
    users: int
    days: dict[str, int]
    user_ids: NotRequired[list[str]]


class RefusedUsers(TypedDict):
    """Forgotten users whose later files are refused, as hex digests of salt and id, so that no id is kept."""

    salt: str
    sha256: list[str]


class RunReport(TypedDict):
    """The run report, written last; the run is complete once it exists.

    A run that published nothing has no days, catalogs, checks or items. Reports from before `schema_version`
    was introduced lack that field; if their run published nothing, they also lack `catalogs` and all later
    fields except `completed_at`.

    `newest_listen` is the time of the newest accepted listen, None if there is none. `glue` is None if Glue
    could not be asked. Older reports lack both.
    """

    schema_version: NotRequired[int]
    run_key: str
    dag_run_id: str
    frozen_at: str
    status: str
    totals: ReportTotals
    days: dict[str, ReportedDay]
    files: list[ReportedFile]
    ignored_keys: list[str]
    catalogs: dict[str, ReportedCatalog]
    checks: list[Check]
    accept_checks: bool
    reprocess_dates: list[str]
    kpi_items_written: int
    kpi_items_deleted: int
    newest_listen: NotRequired[str | None]
    glue: NotRequired[GlueUsage | None]
    completed_at: str
