"""What the KPI table holds, typed. Fields are named after the table's attributes; times are minutes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

ALL_GENRES = "ALL_GENRES"
COMPLETE = "complete"


class Kpi(NamedTuple):
    """A number of the table: its attribute, what people call it, and its unit."""

    attribute: str
    label: str
    unit: str


KPIS = (
    Kpi("listen_count", "Listens", "listens"),
    Kpi("unique_listeners", "Listeners", "listeners"),
    Kpi("total_listening_time", "Listening time", "minutes"),
    Kpi("avg_listening_time_per_user", "Time per listener", "minutes per listener"),
    Kpi("genre_rank", "Rank", "rank by listens"),
)


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


@dataclass(frozen=True)
class Kpis:
    """The KPIs of a genre, or of `ALL_GENRES`, on a UTC day.

    Attributes:
        listen_count: listens.
        unique_listeners: distinct users.
        total_listening_time: minutes.
        avg_listening_time_per_user: minutes per listener.
        genre_rank: by listens among the day's genres; None for `Unknown` and for `ALL_GENRES`.
        status: the day's: `complete`, or `updating` while a run writes it, when some numbers are older.
        version: history objects that the day was computed from.
        computed_at: when Glue computed it, UTC.
        run_key: the run that wrote it.
    """

    date: date
    track_genre: str
    listen_count: int
    unique_listeners: int
    total_listening_time: Decimal
    avg_listening_time_per_user: Decimal
    genre_rank: int | None
    status: str
    version: int
    computed_at: datetime
    run_key: str


@dataclass(frozen=True)
class GenreKpis(Kpis):
    """A genre's KPIs with its top songs."""

    top_3_songs_per_genre: tuple[TopSong, ...]


@dataclass(frozen=True)
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
    """A day that the table has; see `Kpis.status`."""

    date: date
    status: str


@dataclass(frozen=True)
class Day:
    """All that the table has of a day.

    Attributes:
        genres: by rank, then those without one.
        totals: None while the day is written for the first time.
    """

    date: date
    status: str
    genres: tuple[GenreKpis, ...]
    totals: DayKpis | None


@dataclass(frozen=True)
class Trend:
    """KPIs over a range of days, oldest first; `days` are those of the range that the table has."""

    days: tuple[DayStatus, ...]
    points: tuple[Kpis, ...]
