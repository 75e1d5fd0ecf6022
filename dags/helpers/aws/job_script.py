"""Locates the Glue script: the file beside `dags/`, or the S3 object that GLUE_SCRIPT_LOCATION names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from helpers.contract.settings import PipelineConfig
from helpers.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The script is deployed beside the folder of this package, wherever that is.
SCRIPT = Path(__file__).parents[3] / "glue_script" / "glue_script.py"


def script_location(config: PipelineConfig) -> str:
    """Return the script's location: an S3 address or a local path."""
    return config.glue_script_location or str(SCRIPT)


def read_script(s3: S3Client, config: PipelineConfig) -> bytes:
    """Return the script's content.

    Raises:
        ConfigurationError: the script does not exist or access is denied; the message gives the remedy.
        ClientError: S3 fails in another way, possibly only briefly.
    """
    from botocore.exceptions import ClientError

    location = config.glue_script_location
    if not location:
        try:
            return SCRIPT.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"The Glue script {SCRIPT} cannot be read ({error.strerror}). Deploy the folder glue_script/ "
                "beside dags/, or upload glue_script.py to S3 and set GLUE_SCRIPT_LOCATION to its address."
            ) from error
    bucket, _, key = location.removeprefix("s3://").partition("/")
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in {"NoSuchKey", "NoSuchBucket"}:
            raise ConfigurationError(
                f"The Glue script {location}, named by GLUE_SCRIPT_LOCATION, does not exist. Upload it: "
                f"aws s3 cp glue_script/glue_script.py {location}"
            ) from error
        if code == "AccessDenied":
            raise ConfigurationError(
                f"The Glue script {location}, named by GLUE_SCRIPT_LOCATION, may not be read with these "
                "credentials (access denied). The roles of include/stack.yaml may read it below "
                f"s3://{config.intermediate_bucket}/artifacts/glue-scripts/."
            ) from error
        raise
