"""The Parquet schema of the KPI items; readers need it without the tasks' other dependencies."""

from __future__ import annotations

import pyarrow as pa

from helpers.contract.kpis import KPIS

_COUNT = pa.int64()
_MINUTES = pa.decimal128(20, 2)


def _top_list(**columns: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct({"rank": _COUNT, **columns}))


# The attributes of a KPI item except its day, which is in the key.
KPIS_SCHEMA = pa.schema(
    {
        "track_genre": pa.string(),
        **{kpi.attribute: _COUNT if kpi.is_whole else _MINUTES for kpi in KPIS},
        "top_3_songs_per_genre": _top_list(
            track_id=pa.string(), track_name=pa.string(), artists=pa.string(), listen_count=_COUNT
        ),
        "top_5_genres_per_day": _top_list(track_genre=pa.string(), listen_count=_COUNT),
        "top_5_countries_per_day": _top_list(
            user_country=pa.string(), listen_count=_COUNT, unique_listeners=_COUNT
        ),
        "unmatched_track_listens": _COUNT,
        "unmatched_user_listens": _COUNT,
        "run_key": pa.string(),
        "computed_at": pa.string(),
        "version": _COUNT,
        "catalogs_frozen_at": pa.string(),
    }
)
