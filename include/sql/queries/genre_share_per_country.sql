-- What share does each genre have in a country's listens?
WITH genres AS (
    SELECT DISTINCT track_id, coalesce(track_genre, 'Unknown') AS track_genre
    FROM songs
),
countries AS (
    SELECT user_id, user_country, row_number() OVER (PARTITION BY user_id ORDER BY row_id) AS place
    FROM users
),
counted AS (
    SELECT
        coalesce(countries.user_country, 'Unknown') AS user_country,
        coalesce(genres.track_genre, 'Unknown') AS track_genre,
        count(*) AS listens
    FROM listens
    LEFT JOIN genres ON genres.track_id = listens.track_id
    LEFT JOIN countries ON countries.user_id = listens.user_id AND countries.place = 1
    GROUP BY coalesce(countries.user_country, 'Unknown'), coalesce(genres.track_genre, 'Unknown')
)
SELECT
    user_country,
    track_genre,
    listens,
    round(100e0 * listens / sum(listens) OVER (PARTITION BY user_country), 2) AS percent
FROM counted
ORDER BY user_country, listens DESC, track_genre
