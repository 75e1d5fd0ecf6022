"""`make up` and `make down`: run the pipeline under a real scheduler, with Airflow's UI."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from helpers.contract.settings import files_are_announced
from include.commands import command_settings, dashboard, delivery
from include.commands.airflow_version import AIRFLOW, SCHEDULER, VERSIONS, AirflowVersion
from include.commands.environment import (
    HOST,
    LOGS_DIR,
    UI_PASSWORD,
    UI_USER,
    airflow_environment,
    replace_environment,
)
from include.commands.errors import UserError
from include.commands.local_aws import LocalAws, is_local_aws, make_options
from include.commands.services import (
    Service,
    free_port_after,
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
_WEB_SERVICE = re.compile(r"(?P<name>[a-z-]+)_(?P<web>\d+)_on_aws_(?P<aws>\d+)")


class Airflow(NamedTuple):
    """The Airflow that `make up` started: the ports of its UI and of the local AWS that it works on."""

    web_port: int
    aws_port: int

    @property
    def url(self) -> str:
        """The address of its UI and API."""
        return f"http://localhost:{self.web_port}"


def running_airflow() -> Airflow | None:
    """Return the Airflow of `make up`, or None unless all its services run."""
    running = _running_services()
    airflow = _web_service(AIRFLOW, running)
    return airflow if AIRFLOW.other_services.keys() <= running else None


def require_no_other_version() -> None:
    """Check that the other version of Airflow is not up.

    Raises:
        UserError: it is.
    """
    running = _running_services()
    for other in VERSIONS.values():
        if other is not AIRFLOW and (airflow := _web_service(other, running)):
            raise UserError(
                f"{other.name} is up at {airflow.url}, and {AIRFLOW.name} cannot run beside it. Give the "
                f"command with AIRFLOW={other.number}, or first: make down (local AWS forgets its data)."
            )


def airflow_on(aws_port: int) -> Airflow | None:
    """Return the Airflow of `make up` if it works on the local AWS on the port."""
    airflow = running_airflow()
    return airflow if airflow and airflow.aws_port == aws_port else None


def refuse_settings_of_running_airflow(aws_port: int) -> None:
    """Check that no setting is given to a run of an Airflow that has its settings already.

    Raises:
        UserError: one is, or the other version of Airflow is up.
    """
    require_no_other_version()
    if airflow_on(aws_port):
        command_settings.refuse_late(command_settings.OF_THE_SCHEDULER, "Airflow", os.environ)


def up(aws: LocalAws, web_port: int, dashboard_port: int) -> int:
    """Start local AWS, Airflow and the dashboard, to which its runs link, and wait until all are healthy.

    Raises:
        UserError: the other version of Airflow is up, a port is taken, or a service did not start; the
            started parts of Airflow are stopped.
    """
    require_no_other_version()
    if running := running_airflow():
        command_settings.refuse_late(command_settings.OF_THE_SCHEDULER, "Airflow", os.environ)
        aws.console.print(f"{AIRFLOW.name} is up already.")
        _show_addresses(running, aws.console)
        return 0
    stop(service for service in recorded_services() if _is_of_airflow(service))
    for port, other in ((aws.port, "Local AWS"), (dashboard_port, "The dashboard")):
        if web_port == port:
            raise UserError(f"{other} and Airflow's {AIRFLOW.web} cannot both use port {web_port}.")
    command = f"make up{aws.make_options}"
    require_free_port(web_port, f"Airflow's {AIRFLOW.web}", f"{command} WEB_PORT={free_port_after(web_port)}")
    dashboard.require_port(aws.port, dashboard_port, command)

    is_new = aws.connect("up")
    delivery.deliver_sample_if_first(aws.resources["SOURCE_BUCKET_NAME"], aws.console)
    if is_new:
        # Clean up as `down` does, because the last local AWS may have ended in another way.
        _forget_runs()
    replace_environment(
        airflow_environment(os.environ, aws.port, aws.resources, AIRFLOW.home)
        | SMALL_AIRFLOW
        | AIRFLOW.settings(AIRFLOW.home, web_port)
        | {"DASHBOARD_URL": dashboard.address(dashboard_port)}
    )
    airflow = Airflow(web_port, aws.port)
    with spinner(aws.console, "Airflow is starting"):
        with output_to(LOGS_DIR / "airflow_database.log"):
            command_settings.require_valid()
            AIRFLOW.prepare(AIRFLOW.home)
        dashboard.start(aws, dashboard_port)
        _start_airflow(airflow)
    first = " The first scheduled run begins immediately." if is_new else ""
    aws.console.print(f"{AIRFLOW.name} is up.{first}")
    _show_addresses(airflow, aws.console)
    if shutil.which("aws"):
        streams = f"s3://{aws.resources['SOURCE_BUCKET_NAME']}/streams/"
        aws.console.print(
            Text(
                f"AWS CLI:       with the settings of local AWS, for example\n"
                f"{aws.client_settings}\n  aws s3 cp my.csv {streams}"
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
    elif any(is_local_aws(service) for service in stopped):
        _forget_runs()
        console.print("Local AWS kept its buckets and tables in memory: they are gone.")
    return 0


def _running_services() -> set[str]:
    return {service.name for service in recorded_services() if service.process()}


def _web_service(version: AirflowVersion, running: set[str]) -> Airflow | None:
    """Return the ports of the version's web service if it is among the names of running services."""
    for found in filter(None, map(_WEB_SERVICE.fullmatch, sorted(running))):
        if found["name"] == version.web:
            return Airflow(int(found["web"]), int(found["aws"]))
    return None


def _is_of_airflow(service: Service) -> bool:
    web = _WEB_SERVICE.fullmatch(service.name)
    return any(
        service.name in version.other_services or (web is not None and web["name"] == version.web)
        for version in VERSIONS.values()
    )


def _forget_runs() -> None:
    """Remove the databases of Airflow: runs lost their data with local AWS, so they must not continue."""
    for version in VERSIONS.values():
        shutil.rmtree(version.home, ignore_errors=True)


def _start_airflow(airflow: Airflow) -> None:
    web = f"{AIRFLOW.web}_{airflow.web_port}_on_aws_{airflow.aws_port}"
    started: list[Service] = []
    try:
        for name, arguments in {web: [AIRFLOW.web], **AIRFLOW.other_services}.items():
            if name == SCHEDULER and AIRFLOW.tasks_need_web:
                wait_until_ready(
                    started, lambda: _health(airflow.web_port) is not None, START_TIMEOUT_SECONDS
                )
            service = Service(name)
            service.start("airflow", arguments, os.environ)
            started.append(service)
        wait_until_ready(started, lambda: _is_healthy(airflow.web_port), START_TIMEOUT_SECONDS)
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


def _show_addresses(airflow: Airflow, console: Console) -> None:
    port = make_options(airflow.aws_port)
    shown = dashboard.running_port(airflow.aws_port)
    new_files = (
        "a CSV file in streams/ starts a run."
        if AIRFLOW.number == 3 and files_are_announced()
        else "a run takes the CSV files of streams/; without one it waits, and looks once a minute."
    )
    console.print(
        Text(
            f"""
Airflow's UI:  {airflow.url}   user {UI_USER}, password {UI_PASSWORD}
Dashboard:     {dashboard.address(shown) if shown else f"it does not run; make dashboard{port} starts it"}
Task logs:     in the UI; those of {", ".join(AIRFLOW.other_services)} and {AIRFLOW.web} are in {LOGS_DIR}
New files:     {new_files}
               To deliver a folder with streams/ and start a run, which the UI shows too:
  make run DATA=folder{port}
Trigger a run: in the UI, or
  {AIRFLOW.trigger_command(airflow.url)}
Stop all:      make down"""
        ),
        soft_wrap=True,
    )
