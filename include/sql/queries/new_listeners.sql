-- How many of a day's listeners had not listened on an earlier day?
WITH first_days AS (
    SELECT user_id, min(listen_date) AS first_day
    FROM listens
    GROUP BY user_id
),
listeners AS (
    SELECT DISTINCT user_id, listen_date
    FROM listens
)
SELECT
    listeners.listen_date,
    count(*) AS listeners,
    sum(CASE WHEN first_days.first_day = listeners.listen_date THEN 1 ELSE 0 END) AS new_listeners
FROM listeners
INNER JOIN first_days ON first_days.user_id = listeners.user_id
GROUP BY listeners.listen_date
ORDER BY listeners.listen_date
