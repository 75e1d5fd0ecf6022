"""Settings on the command line of make: each one takes effect, or is refused with reason and remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from helpers.contract.settings import TIMELESS
from include.commands.airflow_version import AIRFLOW
from include.commands.errors import UserError

# The Makefile lists in it the variables of its command line. Variables of the user's shell are left out,
# because they may be meant for another Airflow.
GIVEN_SETTINGS = "GIVEN_SETTINGS"

OF_RUNS = frozenset(
    {
        "ARCHIVE_STORAGE_CLASS",
        "GLUE_NUMBER_OF_WORKERS",
        "GLUE_SCRIPT_LOCATION",
        "GLUE_WORKER_TYPE",
        "MAX_CATALOG_AGE_DAYS",
        "MAX_CATALOG_SHRINKAGE",
        "MAX_QUARANTINED_FRACTION",
        "MAX_REJECTED_FRACTION",
        "MAX_UNMATCHED_FRACTION",
        "RUNBOOK_URL",
    }
)
OF_THE_SCHEDULER = OF_RUNS | {"PIPELINE_SCHEDULE", "QUIET_MINUTES", "SENSOR_TIMEOUT_MINUTES"}
OF_LOCAL_AWS = frozenset({"JAVA_HOME", "LOCAL_AWS_DRIVER_MEMORY", "STREAMS_QUEUE"})

# Variables that the Makefile itself reads.
_OF_MAKE = frozenset(
    {
        "ACCEPT_CHECKS",
        "AIRFLOW",
        "AWS_PORT",
        "DASHBOARD_PORT",
        "DATA",
        "DATES",
        "FILE",
        "PYTHON",
        "REFUSE",
        "RUN",
        "USER",
        "WEB_PORT",
        "YES",
    }
)

_PRESETS = ("@once", "@continuous", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
_NAMES = dict.fromkeys(
    (
        "ALERT_SNS_TOPIC_ARN",
        "ARCHIVE_BUCKET_NAME",
        "GLUE_JOB_NAME",
        "GLUE_ROLE_NAME",
        "INTERMEDIATE_BUCKET_NAME",
        "KPI_TABLE_NAME",
        "SOURCE_BUCKET_NAME",
    ),
    "local AWS always has the default names of include/stack.yaml. Leave it out; other names need a stack of "
    "your own on AWS",
)
_ACCESS = dict.fromkeys(
    ("AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY"),
    "the command works on local AWS, with the address, region and credentials of local AWS. Leave it out; "
    "AWS_PORT chooses the port",
)
_DASHBOARD = {
    "DASHBOARD_URL": "make up links to its own dashboard. Leave it out; DASHBOARD_PORT chooses the port",
}
_QUEUE = {
    "STREAMS_QUEUE_URL": "the queue would be one of AWS. Leave it out; make up AIRFLOW=3 STREAMS_QUEUE=name "
    "creates one in local AWS, by which files start runs",
}
_NO_EVENTS = {
    "STREAMS_QUEUE": "files start runs under make up AIRFLOW=3 only. Leave it out, or use that command",
}
_ONE_RUN = _NO_EVENTS | {
    "PIPELINE_SCHEDULE": "the command runs the pipeline once, now. Leave it out; make up takes a schedule",
    "QUIET_MINUTES": "the command does not wait for files. Leave it out; make up waits",
    "SENSOR_TIMEOUT_MINUTES": "the command does not wait for files. Leave it out; make up waits",
}
_REFUSED_BY = {
    "run": _ONE_RUN,
    "reprocess": _ONE_RUN,
    "up": {"DATA": "first make run DATA=folder, then make up without it"},
}


def refuse_what_has_no_effect(command: str, environment: Mapping[str, str]) -> None:
    """Check the settings that were given to the make command.

    Raises:
        UserError: the command cannot use one of them; the message names each with reason and remedy.
    """
    reasons = _NAMES | _ACCESS | _DASHBOARD | _QUEUE | _REFUSED_BY.get(command, {})
    if AIRFLOW.number == 2:
        reasons |= _NO_EVENTS
    known = OF_THE_SCHEDULER | OF_LOCAL_AWS | _OF_MAKE | reasons.keys()
    for name in set(given(environment)) - known:
        # Other names may be meant for Java or Python.
        if alike := get_close_matches(name, known, n=1, cutoff=0.7):
            reasons[name] = f"no setting has this name; {alike[0]} is like it"
    if "STREAMS_QUEUE" in given(environment) and "STREAMS_QUEUE" not in reasons:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", environment["STREAMS_QUEUE"]):
            reasons["STREAMS_QUEUE"] = (
                "the name of a queue has 1 to 80 letters, digits, hyphens or underscores"
            )
        elif environment.get("PIPELINE_SCHEDULE") in TIMELESS:
            reasons["STREAMS_QUEUE"] = "beside it, PIPELINE_SCHEDULE needs times, such as @daily"
    if refused := [name for name in given(environment) if name in reasons]:
        sentences = "\n".join(f"{name}: {reasons[name]}." for name in refused)
        raise UserError(f"make {command} does not accept these settings. Nothing was done.\n{sentences}")


def given(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the variables on make's command line, in order."""
    return sorted(environment.get(GIVEN_SETTINGS, "").split())


def refuse_late(names: frozenset[str], service: str, environment: Mapping[str, str]) -> None:
    """Check that no given setting is one that the running service reads only when it starts.

    Raises:
        UserError: one is.
    """
    if late := [name for name in given(environment) if name in names]:
        raise UserError(
            f"{service} is running already and takes {', '.join(late)} only when it starts. "
            "First: make down (local AWS forgets its data)."
        )


def require_valid() -> None:
    """Check the values of this process's environment, which must be an Airflow environment.

    Raises:
        UserError: a value has the wrong form.
    """
    from helpers.contract.settings import PipelineConfig, pipeline_schedule
    from helpers.errors import ConfigurationError

    try:
        PipelineConfig.from_env()
    except ConfigurationError as error:
        raise UserError(str(error)) from error
    if not is_schedule(pipeline_schedule()):
        raise UserError(
            f"PIPELINE_SCHEDULE is {pipeline_schedule()!r}; it must be a cron expression such as "
            f"'*/30 * * * *', or one of {', '.join(_PRESETS)}."
        )


def is_schedule(text: str) -> bool:
    """Return whether Airflow accepts the schedule: a preset or a cron expression."""
    from croniter import croniter  # type: ignore[import-untyped]

    return text in _PRESETS or bool(croniter.is_valid(text))
