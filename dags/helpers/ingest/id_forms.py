"""Finds ids that the catalogs write in another form, such as `spotify:track:t1` for `t1` or `7.0` for `7`."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow as pa
from pyarrow import compute as pc

from helpers.contract.records import IN_ANOTHER_FORM, PASSED, WARNED, Check

# All ids of a sender share one form, so a sample shows it; more ids would only take longer.
SAMPLE_SIZE = 500
# URIs add a prefix that ends in a colon or slash; spreadsheets add a fraction of zero.
_DRESS = r"^.*[:/]|\.0$"


class IdSample:
    """A sample of ids from a run's listens, which are looked up in a catalog in any form."""

    def __init__(self, kind: str, ids: Iterable[str]) -> None:
        """Keep the distinct ids; their kind is `track` or `user`."""
        self._kind = kind
        self._ids = sorted(set(ids))
        self._bare = pa.array([_bare(text) for text in self._ids], pa.string())
        self._known: set[str] = set()
        self._alike: dict[str, str] = {}

    def look_up(self, catalog_ids: pa.ChunkedArray) -> None:
        """Look up the ids in the next rows of the catalog."""
        if not self._ids:
            return
        found = pc.is_in(pa.array(self._ids, pa.string()), catalog_ids)
        self._known.update(text for text, known in zip(self._ids, found.to_pylist(), strict=True) if known)
        bare_ids = pc.utf8_lower(pc.replace_substring_regex(catalog_ids, _DRESS, ""))
        for text, position in zip(self._ids, pc.index_in(self._bare, bare_ids).to_pylist(), strict=True):
            if position is not None:
                self._alike.setdefault(text, catalog_ids[position].as_py())

    def check(self) -> Check:
        """Warn if ids are in the catalog only without prefix or `.0`, or in another case."""
        alike = [(text, self._alike[text]) for text in self._ids if text in self._alike.keys() - self._known]
        message = ""
        if alike:
            (text, in_catalog), *_ = alike
            message = (
                f"{len(alike):,} of {len(self._ids):,} sampled {self._kind} ids are in the catalog, but in "
                f"another form: {text!r} as {in_catalog!r}; {_difference(text, in_catalog)}. They do not "
                "match: write both in one form"
            )
        return Check(
            name=f"{self._kind}_{IN_ANOTHER_FORM}",
            value=len(alike),
            limit=0,
            verdict=WARNED if alike else PASSED,
            message=message,
        )


def _difference(text: str, in_catalog: str) -> str:
    """Say how two ids with the same core differ."""
    for where, one, other in (("the stream files", text, in_catalog), ("the catalog", in_catalog, text)):
        if one.endswith(".0") and not other.endswith(".0"):
            return f"ids of {where} end in .0, as tools write whole numbers of a column with gaps"
        if len(one) > len(other):
            return f"ids of {where} begin with {one[: len(one) - len(other)]!r}"
    return "they differ in case"


def _bare(text: str) -> str:
    return re.sub(_DRESS, "", text).lower()
