"""`make up` and `make down`: run the pipeline under a real scheduler, with Airflow's UI."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from include.commands import command_settings, dashboard, delivery, local_aws
from include.commands.environment import (
    DAG_ID,
    HOST,
    LOCAL_DIR,
    LOGS_DIR,
    UI_PASSWORD,
    UI_USER,
    airflow_environment,
    aws_environment,
    replace_environment,
    scheduler_environment,
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

AIRFLOW_HOME = LOCAL_DIR / "airflow"
SCHEDULER = Service("scheduler")
TRIGGERER = Service("triggerer")
START_TIMEOUT_SECONDS = 180
_WEBSERVER = re.compile(r"webserver_(?P<web>\d+)_on_aws_(?P<aws>\d+)")


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
    running = {service.name for service in recorded_services() if service.process()}
    found = next(filter(None, map(_WEBSERVER.fullmatch, sorted(running))), None)
    if found is None or not {SCHEDULER.name, TRIGGERER.name} <= running:
        return None
    return Airflow(int(found["web"]), int(found["aws"]))


def airflow_on(aws_port: int) -> Airflow | None:
    """Return the Airflow of `make up` if it works on the local AWS on the port."""
    airflow = running_airflow()
    return airflow if airflow and airflow.aws_port == aws_port else None


def refuse_settings_of_running_airflow(aws_port: int) -> None:
    """Check that no setting is given to a run of an Airflow that has its settings already.

    Raises:
        UserError: one is.
    """
    if airflow_on(aws_port):
        command_settings.refuse_late(command_settings.OF_THE_SCHEDULER, "Airflow", os.environ)


def up(aws_port: int, web_port: int, dashboard_port: int, console: Console) -> int:
    """Start local AWS, Airflow and the dashboard, to which its runs link, and wait until all are healthy.

    Raises:
        UserError: a port is taken, or a service did not start; the started parts of Airflow are stopped.
    """
    if running := running_airflow():
        command_settings.refuse_late(command_settings.OF_THE_SCHEDULER, "Airflow", os.environ)
        console.print("Airflow is up already.")
        _show_addresses(running, console)
        return 0
    stop(service for service in recorded_services() if _is_of_airflow(service))
    for port, other in ((aws_port, "Local AWS"), (dashboard_port, "The dashboard")):
        if web_port == port:
            raise UserError(f"{other} and Airflow's webserver cannot both use port {web_port}.")
    command = f"make up{local_aws.port_option(aws_port)}"
    require_free_port(web_port, "Airflow's webserver", f"{command} WEB_PORT={web_port + 1}")
    dashboard.require_port(aws_port, dashboard_port, command)

    environment = aws_environment(os.environ, aws_port)
    is_new = local_aws.ensure_running(aws_port, environment, "up", console)
    replace_environment(environment)
    resources = local_aws.deploy(aws_port, console)
    delivery.deliver_sample_if_first(resources["SOURCE_BUCKET_NAME"], console)
    if is_new:
        # Clean up as `down` does, because the last local AWS may have ended in another way.
        shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)
    of_dashboard = {**os.environ, **resources}
    replace_environment(
        scheduler_environment(airflow_environment(os.environ, aws_port, resources, AIRFLOW_HOME), web_port)
        | {"DASHBOARD_URL": dashboard.address(dashboard_port)}
    )
    command_settings.require_valid()
    airflow = Airflow(web_port, aws_port)
    with spinner(console, "Airflow is starting"):
        with output_to(LOGS_DIR / "airflow_database.log"):
            _prepare_metadata_database()
        dashboard.start(aws_port, dashboard_port, of_dashboard)
        _start_airflow(airflow)
    console.print("Airflow is up." + (" The first scheduled run begins immediately." if is_new else ""))
    _show_addresses(airflow, console)
    if shutil.which("aws"):
        streams = f"s3://{resources['SOURCE_BUCKET_NAME']}/streams/"
        console.print(
            Text(
                f"AWS CLI:       with the settings of local AWS, for example\n"
                f"{local_aws.client_settings(aws_port)}\n  aws s3 cp my.csv {streams}"
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
        # Runs lost their data with local AWS, so they must not continue in a new one.
        shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)
        console.print("Local AWS kept its buckets and tables in memory: they are gone.")
    return 0


def _is_of_airflow(service: Service) -> bool:
    return service in (SCHEDULER, TRIGGERER) or bool(_WEBSERVER.fullmatch(service.name))


def _prepare_metadata_database() -> None:
    from airflow.cli.cli_parser import get_parser

    # In this process, because each start of Airflow's command line takes seconds.
    user = ["--username", UI_USER, "--password", UI_PASSWORD, "--role", "Admin"]
    person = ["--firstname", "Local", "--lastname", "Admin", "--email", "admin@example.com"]
    for command in (["db", "migrate"], ["users", "create", *user, *person]):
        arguments = get_parser().parse_args(command)
        arguments.func(arguments)


def _start_airflow(airflow: Airflow) -> None:
    webserver = Service(f"webserver_{airflow.web_port}_on_aws_{airflow.aws_port}")
    commands = {
        SCHEDULER: ["scheduler"],
        TRIGGERER: ["triggerer", "--skip-serve-logs"],
        webserver: ["webserver"],
    }
    for service, arguments in commands.items():
        service.start("airflow", arguments, os.environ)
    try:
        wait_until_ready(list(commands), lambda: _is_healthy(airflow.web_port), START_TIMEOUT_SECONDS)
    except UserError:
        stop(commands)
        raise


def _is_healthy(web_port: int) -> bool:
    answer = get(f"http://{HOST}:{web_port}/health")
    if answer is None:
        return False
    health = json.loads(answer)
    return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "triggerer"))


def _show_addresses(airflow: Airflow, console: Console) -> None:
    port = local_aws.port_option(airflow.aws_port)
    shown = dashboard.running_port(airflow.aws_port)
    console.print(
        Text(
            f"""
Airflow's UI:  {airflow.url}   user {UI_USER}, password {UI_PASSWORD}
Dashboard:     {dashboard.address(shown) if shown else f"it does not run; make dashboard{port} starts it"}
Task logs:     in the UI; those of scheduler, triggerer and webserver are in {LOGS_DIR}
New files:     a run takes the CSV files of streams/; without one it waits, and looks once a minute.
               To deliver a folder with streams/ and start a run, which the UI shows too:
  make run DATA=folder{port}
Trigger a run: in the UI, or
  curl --user {UI_USER}:{UI_PASSWORD} --header 'Content-Type: application/json' --data '{{}}' \\
      {airflow.url}/api/v1/dags/{DAG_ID}/dagRuns
Stop all:      make down"""
        ),
        soft_wrap=True,
    )
