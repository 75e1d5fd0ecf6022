-- How do the listens of a genre change from one day to the next?
SELECT
    listen_date,
    track_genre,
    listen_count,
    listen_count - lag(listen_count) OVER (PARTITION BY track_genre ORDER BY listen_date) AS more_than_before
FROM kpis
WHERE track_genre <> 'ALL_GENRES'
ORDER BY listen_date, listen_count DESC, track_genre
