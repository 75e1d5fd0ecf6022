"""`.env.example`, the table in docs/configuration.md and the local settings name what the code reads."""

import ast
import os
import re
from collections.abc import Iterator
from unittest.mock import patch

import pytest
import yaml

from helpers.contract.settings import PipelineConfig, pipeline_schedule
from local_aws_support import REPOSITORY

# The AWS SDK reads it.
OF_THE_SDK = {"AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
# Airflow reads it; it is an output of the stack, and local AWS does not need it.
OF_AIRFLOW = {"AIRFLOW_CONN_AWS_DEFAULT"}
# The command that serves local AWS reads them from its own environment, not from .env.
OF_LOCAL_AWS = {"LOCAL_AWS_DRIVER_MEMORY", "JAVA_HOME", "STREAMS_QUEUE"}
READERS = {"setting", "_required", "_number", "get", "getenv"}
BUCKETS = ("SOURCE_BUCKET_NAME", "INTERMEDIATE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME")
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")


def example() -> dict[str, str]:
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def variables_read_in(folder: str) -> Iterator[str]:
    for path in (REPOSITORY / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            candidates: list[ast.expr] = []
            if isinstance(node, ast.Call):
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                candidates = node.args[:1] if name in READERS else []
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                candidates = [node.slice] if ast.unparse(node.value) == "os.environ" else []
            for candidate in candidates:
                value = getattr(candidate, "value", None)
                if isinstance(value, str) and VARIABLE.fullmatch(value):
                    yield value


def test_example_has_the_variables_that_the_code_reads_and_no_others() -> None:
    read = {*variables_read_in("dags"), *variables_read_in("glue_script"), *variables_read_in("include")}

    assert read - OF_AIRFLOW - OF_LOCAL_AWS - OF_THE_SDK == example().keys() - OF_THE_SDK
    assert example().keys() > OF_THE_SDK


def test_example_shows_the_defaults() -> None:
    required = {name: example()[name] for name in BUCKETS}

    with patch.dict(os.environ, required, clear=True):
        defaults, schedule = PipelineConfig.from_env(), pipeline_schedule()
    # The address of local AWS's dashboard is not a default.
    with patch.dict(os.environ, example() | {"DASHBOARD_URL": ""}, clear=True):
        assert PipelineConfig.from_env() == defaults
        assert pipeline_schedule() == schedule


@pytest.mark.parametrize("name", [name for name in example() if not name.startswith("AWS_SECRET")])
def test_every_variable_is_explained_above_its_line(name: str) -> None:
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith(f"{name}="))
    block = lines[:number]
    while block and block[-1] and not block[-1].startswith("#"):
        block.pop()  # variables share one comment

    assert block[-1].startswith("# ")
    assert not block[-1].startswith("# ---")


def test_docs_list_every_variable_with_its_default() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| ([^|]+) \|", page, re.MULTILINE)
    defaults: dict[str, str] = {}
    for names, values in rows:
        variables = re.findall(r"[A-Z_]+", names)
        given = re.findall(r"`([^`]+)`", values) or [values.strip()] * len(variables)
        defaults |= dict(zip(variables, given, strict=True))

    assert defaults.keys() == example().keys()
    for name, default in defaults.items():
        expected = default if default not in {"required", "none"} else example()[name]
        assert example()[name] == expected, name


def test_settings_for_astro_dev_start_hold_no_secret() -> None:
    settings = yaml.safe_load((REPOSITORY / "airflow_settings.yaml").read_text())

    assert settings == {"airflow": {"connections": [{"conn_id": "aws_default", "conn_type": "aws"}]}}
