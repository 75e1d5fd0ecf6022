-- How many of a day's listeners come back on the next day? The newest day has no next day yet.
WITH listeners AS (
    SELECT DISTINCT user_id, listen_date
    FROM listens
)
SELECT
    today.listen_date,
    count(*) AS listeners,
    count(tomorrow.user_id) AS came_back,
    round(100e0 * count(tomorrow.user_id) / count(*), 1) AS percent
FROM listeners AS today
LEFT JOIN listeners AS tomorrow
    ON tomorrow.user_id = today.user_id AND tomorrow.listen_date = today.listen_date + INTERVAL '1' DAY
WHERE today.listen_date < (SELECT max(listen_date) FROM listeners)
GROUP BY today.listen_date
ORDER BY today.listen_date
