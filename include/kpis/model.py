"""Typed contents of the KPI table. Fields have the names of the table's attributes; times are minutes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from helpers.contract.kpis import KpiValues

COMPLETE = "complete"


@dataclass(frozen=True)
class TopSong:
    """One of a genre's most played songs on a day."""

    rank: int
    track_id: str
    track_name: str
    artists: str
    listen_count: int


@dataclass(frozen=True)
class TopGenre:
    """One of a day's most played genres."""

    rank: int
    track_genre: str
    listen_count: int


@dataclass(frozen=True)
class TopCountry:
    """One of the countries with the most listens on a day; `unique_listeners` are its listeners."""

    rank: int
    user_country: str
    listen_count: int
    unique_listeners: int


@dataclass(frozen=True, kw_only=True)
class Kpis(KpiValues):
    """The KPIs of a genre, or of `ALL_GENRES`, on a UTC day.

    Attributes:
        status: the day's: `complete`, or `updating` while a run writes it, when some numbers are older.
        version: history objects that the day was computed from.
        computed_at: when Glue computed it, UTC.
        run_key: the run that wrote it.
    """

    date: date
    track_genre: str
    status: str
    version: int
    computed_at: datetime
    run_key: str


@dataclass(frozen=True, kw_only=True)
class GenreKpis(Kpis):
    """A genre's KPIs with its top songs."""

    top_3_songs_per_genre: tuple[TopSong, ...]


@dataclass(frozen=True, kw_only=True)
class DayKpis(Kpis):
    """A day's totals over all genres.

    Attributes:
        unmatched_track_listens: listens of tracks that are in no catalog.
        unmatched_user_listens: listens of users who are in no catalog.
    """

    top_5_genres_per_day: tuple[TopGenre, ...]
    top_5_countries_per_day: tuple[TopCountry, ...]
    unmatched_track_listens: int
    unmatched_user_listens: int


@dataclass(frozen=True)
class DayStatus:
    """A day in the table; see `Kpis.status`."""

    date: date
    status: str


@dataclass(frozen=True)
class Day:
    """Everything that the table has for a day.

    Attributes:
        genres: ordered by rank, then those without a rank.
        totals: None while the day is written for the first time.
    """

    date: date
    status: str
    genres: tuple[GenreKpis, ...]
    totals: DayKpis | None


@dataclass(frozen=True)
class Trend:
    """KPIs over a range of days, oldest first; `days` lists the days in the table."""

    days: tuple[DayStatus, ...]
    points: tuple[Kpis, ...]
