"""Plausibility checks of the data that a run would publish; `glue_output` checks that its counts add up.

Each check has a value, a limit and a verdict. A check that fails stops the run before anything is written or
archived, so the source files are still there. A check that only warns goes into the run report and a message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any

from helpers.contract.figures import FAR_OFF
from helpers.contract.names import ALL_GENRES
from helpers.contract.records import (
    ACCEPTED,
    IN_ANOTHER_FORM,
    PASSED,
    STOPPED,
    WARNED,
    CatalogSummary,
    Check,
    FileOutcome,
    Manifest,
    RunReport,
)
from helpers.contract.rejections import rejections
from helpers.contract.settings import PipelineConfig
from helpers.contract.wording import counted
from helpers.errors import ChecksStoppedError

# A day is compared with the same weekday of this many earlier weeks, if enough of them have listens.
WEEKS_COMPARED = 4
_WEEKS_NEEDED = 2
# Only the newest days are compared, because days of a backfill have no usual number.
DAYS_COMPARED = 7
_OLD = timedelta(days=7)


def check_files(
    manifest: Manifest,
    outcomes: Sequence[FileOutcome],
    config: PipelineConfig,
    last_report: RunReport | None,
) -> list[Check]:
    """Check the delivered files: quarantined, rejected and left shares, and changed columns."""
    files: dict[str, list[tuple[str, FileOutcome]]] = {"archive": [], "quarantine": [], "left": []}
    sizes: Counter[str] = Counter()
    for outcome in outcomes:
        version = manifest["streams"][outcome["index"]]
        files[outcome["disposition"]].append((version["key"], outcome))
        sizes[outcome["disposition"]] += version["size"]
    why = {disposition: rejections(of_it) for disposition, of_it in files.items()}
    fraction = _fraction(sizes["quarantine"], sizes["quarantine"] + sizes["archive"])
    return [
        _at_most(
            "quarantined_bytes_fraction",
            fraction,
            config.max_quarantined_fraction,
            f"{fraction:.1%} of the delivered bytes would go to quarantine ({why['quarantine']}). Correct "
            "the files",
        ),
        _warn_above_zero(
            "quarantined_files", len(files["quarantine"]), "file", f"in quarantine ({why['quarantine']})"
        ),
        _warn_above_zero("left_files", len(files["left"]), "file", f"left in the source ({why['left']})"),
        _warn_above_zero(
            "rejected_rows",
            sum(outcome["rejected"] for _, outcome in files["archive"]),
            "row",
            f"of accepted files in quarantine ({why['archive']})",
        ),
        _columns_check(outcomes, last_report),
    ]


def check_catalogs(
    manifest: Manifest,
    catalogs: Mapping[str, CatalogSummary],
    config: PipelineConfig,
    last_report: RunReport | None,
) -> list[Check]:
    """Check the catalogs: size compared with the last complete run, unreadable durations, age."""
    checks = []
    for name, catalog in catalogs.items():
        before = last_report["catalogs"][name]["rows"] if last_report else None
        shrinkage = max(0.0, 1 - catalog["rows"] / before) if before else None
        checks.append(
            _at_most(
                f"{name}_shrinkage_fraction",
                shrinkage,
                config.max_catalog_shrinkage,
                f"The {name} catalog shrank from {before or 0:,} rows to {catalog['rows']:,}. Every run "
                "needs the whole catalog: upload it",
            )
        )
    songs = catalogs["songs"]
    unreadable = songs["notes"].get("unreadable duration_ms", 0)
    checks.append(
        _at_most(
            "unreadable_durations_fraction",
            _fraction(unreadable, songs["rows"]),
            config.max_rejected_fraction,
            f"{unreadable:,} of {songs['rows']:,} durations of the songs catalog cannot be read. duration_ms "
            "is a whole number of milliseconds, such as 180000: correct the catalog",
        )
    )
    versions = [*manifest["songs"], *manifest["users"]]
    frozen_at = datetime.fromisoformat(manifest["frozen_at"])
    oldest = min(versions, key=lambda version: version["last_modified"])
    age = (frozen_at - datetime.fromisoformat(oldest["last_modified"])).days
    message = f"The catalog file {oldest['key']} is {age} days old. Upload the current catalog"
    checks.append(_check("catalog_age_days", age, config.max_catalog_age_days, WARNED, message))
    return checks


def check_kpis(
    records: Iterable[Mapping[str, Any]],
    config: PipelineConfig,
) -> list[Check]:
    """Check which fractions of the computed days' listens have an unknown track or an unknown user."""
    totals = [record for record in records if record["track_genre"] == ALL_GENRES]
    listens = sum(int(record["listen_count"]) for record in totals)
    checks = []
    for catalog, kind in (("songs", "track"), ("users", "user")):
        unmatched = sum(int(record[f"unmatched_{kind}_listens"]) for record in totals)
        checks.append(
            _at_most(
                f"unmatched_{kind}s_fraction",
                _fraction(unmatched, listens),
                config.max_unmatched_fraction,
                f"{unmatched:,} of {listens:,} listens have a {kind} that the {catalog} catalog lacks. "
                f"Upload the whole catalog, with {kind} ids as in the stream files",
            )
        )
    return checks


def check_days(
    totals: Mapping[str, int],
    usual: Mapping[str, Sequence[int]],
    frozen_at: str,
    newest_before: str | None,
) -> list[Check]:
    """Warn about days whose listens differ widely from the same weekday's, and about days long past.

    Args:
        totals: listens by day, as the run would publish them.
        usual: listens of the same weekday in earlier weeks, by day.
        frozen_at: when the run listed its files; a day that had not ended by then is not compared.
        newest_before: the newest day of the last complete run.
    """
    far_off = {}
    for day, earlier in usual.items():
        if len(earlier) >= _WEEKS_NEEDED and day < frozen_at[:10]:
            ratio = totals[day] / max(median(earlier), 1)
            if not 1 / FAR_OFF <= ratio <= FAR_OFF:
                far_off[day] = (
                    f"{day} has {totals[day]:,} listens, the same weekday had {median(earlier):,.0f}"
                )
    newest = max([*totals, newest_before or ""], default="")
    old = [day for day in sorted(totals) if date.fromisoformat(newest) - date.fromisoformat(day) > _OLD]
    return [
        _warn_above_zero(
            "days_far_from_usual", len(far_off), "unusual day", f"({'; '.join(far_off.values())})"
        ),
        _warn_above_zero("old_days", len(old), "day", f"older than a week ({', '.join(old[:10])})"),
    ]


# Warnings about what a run puts into quarantine.
OF_QUARANTINE = ("quarantined_files", "rejected_rows")


def stop_unless_passed(checks: Sequence[Check], accepted: bool) -> list[Check]:
    """Return the checks; `accepted` marks failed checks as accepted instead of stopping the run.

    Raises:
        ChecksStoppedError: a check stops the run.
    """
    stopped = [check for check in checks if check["verdict"] == STOPPED]
    if stopped and not accepted:
        # A stopped run puts nothing into quarantine, so these warnings do not apply to it.
        warned = [
            check for check in checks if check["verdict"] == WARNED and check["name"] not in OF_QUARANTINE
        ]
        # Ids in another form come first: they are the reason why a catalog seems to lack them.
        reasons = sorted([*stopped, *warned], key=lambda check: not check["name"].endswith(IN_ANOTHER_FORM))
        raise ChecksStoppedError(
            f"The run's numbers cannot be trusted: {' '.join(check['message'] + '.' for check in reasons)} "
            "Correct what is named and trigger a new run, or trigger one with the parameter accept_checks to "
            "accept the data. Clearing this task does not help. Nothing was written or archived, and the "
            "stream files wait in the source."
        )
    return [check | {"verdict": ACCEPTED} if check["verdict"] == STOPPED else check for check in checks]


def notable(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that warned, stopped the run or were accepted."""
    return [check for check in checks if check["verdict"] != PASSED]


def _at_most(name: str, value: float | None, limit: float, message: str) -> Check:
    limits = "" if value is None else f" ({name} is {value:.4g}, the limit {limit:g})"
    return _check(name, value, limit, STOPPED, message + limits)


def _warn_above_zero(name: str, value: int, noun: str, rest: str) -> Check:
    return _check(name, value, 0, WARNED, f"{counted(value, noun)} {rest}")


def _check(name: str, value: float | None, limit: float, verdict: str, message: str) -> Check:
    exceeded = value is not None and value > limit
    return Check(
        name=name,
        value=None if value is None else round(value, 6),
        limit=limit,
        verdict=verdict if exceeded else PASSED,
        message=message if exceeded else "",
    )


def _columns_check(outcomes: Sequence[FileOutcome], last_report: RunReport | None) -> Check:
    now = {name for outcome in outcomes for name in outcome["extra_columns"]}
    files = last_report["files"] if last_report else []
    before = {name for file in files for name in file["extra_columns"]}
    added, gone = (sorted(now - before), sorted(before - now)) if files else ([], [])
    parts = [f"new {', '.join(added)}"] * bool(added) + [f"missing {', '.join(gone)}"] * bool(gone)
    return _warn_above_zero(
        "changed_columns",
        len(added) + len(gone),
        "optional column",
        f"changed since the last run: {'; '.join(parts)}",
    )


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
