"""`make up` and `make down`: run the pipeline under a real scheduler, with Airflow's UI."""

from __future__ import annotations

import json
import os
import shutil

from rich.console import Console
from rich.text import Text

from include.commands import command_settings, delivery, local_aws
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
WEBSERVER_PREFIX = "webserver_"
START_TIMEOUT_SECONDS = 180


def up(aws_port: int, web_port: int, console: Console) -> int:
    """Start local AWS, scheduler, triggerer and webserver, and wait until all of them are healthy.

    Raises:
        UserError: a port is taken, or a service did not start; the started parts of Airflow are stopped.
    """
    running = {service.name for service in recorded_services() if service.process()}
    webservers = [name for name in running if name.startswith(WEBSERVER_PREFIX)]
    if webservers and {SCHEDULER.name, TRIGGERER.name} <= running:
        command_settings.refuse_late(command_settings.OF_THE_SCHEDULER, "Airflow", os.environ)
        console.print("Airflow is up already.")
        _show_address(int(webservers[0].removeprefix(WEBSERVER_PREFIX)), console)
        return 0
    stop(service for service in recorded_services() if _is_of_airflow(service))
    if web_port == aws_port:
        raise UserError(f"Local AWS and Airflow's webserver cannot both use port {web_port}.")
    ports = "" if aws_port == local_aws.DEFAULT_PORT else f" AWS_PORT={aws_port}"
    require_free_port(web_port, "Airflow's webserver", f"make up{ports} WEB_PORT={web_port + 1}")

    environment = aws_environment(os.environ, aws_port)
    is_new = local_aws.ensure_running(aws_port, environment, "up", console)
    replace_environment(environment)
    resources = local_aws.deploy(aws_port, console)
    delivery.deliver_sample_if_first(resources["SOURCE_BUCKET_NAME"], console)
    if is_new:
        # Clean up as `down` does, because the last local AWS may have ended in another way.
        shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)
    replace_environment(
        scheduler_environment(airflow_environment(os.environ, aws_port, resources, AIRFLOW_HOME), web_port)
    )
    command_settings.require_valid()
    with spinner(console, "Airflow is starting"):
        with output_to(LOGS_DIR / "airflow_database.log"):
            _prepare_metadata_database()
        _start_airflow(web_port)
    console.print("Airflow is up." + (" The first scheduled run begins immediately." if is_new else ""))
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
        # Runs lost their data with local AWS, so they must not continue in a new one.
        shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)
        console.print("Local AWS kept its buckets and tables in memory: they are gone.")
    return 0


def _is_of_airflow(service: Service) -> bool:
    return service in (SCHEDULER, TRIGGERER) or service.name.startswith(WEBSERVER_PREFIX)


def _prepare_metadata_database() -> None:
    from airflow.cli.cli_parser import get_parser

    # In this process, because each start of Airflow's command line takes seconds.
    user = ["--username", UI_USER, "--password", UI_PASSWORD, "--role", "Admin"]
    person = ["--firstname", "Local", "--lastname", "Admin", "--email", "admin@example.com"]
    for command in (["db", "migrate"], ["users", "create", *user, *person]):
        arguments = get_parser().parse_args(command)
        arguments.func(arguments)


def _start_airflow(web_port: int) -> None:
    webserver = Service(f"{WEBSERVER_PREFIX}{web_port}")
    commands = {
        SCHEDULER: ["scheduler"],
        TRIGGERER: ["triggerer", "--skip-serve-logs"],
        webserver: ["webserver"],
    }
    for service, arguments in commands.items():
        service.start("airflow", arguments, os.environ)
    try:
        wait_until_ready(list(commands), lambda: _is_healthy(web_port), START_TIMEOUT_SECONDS)
    except UserError:
        stop(commands)
        raise


def _is_healthy(web_port: int) -> bool:
    answer = get(f"http://{HOST}:{web_port}/health")
    if answer is None:
        return False
    health = json.loads(answer)
    return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "triggerer"))


def _show_address(web_port: int, console: Console) -> None:
    url = f"http://localhost:{web_port}"
    console.print(
        Text(
            f"""
Airflow's UI:  {url}   user {UI_USER}, password {UI_PASSWORD}
Task logs:     in the UI; those of scheduler, triggerer and webserver are in {LOGS_DIR}
Trigger a run: in the UI, or
  curl --user {UI_USER}:{UI_PASSWORD} --header 'Content-Type: application/json' --data '{{}}' \\
      {url}/api/v1/dags/{DAG_ID}/dagRuns
Stop all:      make down"""
        ),
        soft_wrap=True,
    )
