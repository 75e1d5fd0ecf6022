"""The scenarios that the pipeline must survive, and what was tried in this session.

A test is an instance of those that its marker names: `@pytest.mark.scenarios(4, 5)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

NAMES = {
    1: "File lands after the list was frozen",
    2: "Overwritten between listing and reading",
    3: "Overwritten between reading and archiving",
    4: "Same bytes again under the same key",
    5: "Same bytes under another key",
    6: "Overlapping events across files",
    7: "Same file name every day with other content",
    8: "Incomplete multipart upload",
    9: "Truncated file",
    10: "Zero bytes, header only, folder marker, non-CSV",
    11: "More than 1,000 keys",
    12: "Keys with spaces, unicode, + % [ *",
    13: "Late event for an old day",
    14: "No files, or none that is a CSV",
    15: "Missing or renamed column",
    16: "Extra or reordered columns",
    17: "Bad type, empty id, impossible timestamp",
    18: "BOM, CRLF, quotes, encodings, NUL, delimiters",
    19: "Too many bad rows",
    20: "Track or user not in the catalog",
    21: "Midnight, offsets",
    22: "Gzip, and a gzip bomb",
    23: "SIGKILL before and after every AWS call",
    24: "Crash in the middle of the DynamoDB write",
    25: "Lost answer on a conditional PUT",
    26: "Lost answer on StartJobRun",
    27: "Glue succeeded but the task died",
    28: "Glue dies midway",
    29: "Glue STOPPED, ERROR, TIMEOUT, EXPIRED, FAILED",
    30: "Glue SUCCEEDED, output missing or partial",
    31: "A zombie attempt beside its retry",
    32: "Two DAG runs overlap",
    33: "Any task cleared after success, also of a running run",
    34: "Archived but not deleted",
    35: "Deleted but not recorded",
    36: "Archive incomplete",
    37: "Bucket set to be both source and archive",
    38: "503, SlowDown, throttling, lost connection",
    39: "UnprocessedItems",
    40: "Two items with one key in a write",
    41: "Float, NaN, empty key, item over 400 KB",
    42: "An older run or a zombie writes last",
    43: "A genre disappears after a correction",
    44: "AccessDenied or expired credentials in mid-run",
    45: "Missing variable, bucket, table",
}


class Scenarios:
    """Counts injections by scenario."""

    def __init__(self) -> None:
        self.tried: Counter[int] = Counter()
        self.survived: Counter[int] = Counter()
        self.kill_points: Counter[bool] = Counter()

    def record(self, numbers: Iterable[int], survived: bool) -> None:
        """Count one injection for each of the scenarios that it is an instance of."""
        for number in numbers:
            self.tried[number] += 1
            self.survived[number] += survived

    def record_kill_point(self, survived: bool) -> None:
        """Count one AWS call before or after which the process was killed."""
        self.kill_points[survived] += 1

    @property
    def missing(self) -> list[int]:
        """The scenarios of which nothing was tried, or not all of it survived."""
        return [number for number in NAMES if not 0 < self.tried[number] == self.survived[number]]

    def table(self) -> Sequence[str]:
        """Return the lines of the table, and what they come to."""
        rows = [
            f"{number:>4}  {name:<51} {self.tried[number]:>6} {self.survived[number]:>9}"
            for number, name in NAMES.items()
        ]
        missing = self.missing
        return [
            f"{'':>4}  {'scenario':<51} {'tried':>6} {'survived':>9}",
            *rows,
            f"Kill points survived: {self.kill_points[True]} of {self.kill_points.total()}",
            f"Scenarios survived: {len(NAMES) - len(missing)} of {len(NAMES)}"
            + (f"; not {', '.join(map(str, missing))}" if missing else ""),
        ]
