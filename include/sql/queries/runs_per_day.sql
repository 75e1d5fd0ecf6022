-- What did the runs of each day do?
SELECT
    substr(frozen_at, 1, 10) AS run_date,
    count(*) AS runs,
    sum(totals.files) AS files,
    sum(totals.rows) AS rows_read,
    sum(totals.rejected) AS rejected_rows,
    sum(totals.quarantined) AS quarantined_files,
    max(completed_at) AS last_completed_at
FROM run_reports
WHERE "$path" LIKE '%/report.json'
GROUP BY substr(frozen_at, 1, 10)
ORDER BY run_date
