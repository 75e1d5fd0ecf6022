"""The executor of `make up`."""

from __future__ import annotations

from airflow.executors.local_executor import LocalExecutor


class SqliteLocalExecutor(LocalExecutor):
    """Airflow's LocalExecutor, allowed on SQLite.

    Airflow accepts SQLite only with executors of a single process. Running one task after the other takes
    four times as long. With a few workers, SQLite's own locks are enough.
    """

    is_single_threaded = True
    # The webserver reads the logs from the same disk. A log server would listen on every interface.
    serve_logs = False
