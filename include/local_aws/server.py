"""The HTTP server of local AWS."""

import errno
import os
import signal
import socket
import threading
import time

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from include.local_aws import authorization, glue, job_process, moto_fixes


class PortTakenError(OSError):
    """Another program listens on the port of local AWS."""


class _QuietRequestHandler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: a pipeline run makes thousands of requests."""


def serve(host: str, port: int, *, verbose: bool = False) -> None:
    """Serve local AWS on ``host:port`` until SIGINT or SIGTERM, then end the remaining job runs.

    Args:
        host: address to listen on.
        port: port to listen on; 0 chooses a free one. The address is printed once the server is up.
        verbose: log a line per request.

    Raises:
        PortTakenError: another program listens on the port.
    """
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    _forget_user_credentials()
    endpoint_url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    moto_fixes.install()
    authorization.install()
    glue.install(endpoint_url)

    signals: list[int] = []
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda number, _: signals.append(number))
    server = make_server(
        host,
        port,
        DomainDispatcherApplication(create_backend_app),
        threaded=True,
        request_handler=MotoRequestHandler if verbose else _QuietRequestHandler,
        fd=listener.fileno(),
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"Local AWS is up at {endpoint_url}", flush=True)
    # A signal that another thread receives does not end a wait of this thread, which alone runs the handlers.
    while not signals:
        time.sleep(0.2)
    # The server keeps running until they have ended, because a run may be waiting for an answer.
    glue.end_all_runs()
    job_process.end_waiting()
    server.shutdown()
    listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortTakenError(
            f"Port {port} on {host} is taken by another program: stop it, or choose another port with --port."
        ) from None


def _forget_user_credentials() -> None:
    # The server and its jobs must never use, or fall back to, an AWS profile of the user.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.devnull
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
