from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.utils import get_environ_proxies
from cryptography.fernet import Fernet

from include.commands.environment import (
    ROOT,
    airflow_environment,
    aws_environment,
    replace_environment,
)

USERS_AWS = {
    "AWS_PROFILE": "production",
    "AWS_DEFAULT_PROFILE": "production",
    "AWS_ACCESS_KEY_ID": "AKIAREAL",
    "AWS_SECRET_ACCESS_KEY": "real",
    "AWS_SESSION_TOKEN": "real",
    "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/admin",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/token",
    "AWS_ENDPOINT_URL_DYNAMODB": "https://dynamodb.eu-west-1.amazonaws.com",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_REGION": "eu-west-1",
    "AWS_CA_BUNDLE": "/company.pem",
}
RESOURCES = {"SOURCE_BUCKET_NAME": "local-source", "KPI_TABLE_NAME": "local-table"}


def test_everything_of_the_users_aws_is_dropped_and_the_rest_kept() -> None:
    environment = aws_environment(USERS_AWS | {"HOME": "/home/me", "LANG": "C.UTF-8"}, 5555)

    assert {name: value for name, value in environment.items() if name.startswith("AWS_")} == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:5555",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    assert environment["HOME"] == "/home/me"
    assert environment["LANG"] == "C.UTF-8"


def test_boto3_sees_local_aws_whatever_the_users_config_files_say(tmp_path: Path) -> None:
    aws = tmp_path / ".aws"
    aws.mkdir()
    for profile in ("[default]", "[profile production]"):
        with (aws / "config").open("a") as config:
            config.write(f"{profile}\nregion = eu-west-1\nendpoint_url = https://real.example.com\n")
    (aws / "credentials").write_text(
        "[default]\naws_access_key_id = AKIAREAL\naws_secret_access_key = real\n"
    )
    program = """
import boto3
session = boto3.Session()
client = session.client("dynamodb")
print(client.meta.endpoint_url, client.meta.region_name, session.get_credentials().access_key)
"""

    environment = aws_environment(os.environ | USERS_AWS | {"HOME": str(tmp_path)}, 5999)
    seen = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)

    assert seen.stdout.split() == ["http://127.0.0.1:5999", "us-east-1", "local"], seen.stderr


def test_local_aws_is_reached_without_the_users_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    proxies = {"http_proxy": "http://proxy:3128", "HTTPS_PROXY": "http://proxy:3128", "no_proxy": "company"}
    replace_environment(aws_environment(os.environ | proxies, 5555))

    assert get_environ_proxies("http://127.0.0.1:5555") == {}


def test_another_airflows_settings_and_connections_are_dropped(tmp_path: Path) -> None:
    other = {
        "AIRFLOW_HOME": "/srv/airflow",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production",
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://AKIAREAL:real@",
        "AIRFLOW_VAR_X": "1",
    }

    environment = airflow_environment(other, 5555, RESOURCES, tmp_path)

    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in environment
    assert "AIRFLOW_VAR_X" not in environment
    assert environment["AIRFLOW_HOME"] == str(tmp_path)
    assert json.loads(environment["AIRFLOW_CONN_AWS_DEFAULT"]) == {
        "conn_type": "aws",
        "login": "local",
        "password": "local",
        "extra": {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:5555"},
    }


def test_resources_of_local_aws_win_over_the_users_shell(tmp_path: Path) -> None:
    shell = {"SOURCE_BUCKET_NAME": "real-bucket", "MAX_REJECTED_FRACTION": "0.5"}

    environment = airflow_environment(shell, 5555, RESOURCES, tmp_path)

    assert environment["SOURCE_BUCKET_NAME"] == "local-source"
    assert environment["KPI_TABLE_NAME"] == "local-table"
    assert environment["MAX_REJECTED_FRACTION"] == "0.5"


def test_tasks_have_the_environment_of_the_image(tmp_path: Path) -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    of_image = dict(line.removeprefix("ENV ").split("=") for line in lines if line.startswith("ENV "))

    environment = airflow_environment({}, 5555, RESOURCES, tmp_path)

    assert of_image["MALLOC_ARENA_MAX"]
    assert {name: environment[name] for name in of_image} == of_image


def test_key_of_an_airflow_is_made_once_and_only_its_user_reads_it(tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"

    key = airflow_environment({}, 5555, RESOURCES, first)["AIRFLOW__CORE__FERNET_KEY"]

    assert Fernet(key).decrypt(Fernet(key).encrypt(b"secret")) == b"secret"
    assert airflow_environment({}, 5555, RESOURCES, first)["AIRFLOW__CORE__FERNET_KEY"] == key
    assert airflow_environment({}, 5555, RESOURCES, other)["AIRFLOW__CORE__FERNET_KEY"] != key
    assert (first / "fernet.key").stat().st_mode & 0o077 == 0
