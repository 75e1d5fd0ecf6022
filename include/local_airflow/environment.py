"""The environment in which Airflow and everything that it starts see local AWS and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DAGS_DIR = ROOT / "dags"
PLUGINS_DIR = ROOT / "plugins"
LOCAL_DIR = ROOT / ".local"
LOGS_DIR = LOCAL_DIR / "logs"

DAG_ID = "music_streaming_pipeline"
HOST = "127.0.0.1"
REGION = "us-east-1"
CREDENTIAL = "local"

UI_USER = "admin"
UI_PASSWORD = "admin"

# AWS_: profile, keys, endpoints. AIRFLOW: connections, variables and settings of another Airflow.
_FOREIGN_PREFIXES = ("AWS_", "AIRFLOW")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


def endpoint_url(aws_port: int) -> str:
    """Return the address of local AWS on the port."""
    return f"http://{HOST}:{aws_port}"


def aws_environment(inherited: Mapping[str, str], aws_port: int) -> dict[str, str]:
    """Return the inherited variables with every way to real AWS taken out and local AWS put in.

    Profiles, keys, endpoints and config files of the user are gone, so a mistake here can only end in
    dummy credentials that AWS refuses.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(_FOREIGN_PREFIXES) and name.lower() not in _PROXY_VARIABLES
    }
    return kept | {
        "AWS_ENDPOINT_URL": endpoint_url(aws_port),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": CREDENTIAL,
        "AWS_SECRET_ACCESS_KEY": CREDENTIAL,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        # All that these commands talk to is on this machine. Said with "*" it also keeps macOS from asking
        # its system settings for a proxy, which crashes forked Airflow tasks there.
        "no_proxy": "*",
        "NO_PROXY": "*",
        "PYTHONPATH": str(ROOT),
    }


def airflow_environment(
    inherited: Mapping[str, str], aws_port: int, resources: Mapping[str, str], home: Path
) -> dict[str, str]:
    """Return the environment of an Airflow with the pipeline's DAG, its variables and `aws_default`.

    Args:
        inherited: the environment to build on.
        aws_port: port of local AWS.
        resources: the pipeline's variables, as `provision` returns them.
        home: folder of this Airflow's database and task logs.
    """
    connection = {
        "conn_type": "aws",
        "login": CREDENTIAL,
        "password": CREDENTIAL,
        "extra": {"region_name": REGION, "endpoint_url": endpoint_url(aws_port)},
    }
    return (
        aws_environment(inherited, aws_port)
        | dict(resources)
        | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_DIR),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS_DIR),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # As in the image; it acts on processes that are started with it, those of `make up`.
            "MALLOC_ARENA_MAX": "2",
        }
    )


def scheduler_environment(inherited: Mapping[str, str], web_port: int) -> dict[str, str]:
    """Return `inherited` (an Airflow environment) with what a lean scheduler and webserver need on SQLite."""
    return dict(inherited) | {
        "AIRFLOW__CORE__EXECUTOR": "include.local_airflow.executor.SqliteLocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        # With it on, SQLite's locks make a task begin at its second attempt now and then.
        "AIRFLOW__SCHEDULER__SCHEDULE_AFTER_TASK_EXECUTION": "False",
        "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.session,"
        "airflow.providers.fab.auth_manager.api.auth.backend.basic_auth",
        "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": HOST,
        "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(web_port),
        "AIRFLOW__WEBSERVER__BASE_URL": f"http://localhost:{web_port}",
        "AIRFLOW__WEBSERVER__WORKERS": "1",
    }


def replace_environment(environment: Mapping[str, str]) -> None:
    """Make these the variables of this process, and no other."""
    environment = dict(environment)
    os.environ.clear()
    os.environ.update(environment)
