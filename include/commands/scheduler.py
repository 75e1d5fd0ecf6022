"""`make up` and `make down`: run the pipeline under a real scheduler, with Airflow's UI."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from rich.console import Console
from rich.text import Text

from include.commands import command_settings, delivery, local_aws
from include.commands.airflow_version import AIRFLOW, SCHEDULER, VERSIONS, AirflowVersion
from include.commands.environment import (
    HOST,
    LOGS_DIR,
    UI_PASSWORD,
    UI_USER,
    airflow_environment,
    aws_environment,
    replace_environment,
)
from include.commands.errors import UserError
from include.commands.services import (
    Service,
    get,
    recorded_services,
    require_free_port,
    stop,
    wait_until_ready,
)
from include.commands.terminal import output_to, spinner

START_TIMEOUT_SECONDS = 180
SMALL_AIRFLOW = {
    "AIRFLOW__CORE__PARALLELISM": "2",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
}


def up(aws_port: int, web_port: int, console: Console) -> int:
    """Start local AWS and Airflow's services, and wait until all of them are healthy.

    Raises:
        UserError: the other version of Airflow is up, a port is taken, or a service did not start; the
            started parts of Airflow are stopped.
    """
    running = {service.name for service in recorded_services() if service.process()}
    _require_no_other_version(running)
    if (running_port := _web_port(AIRFLOW, running)) and AIRFLOW.other_services.keys() <= running:
        command_settings.refuse_late(command_settings.OF_THE_SCHEDULER, "Airflow", os.environ)
        console.print(f"{AIRFLOW.name} is up already.")
        _show_address(running_port, console)
        return 0
    stop(service for service in recorded_services() if _is_of_airflow(service))
    if web_port == aws_port:
        raise UserError(f"Local AWS and Airflow's {AIRFLOW.web} cannot both use port {web_port}.")
    remedy = f"make up{local_aws.make_options(aws_port)} WEB_PORT={web_port + 1}"
    require_free_port(web_port, f"Airflow's {AIRFLOW.web}", remedy)

    environment = aws_environment(os.environ, aws_port)
    is_new = local_aws.ensure_running(aws_port, environment, "up", console)
    replace_environment(environment)
    resources = local_aws.deploy(aws_port, console)
    delivery.deliver_sample_if_first(resources["SOURCE_BUCKET_NAME"], console)
    if is_new:
        # Clean up as `down` does, because the last local AWS may have ended in another way.
        _forget_runs()
    replace_environment(
        airflow_environment(os.environ, aws_port, resources, AIRFLOW.home)
        | SMALL_AIRFLOW
        | AIRFLOW.settings(AIRFLOW.home, web_port)
    )
    with spinner(console, "Airflow is starting"):
        with output_to(LOGS_DIR / "airflow_database.log"):
            command_settings.require_valid()
            AIRFLOW.prepare(AIRFLOW.home)
        _start_airflow(web_port)
    first = " The first scheduled run begins immediately." if is_new else ""
    console.print(f"{AIRFLOW.name} is up.{first}")
    _show_address(web_port, console)
    console.print(
        Text(
            f"""Drop files:    into s3://{resources["SOURCE_BUCKET_NAME"]}/streams/ of local AWS, for example
{local_aws.client_settings(aws_port)}
  aws s3 cp my.csv s3://{resources["SOURCE_BUCKET_NAME"]}/streams/"""
        ),
        soft_wrap=True,
    )
    return 0


def down(console: Console) -> int:
    """Stop everything that `make run`, `make up` and `make dashboard` started."""
    stopped = stop(recorded_services())
    for service in stopped:
        console.print(f"Stopped {service.name}")
    if not stopped:
        console.print("Nothing was running.")
    elif any(local_aws.is_local_aws(service) for service in stopped):
        _forget_runs()
        console.print("Local AWS kept its buckets and tables in memory: they are gone.")
    return 0


def _require_no_other_version(running: set[str]) -> None:
    for other in VERSIONS.values():
        if other is not AIRFLOW and (port := _web_port(other, running)):
            raise UserError(
                f"{other.name} is up at http://localhost:{port}, and {AIRFLOW.name} cannot run beside it. "
                f"First: make down (local AWS forgets its data), then: make up{AIRFLOW.make_option}"
            )


def _web_port(version: AirflowVersion, running: set[str]) -> int | None:
    """Return the port of the version's web service if it is among the names of running services."""
    prefix = f"{version.web}_"
    return next((int(name.removeprefix(prefix)) for name in running if name.startswith(prefix)), None)


def _is_of_airflow(service: Service) -> bool:
    return any(
        service.name in version.other_services or service.name.startswith(f"{version.web}_")
        for version in VERSIONS.values()
    )


def _forget_runs() -> None:
    """Remove the databases of Airflow: runs lost their data with local AWS, so they must not continue."""
    for version in VERSIONS.values():
        shutil.rmtree(version.home, ignore_errors=True)


def _start_airflow(web_port: int) -> None:
    services = {f"{AIRFLOW.web}_{web_port}": [AIRFLOW.web], **AIRFLOW.other_services}
    started: list[Service] = []
    try:
        for name, arguments in services.items():
            if name == SCHEDULER and AIRFLOW.tasks_need_web:
                wait_until_ready(started, lambda: _health(web_port) is not None, START_TIMEOUT_SECONDS)
            service = Service(name)
            service.start("airflow", arguments, os.environ)
            started.append(service)
        wait_until_ready(started, lambda: _is_healthy(web_port), START_TIMEOUT_SECONDS)
    except UserError:
        stop(started)
        raise


def _is_healthy(web_port: int) -> bool:
    health = _health(web_port)
    return health is not None and all(health[part]["status"] == "healthy" for part in AIRFLOW.healthy_parts)


def _health(web_port: int) -> Any:
    """Return what the web service reports of each part's health, or None if it does not answer yet."""
    answer = get(f"http://{HOST}:{web_port}{AIRFLOW.health_path}")
    return None if answer is None else json.loads(answer)


def _show_address(web_port: int, console: Console) -> None:
    url = f"http://localhost:{web_port}"
    services = ", ".join(AIRFLOW.other_services)
    console.print(
        Text(
            f"""
Airflow's UI:  {url}   user {UI_USER}, password {UI_PASSWORD}
Task logs:     in the UI; those of {services} and {AIRFLOW.web} are in {LOGS_DIR}
Trigger a run: in the UI, or
  {AIRFLOW.trigger_command(url)}
Stop all:      make down"""
        ),
        soft_wrap=True,
    )
