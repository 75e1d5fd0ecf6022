-- Which ten tracks have the most listens of all days together?
WITH names AS (
    SELECT track_id, track_name, artists, row_number() OVER (PARTITION BY track_id ORDER BY row_id) AS place
    FROM songs
)
SELECT
    listens.track_id,
    names.track_name,
    names.artists,
    count(*) AS listens,
    count(DISTINCT listens.user_id) AS listeners
FROM listens
LEFT JOIN names ON names.track_id = listens.track_id AND names.place = 1
GROUP BY listens.track_id, names.track_name, names.artists
ORDER BY listens DESC, listens.track_id
LIMIT 10
