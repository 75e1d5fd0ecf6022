"""The rules that decide whether a row of a stream file is valid."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc

from helpers.contract.names import STREAM_COLUMNS
from helpers.contract.records import RejectedExample
from helpers.contract.rejections import make_example
from helpers.ingest.catalogs import MAX_TEXT_BYTES
from helpers.ingest.csv_quoting import (
    SEPARATE_BY_COMMAS,
    WRONG_NUMBER_OF_FIELDS,
    how_to_correct,
    other_delimiter,
)
from helpers.ingest.time_forms import guess_time_form

LISTEN_TIME = pa.timestamp("us", tz="UTC")
VALID_SCHEMA = pa.schema(
    [("file", pa.int32()), ("user_id", pa.string()), ("track_id", pa.string()), ("listen_time", LISTEN_TIME)]
)

# ISO 8601 date and time, separated by a blank or T; up to 6 fraction digits; an optional offset.
_LISTEN_TIME_PATTERN = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}(:?\d{2})?)?$"
_OFFSET_PATTERN = r"(Z|[+-]\d{2}(:?\d{2})?)$"
# Fast path: `YYYY-MM-DD HH:MM:SS`, 1970 to 2199, except 29 February.
_PLAIN_TIME_PATTERN = (
    r"^(?:19[7-9]|2[01]\d)\d-"
    r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r" (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d$"
)
# A time outside these years comes from a wrong clock or format of the sender.
_EARLIEST = pd.Timestamp("1970-01-01", tz="UTC")
_LATEST = pd.Timestamp("2200-01-01", tz="UTC")
_BOM = codecs.BOM_UTF8
# Exporters write this time for "no time".
_EPOCH = _EARLIEST
INVALID_TIME = "invalid listen_time"
# The form of rejected values is guessed from the first rows; more rows would only take longer.
_LOOKED_AT = 100


@dataclass(frozen=True)
class ExactRows:
    """Records for a closer look: as delivered, with trimmed ids and parsed times (null if unreadable)."""

    records: pd.DataFrame
    user_id: pd.Series[Any]
    track_id: pd.Series[Any]
    listen_time: pd.Series[Any]
    latest: datetime


@dataclass(frozen=True)
class GlancedRows:
    """Whole columns for a glance: trimmed ids, and times, which are null unless in the most common form.

    Malformed records have null in all three.
    """

    user_id: pa.ChunkedArray
    track_id: pa.ChunkedArray
    listen_time: pa.ChunkedArray
    latest: datetime


@dataclass(frozen=True)
class RowRule:
    """A condition for valid rows, with an exact check and a cheap check at a glance.

    Attributes:
        reason: the fault of a row that breaks the rule; reports count rows by it.
        column: the column of such a row to show in messages; None if the reason says enough.
        remedy: the correction that the sender should make.
        is_broken: true for each row that breaks the rule.
        holds_at_a_glance: a cheap check, true for each row that surely keeps the rule; null and false send
            the row to the closer look. Without this check every row goes there, which is many times slower.
    """

    reason: str
    column: str | None
    remedy: str
    is_broken: Callable[[ExactRows], pd.Series[Any]]
    holds_at_a_glance: Callable[[GlancedRows], Any] | None = None


# The order matters: the first rule that a row breaks is its reason.
RULES = [
    # Reports show the reader's own reason in place of this one.
    RowRule(
        "malformed record",
        "malformed_record",
        "correct the line",
        lambda rows: rows.records["malformed_record"].notna(),
        lambda rows: pc.is_valid(rows.user_id),
    ),
    RowRule(
        "NUL character",
        None,
        "remove the character, which comes from a damaged file or one that is not text",
        lambda rows: _contains(rows.records, "\0"),
        # A time that is valid at a glance has neither this character nor the next rule's mark.
        lambda rows: _lack(0, rows.user_id, rows.track_id),
    ),
    RowRule(
        "byte order mark",
        None,
        "remove the mark, which joining files leaves behind",
        lambda rows: _contains(rows.records, _BOM.decode()),
        lambda rows: _lack(_BOM[0], rows.user_id, rows.track_id),
    ),
    RowRule(
        "empty user_id",
        None,
        "fill it in or delete the row",
        lambda rows: rows.user_id == "",
        lambda rows: pc.not_equal(rows.user_id, ""),
    ),
    RowRule(
        "empty track_id",
        None,
        "fill it in or delete the row",
        lambda rows: rows.track_id == "",
        lambda rows: pc.not_equal(rows.track_id, ""),
    ),
    # The id goes into the item of a genre even if no catalog has it, and an item has limited room.
    RowRule(
        "track_id too long",
        "track_id",
        f"write the track's id, which has at most {MAX_TEXT_BYTES:,} bytes",
        lambda rows: _size_in_bytes(rows.track_id) > MAX_TEXT_BYTES,
        lambda rows: pc.less_equal(pc.binary_length(rows.track_id), MAX_TEXT_BYTES),
    ),
    RowRule(
        INVALID_TIME,
        "listen_time",
        "write it like 2024-06-25 17:43:13 (UTC) or 2024-06-25T19:43:13+02:00",
        lambda rows: rows.listen_time.isna(),
        lambda rows: _is_plausible(rows.listen_time),
    ),
    RowRule(
        "listen_time is 1970-01-01 00:00:00, which stands for no time",
        None,
        "fill in the time or delete the row",
        lambda rows: rows.listen_time == _EPOCH,
        lambda rows: pc.not_equal(rows.listen_time, pa.scalar(_EPOCH, LISTEN_TIME)),
    ),
    RowRule(
        "listen_time more than a day after the run",
        "listen_time",
        "correct the sender's clock or time zone, and the time",
        lambda rows: rows.listen_time > rows.latest,
        lambda rows: pc.less_equal(rows.listen_time, pa.scalar(rows.latest, LISTEN_TIME)),
    ),
]


def split_plain_rows(records: pa.Table, latest: datetime) -> tuple[pa.Table, pa.Table]:
    """Split combined records into those that are valid at a glance and those that need a closer look.

    A glance checks whole columns. Plain rows have `VALID_SCHEMA`: they keep all `RULES` at a glance, for
    which the time must be like `2024-06-25 17:43:13`. The other rows, bad or valid, are unchanged records.
    """
    if not all(rule.holds_at_a_glance for rule in RULES):
        return VALID_SCHEMA.empty_table(), records
    user_id, track_id = (pc.utf8_trim_whitespace(records[name]) for name in ("user_id", "track_id"))
    rows = GlancedRows(user_id, track_id, _plain_times(records["listen_time"]), latest)
    is_plain = reduce(pc.and_, (rule.holds_at_a_glance(rows) for rule in RULES if rule.holds_at_a_glance))
    columns = [records["file"], user_id, track_id, rows.listen_time]
    if pc.all(is_plain, skip_nulls=False).as_py():
        return pa.Table.from_arrays(columns, schema=VALID_SCHEMA), records.schema.empty_table()
    is_plain = pc.fill_null(is_plain, False)
    plain = pa.Table.from_arrays([column.filter(is_plain) for column in columns], schema=VALID_SCHEMA)
    return plain, records.filter(pc.invert(is_plain))


def _plain_times(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the instants of texts like `2024-06-25 17:43:13`, null for texts in another form."""
    times = _cast_if_19_long(texts)
    if times is None:
        is_plain = pc.match_substring_regex(texts, _PLAIN_TIME_PATTERN)
        times = pc.if_else(is_plain, texts, pa.scalar(None, pa.string())).cast(pa.timestamp("us"))
    return times.cast(LISTEN_TIME)


def _lack(byte: int, *columns: pa.ChunkedArray) -> pa.Array | pa.Scalar:
    """True for each row that surely lacks the byte in all columns; one search covers all rows."""
    found = np.concatenate([_rows_with(byte, column.combine_chunks()) for column in columns])
    if not len(found):
        return pa.scalar(True)
    lacks = np.ones(len(columns[0]), np.bool_)
    lacks[found] = False
    return pa.array(lacks)


def _rows_with(byte: int, texts: pa.Array) -> npt.NDArray[np.intp]:
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return np.array([], np.intp)
    positions = np.flatnonzero(np.frombuffer(data, np.uint8) == byte)
    ends = np.frombuffer(offsets, np.int32)[texts.offset + 1 :]
    rows = np.searchsorted(ends, positions, side="right")
    return rows[rows < len(texts)]


def check_rows(records: pd.DataFrame, latest: datetime) -> pd.DataFrame:
    """Apply `RULES` to combined records (Arrow dtypes); no listen is later than `latest`.

    Returns the records with trimmed ids, `listen_time` as a UTC instant, and `reason`: why the row is
    rejected (the first rule that it breaks), null if it is valid.
    """
    rows = ExactRows(
        records,
        records["user_id"].str.strip(),
        records["track_id"].str.strip(),
        parse_listen_times(records["listen_time"].str.strip()),
        latest,
    )
    broken = [rule.is_broken(rows).fillna(False).to_numpy(dtype=bool) for rule in RULES]
    reason: Any = pd.Series(pd.NA, index=records.index, dtype=pd.ArrowDtype(pa.string()))
    if any(rule.any() for rule in broken):
        reasons = np.select(broken, [rule.reason for rule in RULES], None)  # type: ignore[arg-type]
        reason = pd.Series(reasons, index=records.index).astype(reason.dtype)
        reason = reason.where(records["malformed_reason"].isna(), records["malformed_reason"])
    return records.assign(
        user_id=rows.user_id, track_id=rows.track_id, listen_time=rows.listen_time, reason=reason
    )


def example_of(reason: str, rejected: pd.DataFrame) -> RejectedExample:
    """Return an example from rows that were all rejected for the reason; `rejected` has their lines."""
    rule = next((rule for rule in RULES if rule.reason == reason), None)
    column, remedy = (rule.column, rule.remedy) if rule else ("malformed_record", how_to_correct(reason))
    looked_at = rejected.head(_LOOKED_AT)
    position, looks_like = 0, None
    if reason == INVALID_TIME:
        position, looks_like = guess_time_form(looked_at["listen_time"].str.strip())
    row = looked_at.iloc[position]
    if reason == WRONG_NUMBER_OF_FIELDS and (delimiter := other_delimiter(row["malformed_record"])):
        looks_like, remedy = f"a {delimiter}-separated row", SEPARATE_BY_COMMAS
    return make_example(int(row["line"]), row[column].strip() if column else None, remedy, looks_like)


def parse_listen_times(texts: pd.Series[Any]) -> pd.Series[Any]:
    """Return the instants (UTC, microseconds) of trimmed texts, null for texts that are not a time.

    `YYYY-MM-DD HH:MM:SS` or ISO 8601 with `T`, up to 6 fraction digits and an offset; no offset means UTC.
    """
    strings = pa.array(texts, pa.string())
    times = _cast_if_19_long(strings)
    if times is None:
        well_formed = pc.match_substring_regex(strings, _LISTEN_TIME_PATTERN)
        candidates = pc.if_else(well_formed, strings, pa.scalar(None, pa.string()))
        times = _cast(candidates, pa.timestamp("us"))
        if times is None:
            # The Z is explicit, since pandas gives a time without an offset the offset of an earlier time.
            in_utc = pc.binary_join_element_wise(candidates, "Z", "")
            candidates = pc.if_else(pc.match_substring_regex(candidates, _OFFSET_PATTERN), candidates, in_utc)
            parsed = pd.to_datetime(candidates.to_pandas(), format="ISO8601", utc=True, errors="coerce")
            times = pa.array(parsed.dt.as_unit("us"), LISTEN_TIME)
    instants = times.cast(LISTEN_TIME)
    instants = pc.if_else(_is_plausible(instants), instants, pa.scalar(None, LISTEN_TIME))
    return pd.Series(instants, index=texts.index, dtype=pd.ArrowDtype(LISTEN_TIME))


def _cast(strings: pa.Array, kind: pa.DataType) -> pa.Array | None:
    with suppress(pa.ArrowInvalid):
        return pc.cast(strings, kind)
    return None


def _cast_if_19_long(strings: pa.Array) -> pa.Array | None:
    """Return the times of texts, or None unless all are times as long as `2024-06-25 17:43:13`."""
    have_length = pc.all(pc.equal(pc.binary_length(strings), 19), skip_nulls=False).as_py()
    return _cast(strings, pa.timestamp("us")) if have_length else None


def _is_plausible(instants: pa.Array) -> pa.Array:
    # Arrow compares them, since it supports years that Python's datetime does not.
    earliest, latest = (pa.scalar(limit, LISTEN_TIME) for limit in (_EARLIEST, _LATEST))
    return pc.and_(pc.greater_equal(instants, earliest), pc.less(instants, latest))


def _size_in_bytes(texts: pd.Series[Any]) -> pd.Series[Any]:
    sizes = pc.binary_length(pa.array(texts, pa.string()))
    return pd.Series(sizes, index=texts.index, dtype=pd.ArrowDtype(pa.int32()))


def _contains(records: pd.DataFrame, text: str) -> pd.Series[Any]:
    found = [records[column].str.contains(text, regex=False).fillna(False) for column in STREAM_COLUMNS]
    return found[0] | found[1] | found[2]
