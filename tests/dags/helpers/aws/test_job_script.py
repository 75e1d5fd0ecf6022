import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pipeline_support import Pipeline, Wire, answer

from helpers.aws import job_script
from helpers.aws.clients import s3_client
from helpers.aws.job_script import SCRIPT, read_script, script_location
from helpers.contract.settings import PipelineConfig
from helpers.errors import ConfigurationError
from local_aws_support import REPOSITORY


@pytest.fixture
def place(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The script's location in the variable; nothing is there yet."""
    place = {"Bucket": pipeline.config.intermediate_bucket, "Key": "artifacts/glue-scripts/v2.py"}
    monkeypatch.setenv("GLUE_SCRIPT_LOCATION", f"s3://{place['Bucket']}/{place['Key']}")
    return place


def read() -> bytes:
    return read_script(s3_client(), PipelineConfig.from_env())


def test_script_is_the_file_beside_the_dags(pipeline: Pipeline, wire: Wire) -> None:
    script = REPOSITORY / "glue_script" / "glue_script.py"

    assert read() == script.read_bytes()
    assert script_location(PipelineConfig.from_env()) == str(script)
    assert wire.requests == []


def test_script_is_the_object_that_the_variable_names(pipeline: Pipeline, place: dict[str, Any]) -> None:
    pipeline.s3.put_object(**place, Body=b"print('of S3')")

    assert read() == b"print('of S3')"
    assert script_location(PipelineConfig.from_env()) == f"s3://{place['Bucket']}/{place['Key']}"


def test_script_is_beside_the_folder_that_was_deployed_whatever_the_working_directory(tmp_path: Path) -> None:
    """As in a bundle of Airflow 3 whose root is a dated folder above `dags/`."""
    deployed = tmp_path / "2026-11-26T08:00:00" / "dags"
    shutil.copytree(REPOSITORY / "dags" / "helpers", deployed / "helpers")
    code = (
        f"import sys; sys.path.insert(0, {str(deployed)!r});"
        "from helpers.aws.job_script import SCRIPT; print(SCRIPT)"
    )

    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd="/", capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == str(deployed.parent / "glue_script" / "glue_script.py")


def test_missing_file_is_named_with_both_remedies(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = tmp_path / "glue_script" / "glue_script.py"
    monkeypatch.setattr(job_script, "SCRIPT", missing)

    with pytest.raises(ConfigurationError, match=re.escape(f"{missing} cannot be read")) as error:
        read()

    assert "Deploy the folder glue_script/ beside dags/" in str(error.value)
    assert "set GLUE_SCRIPT_LOCATION" in str(error.value)


@pytest.mark.parametrize("bucket_is_there", [True, False])
def test_missing_object_is_named_with_the_command_that_uploads_it(
    pipeline: Pipeline, place: dict[str, Any], monkeypatch: pytest.MonkeyPatch, bucket_is_there: bool
) -> None:
    location = f"s3://{place['Bucket'] if bucket_is_there else 'gone-bucket'}/{place['Key']}"
    monkeypatch.setenv("GLUE_SCRIPT_LOCATION", location)

    with pytest.raises(ConfigurationError, match="named by GLUE_SCRIPT_LOCATION, does not exist") as error:
        read()

    assert str(error.value).endswith(f"aws s3 cp glue_script/glue_script.py {location}")
    assert SCRIPT.relative_to(REPOSITORY).as_posix() == "glue_script/glue_script.py"


def test_denied_object_is_named_with_where_the_roles_may_read(
    pipeline: Pipeline, place: dict[str, Any], wire: Wire
) -> None:
    wire.once(place["Key"], answer(403, "<Error><Code>AccessDenied</Code></Error>"))

    with pytest.raises(ConfigurationError, match="may not be read with these credentials") as error:
        read()

    assert f"s3://{pipeline.config.intermediate_bucket}/artifacts/glue-scripts/" in str(error.value)
