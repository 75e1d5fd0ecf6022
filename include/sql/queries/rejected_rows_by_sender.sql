-- Which sender delivers rows that are rejected, and why? A sender is a folder below streams/.
SELECT
    CASE WHEN source_file LIKE 'streams/%/%' THEN split_part(source_file, '/', 2) ELSE 'no folder' END AS sender,
    reason,
    count(*) AS rejected_rows,
    count(DISTINCT source_file) AS files,
    min(source_file) AS first_file
FROM rejected_rows
WHERE "$path" LIKE '%/rejected_rows/part-%'
GROUP BY
    CASE WHEN source_file LIKE 'streams/%/%' THEN split_part(source_file, '/', 2) ELSE 'no folder' END,
    reason
ORDER BY rejected_rows DESC, sender, reason
