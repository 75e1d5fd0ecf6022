-- Which tracks are listened to and are not in the song catalog?
SELECT
    listens.track_id,
    count(*) AS listens,
    count(DISTINCT listens.user_id) AS listeners,
    min(listens.listen_date) AS first_day,
    max(listens.listen_date) AS last_day
FROM listens
WHERE listens.track_id NOT IN (SELECT songs.track_id FROM songs)
GROUP BY listens.track_id
ORDER BY listens DESC, listens.track_id
