-- Do the KPIs count exactly the listens of the history? Every difference is 0.
WITH counted AS (
    SELECT listen_date, count(*) AS listens, count(DISTINCT user_id) AS listeners
    FROM listens
    GROUP BY listen_date
)
SELECT
    counted.listen_date,
    counted.listens,
    kpis.listen_count - counted.listens AS difference_of_listens,
    kpis.unique_listeners - counted.listeners AS difference_of_listeners
FROM counted
LEFT JOIN kpis ON kpis.listen_date = counted.listen_date AND kpis.track_genre = 'ALL_GENRES'
ORDER BY counted.listen_date
