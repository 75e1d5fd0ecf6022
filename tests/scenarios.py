"""The scenarios that the pipeline must survive, and those that were tried in this session.

A test is an instance of the scenarios of its marker: `@pytest.mark.scenarios(4, 5)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
    46: "Quote that is never closed",
    47: "Stray quotes, text after a quote, line break in an id",
    48: "Quoted value that may be several records",
    49: "Quotes escaped by a backslash",
    50: "Several byte order marks, header names alike",
    51: "CSV broken at random",
    52: "Most tracks or users are in no catalog",
    53: "Catalog shrank, or its durations cannot be read",
    54: "Most of the delivered bytes are rejected",
    55: "Unusual days, columns, ids; data in quarantine",
    56: "Only files that hold nothing but a header",
    57: "Suffixes in capitals, objects that are ignored",
    58: "Object that S3 does not hand out",
    59: "Key near S3's 1,024 bytes",
    60: "Genre, name or id too long for an item",
    61: "Time that stands for none, or lies in the future",
    62: "Run id of characters that S3 or a command refuses",
    63: "Complete run cleared while new files wait",
    64: "History loses objects of a day",
}


class Scenarios:
    """Counts injections by scenario."""

    def __init__(self) -> None:
        self._tried: Counter[int] = Counter()
        self._survived: Counter[int] = Counter()
        self._kill_points: Counter[bool] = Counter()

    def record(self, numbers: Iterable[int], survived: bool) -> None:
        """Count one injection for each of the scenarios that it is an instance of."""
        for number in numbers:
            self._tried[number] += 1
            self._survived[number] += survived

    def record_kill_point(self, survived: bool) -> None:
        """Count one AWS call before or after which the process was killed."""
        self._kill_points[survived] += 1

    def counts(self) -> list[dict[Any, int]]:
        """Return what was counted in a form that another process can `add`."""
        return [dict(counter) for counter in (self._tried, self._survived, self._kill_points)]

    def add(self, counts: Sequence[Mapping[Any, int]]) -> None:
        """Add the `counts` of another instance."""
        for counter, more in zip((self._tried, self._survived, self._kill_points), counts, strict=True):
            counter.update(more)

    @property
    def missing(self) -> list[int]:
        """The scenarios of which nothing was tried, or not all of it survived."""
        return [number for number in NAMES if not 0 < self._tried[number] == self._survived[number]]

    def table(self) -> Sequence[str]:
        """Return the lines of the table, with its totals."""
        rows = [
            f"{number:>4}  {name:<51} {self._tried[number]:>6} {self._survived[number]:>9}"
            for number, name in NAMES.items()
        ]
        missing = self.missing
        return [
            f"{'':>4}  {'scenario':<51} {'tried':>6} {'survived':>9}",
            *rows,
            f"Kill points survived: {self._kill_points[True]} of {self._kill_points.total()}",
            f"Scenarios survived: {len(NAMES) - len(missing)} of {len(NAMES)}"
            + (f"; not {', '.join(map(str, missing))}" if missing else ""),
        ]
