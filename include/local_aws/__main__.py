"""Command line of local AWS: ``python -m include.local_aws serve``."""

import argparse
import sys

from include.local_aws.server import PortTakenError, serve


def main() -> int:
    """Run the given command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m include.local_aws", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    serve_parser = commands.add_parser(
        "serve",
        help="run local AWS until it is interrupted",
        epilog="LOCAL_AWS_DRIVER_MEMORY in the environment sets the memory of a job's Spark (default 2g).",
    )
    serve_parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve_parser.add_argument("--port", type=int, default=5555, help="port to listen on; 0 takes a free one")
    serve_parser.add_argument("--verbose", action="store_true", help="log every request")
    arguments = parser.parse_args()
    try:
        serve(arguments.host, arguments.port, verbose=arguments.verbose)
    except PortTakenError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
