"""A reference for the Glue job in DuckDB: from the same Parquet to the same listens and KPI items.

It handles a first batch, or the batch of a day with a history. In that case it writes no listens.

    python duckdb_job.py RUN_INPUT OUTPUT_FOLDER CORES [HISTORY_FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb

# Exact integers in hundredths of a minute, rounded half up like the Glue job.
MINUTES = """
CREATE MACRO minutes(ms, shared_by) AS
    (((ms * 2 + shared_by * 600) // (shared_by * 1200))::DECIMAL(38, 0) / 100)::DECIMAL(38, 2);
"""
TABLES = """
CREATE TABLE listens AS
    SELECT DISTINCT user_id, track_id, listen_time, listen_time::DATE AS listen_date
    FROM read_parquet({listens});
CREATE TABLE songs AS
    SELECT track_id, track_genre,
        arg_min(coalesce(track_name, 'Unknown'), row_id) AS track_name,
        arg_min(coalesce(artists, 'Unknown'), row_id) AS artists,
        coalesce(arg_min(STRUCT_PACK(ms := duration_ms), row_id).ms, 0)::HUGEINT AS duration_ms,
        min(row_id) = min(min(row_id)) OVER (PARTITION BY track_id) AS is_first
    FROM (SELECT * REPLACE (coalesce(track_genre, 'Unknown') AS track_genre) FROM read_parquet({songs}))
    GROUP BY track_id, track_genre;
CREATE TABLE users AS
    SELECT user_id, arg_min(coalesce(user_country, 'Unknown'), row_id) AS user_country
    FROM read_parquet({users}) GROUP BY user_id;
CREATE TABLE song_listens AS
    SELECT listen_date, track_id, coalesce(track_genre, 'Unknown') AS track_genre, listen_count,
        coalesce(track_name, 'Unknown') AS track_name, coalesce(artists, 'Unknown') AS artists,
        listen_count * coalesce(duration_ms, 0) AS ms, coalesce(is_first, true) AS is_first,
        CASE WHEN duration_ms IS NULL THEN listen_count ELSE 0 END AS unmatched,
        row_number() OVER (
            PARTITION BY listen_date, coalesce(track_genre, 'Unknown')
            ORDER BY listen_count DESC, coalesce(track_name, 'Unknown'), track_id
        ) AS song_rank
    FROM (SELECT listen_date, track_id, count(*) AS listen_count FROM listens GROUP BY ALL)
    LEFT JOIN songs USING (track_id);
CREATE TABLE genres AS
    SELECT *, CASE WHEN track_genre <> 'Unknown' THEN row_number() OVER (
            PARTITION BY listen_date ORDER BY track_genre = 'Unknown', listen_count DESC, track_genre
        ) END AS genre_rank
    FROM (
        SELECT listen_date, track_genre, sum(listen_count)::BIGINT AS listen_count, sum(ms) AS ms,
            sum(ms) FILTER (is_first) AS first_ms, sum(unmatched)::BIGINT AS unmatched,
            list(STRUCT_PACK(rank := song_rank, track_id, track_name, artists, listen_count)
                ORDER BY song_rank) FILTER (song_rank <= 3) AS top_songs
        FROM song_listens GROUP BY ALL
    ) JOIN (
        SELECT listen_date, coalesce(track_genre, 'Unknown') AS track_genre,
            count(DISTINCT user_id) AS unique_listeners
        FROM listens LEFT JOIN songs USING (track_id) GROUP BY ALL
    ) USING (listen_date, track_genre);
CREATE TABLE countries AS
    SELECT *, CASE WHEN user_country <> 'Unknown' THEN row_number() OVER (
            PARTITION BY listen_date ORDER BY user_country = 'Unknown', listen_count DESC, user_country
        ) END AS country_rank
    FROM (
        SELECT listen_date, coalesce(user_country, 'Unknown') AS user_country, count(*) AS unique_listeners,
            sum(listen_count)::BIGINT AS listen_count,
            coalesce(sum(listen_count) FILTER (user_country IS NULL), 0)::BIGINT AS unmatched
        FROM (SELECT listen_date, user_id, count(*) AS listen_count FROM listens GROUP BY ALL)
        LEFT JOIN users USING (user_id) GROUP BY ALL
    );
CREATE TABLE items AS
    SELECT listen_date::VARCHAR AS date, track_genre, listen_count, unique_listeners,
        minutes(ms, 1) AS total_listening_time,
        minutes(ms, unique_listeners) AS avg_listening_time_per_user,
        genre_rank, top_songs AS top_3_songs_per_genre
    FROM genres
    UNION ALL BY NAME
    SELECT listen_date::VARCHAR AS date, 'ALL_GENRES' AS track_genre, listen_count, unique_listeners,
        minutes(ms, 1) AS total_listening_time,
        minutes(ms, unique_listeners) AS avg_listening_time_per_user,
        top_5_genres_per_day, top_5_countries_per_day, unmatched_track_listens, unmatched_user_listens
    FROM (
        SELECT listen_date, sum(first_ms) AS ms, sum(unmatched)::BIGINT AS unmatched_track_listens,
            list(STRUCT_PACK(rank := genre_rank, track_genre, listen_count)
                ORDER BY genre_rank) FILTER (genre_rank <= 5) AS top_5_genres_per_day
        FROM genres GROUP BY ALL
    ) JOIN (
        SELECT listen_date, sum(listen_count)::BIGINT AS listen_count,
            sum(unique_listeners)::BIGINT AS unique_listeners,
            sum(unmatched)::BIGINT AS unmatched_user_listens,
            list(STRUCT_PACK(rank := country_rank, user_country, listen_count, unique_listeners)
                ORDER BY country_rank) FILTER (country_rank <= 5) AS top_5_countries_per_day
        FROM countries GROUP BY ALL
    ) USING (listen_date);
"""


def main(source: str, output: str, cores: str, history: str | None = None) -> None:
    """Compute the KPI items of the run's input; write them and the distinct listens by day."""
    manifest = json.loads(Path(source, "manifest.json").read_text())
    objects = {
        name: [str(Path(source, path)) for path in manifest[name]["objects"]]
        for name in ("listens", "songs", "users")
    }
    if history:
        objects["listens"].append(f"{history}/*/*.parquet")
    Path(output).mkdir(parents=True)
    connection = duckdb.connect(config={"threads": int(cores), "temp_directory": f"{output}/tmp"})
    connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
    connection.execute(MINUTES + TABLES.format(**objects))
    connection.execute(f"COPY items TO '{output}/kpis.json' (FORMAT json)")
    if not history:
        connection.execute(f"COPY listens TO '{output}/listens' (FORMAT parquet, PARTITION_BY (listen_date))")


if __name__ == "__main__":
    main(*sys.argv[1:])
