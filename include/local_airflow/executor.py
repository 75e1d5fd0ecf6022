"""The executor of `make up`."""

from __future__ import annotations

from airflow.executors.local_executor import LocalExecutor


class SqliteLocalExecutor(LocalExecutor):
    """Airflow's LocalExecutor, allowed on SQLite.

    Airflow takes SQLite for executors of a single process only. A scheduler that runs one task after the
    other takes four times as long, and with a few workers SQLite's own locks are enough.
    """

    is_single_threaded = True
    # The webserver reads the logs from the same disk; a log server would listen on every interface.
    serve_logs = False
