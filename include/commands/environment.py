"""The environment in which Airflow and its child processes see local AWS and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from include.commands.errors import UserError

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


def read_port(text: str) -> int:
    """Return the port that a user gave.

    Raises:
        UserError: it is none.
    """
    if text.isdecimal() and 1 <= int(text) <= 65535:
        return int(text)
    raise UserError(
        f"{text!r} is not a port. AWS_PORT, WEB_PORT and DASHBOARD_PORT are numbers from 1 to 65535, "
        "as in: AWS_PORT=5556"
    )


def endpoint_url(aws_port: int) -> str:
    """Return the address of local AWS on the port."""
    return f"http://{HOST}:{aws_port}"


def aws_environment(inherited: Mapping[str, str], aws_port: int) -> dict[str, str]:
    """Return the inherited variables without any access to real AWS, and with local AWS.

    Profiles, keys, endpoints and config files of the user are removed. A mistake here can only lead to dummy
    credentials, which AWS refuses.
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
        # These commands only talk to this machine. The value "*" also keeps macOS from asking its system
        # settings for a proxy, which crashes forked Airflow tasks there.
        "no_proxy": "*",
        "NO_PROXY": "*",
        "PYTHONPATH": str(ROOT),
    }


def airflow_environment(
    inherited: Mapping[str, str], aws_port: int, resources: Mapping[str, str], home: Path
) -> dict[str, str]:
    """Return the environment of an Airflow with the pipeline's DAG, its variables and `aws_default`.

    Args:
        inherited: the environment to extend.
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
        | airflow_settings(home)
        | {
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
            # As in the image; it affects processes that start with it, those of `make up`.
            "MALLOC_ARENA_MAX": "2",
        }
    )


def airflow_settings(home: Path) -> dict[str, str]:
    """Return the settings of an Airflow that has the pipeline's DAG and plugins and nothing else.

    Args:
        home: folder of this Airflow's database and task logs.
    """
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_DIR),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS_DIR),
        "AIRFLOW__CORE__FERNET_KEY": _fernet_key(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # The Dockerfile has the same setting; Airflow 3 ignores it.
        "AIRFLOW__WEBSERVER__DAG_ORIENTATION": "TB",
    }


def _fernet_key(home: Path) -> str:
    """Return the key with which the Airflow encrypts what it stores; made once, since it must not change."""
    from cryptography.fernet import Fernet

    file = home / "fernet.key"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_bytes(Fernet.generate_key())
    return file.read_text()


def replace_environment(environment: Mapping[str, str]) -> None:
    """Replace all variables of this process by these."""
    environment = dict(environment)
    os.environ.clear()
    os.environ.update(environment)
