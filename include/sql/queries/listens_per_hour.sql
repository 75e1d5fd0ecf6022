-- When do people listen? Listens and listeners by hour of the day, UTC.
SELECT
    extract(HOUR FROM listen_time) AS hour_of_day,
    count(*) AS listens,
    count(DISTINCT user_id) AS listeners
FROM listens
GROUP BY extract(HOUR FROM listen_time)
ORDER BY hour_of_day
