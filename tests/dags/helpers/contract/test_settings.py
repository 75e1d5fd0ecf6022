from typing import Any

import pytest

from helpers.contract.settings import PipelineConfig
from helpers.errors import ConfigurationError

BUCKETS = {
    "SOURCE_BUCKET_NAME": "source",
    "INTERMEDIATE_BUCKET_NAME": "intermediate",
    "ARCHIVE_BUCKET_NAME": "archive",
}
OPTIONAL = (
    "KPI_TABLE_NAME",
    "GLUE_JOB_NAME",
    "GLUE_ROLE_NAME",
    "GLUE_WORKER_TYPE",
    "GLUE_NUMBER_OF_WORKERS",
    "SENSOR_TIMEOUT_MINUTES",
    "MAX_REJECTED_FRACTION",
    "ARCHIVE_STORAGE_CLASS",
    "GLUE_SCRIPT_LOCATION",
    "QUIET_MINUTES",
)
SCRIPT = "s3://intermediate/artifacts/glue-scripts/glue_script.py"


@pytest.fixture(autouse=True)
def _only_buckets_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BUCKETS.items():
        monkeypatch.setenv(name, value)
    for name in OPTIONAL:
        monkeypatch.delenv(name, raising=False)


def test_everything_but_the_buckets_has_a_default() -> None:
    assert PipelineConfig.from_env() == PipelineConfig(
        source_bucket="source",
        intermediate_bucket="intermediate",
        archive_bucket="archive",
        kpi_table="music_kpis_table",
        glue_job_name="music_streaming_kpis",
        glue_role_name="music-streaming-glue-role",
        glue_worker_type="G.1X",
        glue_number_of_workers=10,
        sensor_timeout_minutes=18 * 60,
        max_rejected_fraction=0.05,
        archive_storage_class="GLACIER_IR",
    )


def test_variables_override_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    values = dict(
        zip(OPTIONAL, ("t", "j", "r", "G.2X", "7", "0.5", "0", "STANDARD", SCRIPT, "3"), strict=True)
    )
    for name, value in values.items():
        monkeypatch.setenv(name, f" {value} ")

    assert PipelineConfig.from_env() == PipelineConfig(
        source_bucket="source",
        intermediate_bucket="intermediate",
        archive_bucket="archive",
        kpi_table="t",
        glue_job_name="j",
        glue_role_name="r",
        glue_worker_type="G.2X",
        glue_number_of_workers=7,
        sensor_timeout_minutes=0.5,
        max_rejected_fraction=0,
        archive_storage_class="STANDARD",
        glue_script_location=SCRIPT,
        quiet_minutes=3,
    )


@pytest.mark.parametrize("name", OPTIONAL)
def test_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    default = PipelineConfig.from_env()
    monkeypatch.setenv(name, "  ")

    assert PipelineConfig.from_env() == default


@pytest.mark.parametrize("value", [None, "", "  "], ids=["missing", "empty", "blank"])
@pytest.mark.parametrize("name", BUCKETS)
@pytest.mark.scenarios(45)
def test_missing_bucket_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=rf"variable {name} is not set. Set it in \.env"):
        PipelineConfig.from_env()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("SOURCE_BUCKET_NAME", "INTERMEDIATE_BUCKET_NAME"),
        ("SOURCE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME"),
        ("INTERMEDIATE_BUCKET_NAME", "ARCHIVE_BUCKET_NAME"),
    ],
)
@pytest.mark.scenarios(37)
def test_one_bucket_for_two_purposes_is_refused(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    monkeypatch.setenv(second, BUCKETS[first])

    with pytest.raises(
        ConfigurationError, match=f"{first} and {second} both name the bucket '{BUCKETS[first]}'"
    ):
        PipelineConfig.from_env()


def test_all_that_is_wrong_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHIVE_BUCKET_NAME")
    monkeypatch.setenv("INTERMEDIATE_BUCKET_NAME", BUCKETS["SOURCE_BUCKET_NAME"])
    monkeypatch.setenv("MAX_REJECTED_FRACTION", "5%")

    with pytest.raises(ConfigurationError) as raised:
        PipelineConfig.from_env()

    for problem in (
        "ARCHIVE_BUCKET_NAME is not set",
        "SOURCE_BUCKET_NAME and INTERMEDIATE_BUCKET_NAME both name",
        "MAX_REJECTED_FRACTION is '5%'",
    ):
        assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("MAX_REJECTED_FRACTION", "1.01", "a number from 0 to 1"),
        ("MAX_REJECTED_FRACTION", "-0.1", "a number from 0 to 1"),
        ("MAX_REJECTED_FRACTION", "5%", "a number from 0 to 1"),
        ("MAX_REJECTED_FRACTION", "nan", "a number from 0 to 1"),
        ("GLUE_NUMBER_OF_WORKERS", "1", "a whole number of at least 2"),
        ("GLUE_NUMBER_OF_WORKERS", "2.5", "a whole number of at least 2"),
        ("GLUE_NUMBER_OF_WORKERS", "many", "a whole number of at least 2"),
        ("SENSOR_TIMEOUT_MINUTES", "-1", "a number of at least 0"),
        ("SENSOR_TIMEOUT_MINUTES", "1h", "a number of at least 0"),
        ("QUIET_MINUTES", "-1", "a number from 0 to 1440"),
        ("QUIET_MINUTES", "inf", "a number from 0 to 1440"),
    ],
)
def test_number_of_a_wrong_form_is_named_with_the_rule(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=rf"variable {name} is '{value}'; it must be {rule}\.$"):
        PipelineConfig.from_env()


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("MAX_REJECTED_FRACTION", "0", "max_rejected_fraction", 0),
        ("MAX_REJECTED_FRACTION", "1", "max_rejected_fraction", 1),
        ("GLUE_NUMBER_OF_WORKERS", "2", "glue_number_of_workers", 2),
    ],
)
def test_limits_themselves_are_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, attribute: str, expected: Any
) -> None:
    monkeypatch.setenv(name, value)

    assert getattr(PipelineConfig.from_env(), attribute) == expected


@pytest.mark.parametrize(
    "value",
    [
        "glue_script/glue_script.py",
        "/usr/local/airflow/glue_script/glue_script.py",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/folder/",
        "s3://bucket/folder",
        "s3:///glue_script.py",
        "s3://bucket/.py",
        "s3://Bucket/glue_script.py",
        "s3a://bucket/glue_script.py",
        "https://bucket.s3.amazonaws.com/glue_script.py",
        "s3://bucket/glue script.py",
    ],
)
def test_script_location_outside_s3_is_named_with_the_rule(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("GLUE_SCRIPT_LOCATION", value)

    with pytest.raises(ConfigurationError, match=r"LOCATION is '.*s3://my-bucket/") as error:
        PipelineConfig.from_env()

    assert repr(value) in str(error.value)


@pytest.mark.parametrize("value", ["s3://my-bucket/glue_script.py", "s3://b.c-1/a=b/v1.2/kpis_2.py"])
def test_address_of_a_script_in_s3_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("GLUE_SCRIPT_LOCATION", value)

    assert PipelineConfig.from_env().glue_script_location == value


@pytest.mark.parametrize("wait", ["0", "59.5"])
def test_continuous_runs_must_wait_long_enough(monkeypatch: pytest.MonkeyPatch, wait: str) -> None:
    monkeypatch.setenv("PIPELINE_SCHEDULE", "@continuous")
    monkeypatch.setenv("SENSOR_TIMEOUT_MINUTES", wait)

    with pytest.raises(
        ConfigurationError, match=rf"SENSOR_TIMEOUT_MINUTES is {wait} .* at least 60, or leave"
    ):
        PipelineConfig.from_env()

    monkeypatch.setenv("SENSOR_TIMEOUT_MINUTES", "60")
    PipelineConfig.from_env()


QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/music-streaming-files"


@pytest.mark.parametrize(
    "value",
    ["music-streaming-files", "arn:aws:sqs:us-east-1:123456789012:files", f"{QUEUE}.fifo", f"{QUEUE}?a=b"],
)
def test_what_is_not_the_address_of_a_queue_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("STREAMS_QUEUE_URL", value)

    with pytest.raises(ConfigurationError, match=r"such as https://sqs\.us-east-1\S*, or empty") as error:
        PipelineConfig.from_env()

    assert repr(value) in str(error.value)


def test_address_of_a_queue_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMS_QUEUE_URL", QUEUE)

    assert PipelineConfig.from_env().streams_queue_url == QUEUE


@pytest.mark.parametrize(
    "value", ["localhost:8501", "kpis.example.com", "http://", "http://h/?run=1", "http://a b"]
)
def test_what_is_not_the_address_of_a_dashboard_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DASHBOARD_URL", value)

    with pytest.raises(ConfigurationError, match=r"such as https://kpis\.example\.com, or empty") as error:
        PipelineConfig.from_env()

    assert "DASHBOARD_URL is " in str(error.value)


@pytest.mark.parametrize(
    "value", ["http://localhost:8501", "http://localhost:8501/", "https://example.com/kpis/"]
)
def test_address_of_the_dashboard_is_taken_without_its_last_slash(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("DASHBOARD_URL", value)

    assert PipelineConfig.from_env().dashboard_url == value.rstrip("/")
