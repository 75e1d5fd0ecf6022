"""Shared names: prefixes of the source bucket, columns, and the suffixes of CSV files."""

from __future__ import annotations

STREAMS_PREFIX = "streams/"
SONGS_PREFIX = "songs/"
USERS_PREFIX = "users/"

STREAM_COLUMNS = ("user_id", "track_id", "listen_time")
SONG_COLUMNS = ("track_id", "track_name", "artists", "track_genre", "duration_ms")
USER_COLUMNS = ("user_id", "user_country")

ALL_GENRES = "ALL_GENRES"
# Index of the KPI table: a genre's days in order.
KPI_INDEX = "track_genre-date-index"

CSV_SUFFIXES = (".csv", ".csv.gz")


def is_csv(key: str) -> bool:
    """Return whether the name has the suffix of a CSV file, gzipped or not, in any case."""
    return key.lower().endswith(CSV_SUFFIXES)


def split_suffix(key: str) -> tuple[str, str]:
    """Split off the name's CSV suffix and keep its spelling; the suffix is empty if there is none."""
    length = max((len(suffix) for suffix in CSV_SUFFIXES if key.lower().endswith(suffix)), default=0)
    return key[: len(key) - length], key[len(key) - length :]
