"""The read side: the pipeline's results for analysts, the command line and the dashboard.

`table` reads the KPI table, `runs` the runs and `reports` their reports. `next_commands` says what to type
after a run, and `problems` why something cannot be read.
It needs only boto3 (the command line also rich), so it runs in Airflow's environment and in the dashboard's.
"""
