"""The read side: what the pipeline wrote, for analysts, the command line and the dashboard.

`table` reads the KPI table, `reports` the run reports, `problems` says in a sentence why neither can be read.
It needs boto3 only (the command line also rich), so it runs in Airflow's environment and in the dashboard's.
"""
