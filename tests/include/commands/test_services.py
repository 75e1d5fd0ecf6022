from __future__ import annotations

import http.server
import json
import os
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest

from include.commands import services
from include.commands.errors import UserError
from include.commands.services import Service

# Starts a child, prints its pid, and sleeps like it.
PARENT = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else signal.SIG_DFL)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def service(local_dir: Path, tmp_path: Path) -> Service:
    (tmp_path / "parent.py").write_text(PARENT)
    return Service("parent")


def _start(service: Service, tmp_path: Path, *arguments: str) -> tuple[psutil.Process, psutil.Process]:
    service.start("parent", arguments, os.environ | {"PYTHONPATH": str(tmp_path)})
    services.wait_until_ready([service], lambda: service.log.read_text().endswith("\n"), 30)
    process = service.process()
    assert process is not None
    return process, psutil.Process(int(service.log.read_text()))


def _is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_service_has_a_session_of_its_own(service: Service, tmp_path: Path) -> None:
    process, child = _start(service, tmp_path)

    assert os.getsid(process.pid) == os.getsid(child.pid) == process.pid != os.getsid(0)
    assert services.recorded_services() == [service]


def test_stop_ends_the_process_and_all_that_it_started(service: Service, tmp_path: Path) -> None:
    process, child = _start(service, tmp_path)

    stopped = services.stop([service])

    assert stopped == [service]
    assert _is_gone(process)
    assert _is_gone(child)
    assert services.recorded_services() == []


def test_stop_ends_what_outlived_its_parent(service: Service, tmp_path: Path) -> None:
    process, child = _start(service, tmp_path)
    process.kill()
    process.wait()

    assert service.process() is None
    assert services.stop([service]) == [service]
    assert _is_gone(child)


def test_stop_uses_force_when_asking_does_not_help(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "STOP_TIMEOUT_SECONDS", 0.5)
    process, _ = _start(service, tmp_path, "stubborn")

    services.stop([service])

    process.wait(timeout=5)
    assert _is_gone(process)


def test_stranger_with_the_recorded_pid_is_left_alone(service: Service, tmp_path: Path) -> None:
    stranger, child = _start(service, tmp_path)
    record = service.record.read_text()
    ours = Service("ours")
    ours.record.write_text(json.dumps(json.loads(record) | {"create_time": time.time() - 3600}))

    assert ours.process() is None
    assert services.stop([ours]) == []
    assert not _is_gone(stranger)
    assert not _is_gone(child)
    assert services.recorded_services() == [service]


def test_stop_is_idempotent(service: Service, tmp_path: Path) -> None:
    _start(service, tmp_path)

    assert services.stop([service]) == [service]
    assert services.stop([service]) == []


@pytest.mark.parametrize("record", ["", "{", '{"pid": 1}'], ids=["empty", "cut off", "incomplete"])
def test_unreadable_record_counts_as_not_running(service: Service, record: str) -> None:
    service.record.parent.mkdir(parents=True)
    service.record.write_text(record)

    assert service.process() is None
    assert services.stop([service]) == []


def test_service_that_ends_while_it_starts_is_named_with_its_last_words(service: Service) -> None:
    service.start("no_such_module_of_ours", [], os.environ)

    with pytest.raises(UserError, match=r"(?s)parent ended while it started.*No module named no_such_module"):
        services.wait_until_ready([service], lambda: False, 30)


def test_service_that_is_never_ready_is_an_error_with_its_log(service: Service, tmp_path: Path) -> None:
    _start(service, tmp_path)

    with pytest.raises(UserError, match=r"Not ready after 0 seconds; see .*parent\.log"):
        services.wait_until_ready([service], lambda: False, 0.3)


def test_taken_port_is_named_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port}, which local AWS needs.*make run AWS_PORT=1234"):
            services.require_free_port(port, "local AWS", "make run AWS_PORT=1234")

    services.require_free_port(port, "local AWS", "make run AWS_PORT=1234")


def test_next_free_port_is_beyond_those_that_are_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]

        free = services.free_port_after(taken - 1)

    assert free > taken
    assert not services.port_is_taken(free)


def test_local_service_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/up" else 503)
            self.end_headers()
            self.wfile.write(b"yes")

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert services.get(f"{url}/up") == b"yes"
        assert services.get(f"{url}/down") is None
        server.shutdown()
    assert services.get(f"{url}/up") is None
