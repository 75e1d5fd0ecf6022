"""Local AWS that records every right that it requires, of whom, and whether it was allowed.

`python -m tests.include.stack_policies.enforcing_server FILE` writes a JSON line for each right that a
request requires. It writes none while the checks are off.
"""

import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from include.local_aws import authorization
from include.local_aws.iam_policies import Request, Statement
from include.local_aws.server import serve


def record_decisions(file: Path) -> None:
    """Make local AWS, in this process, write its decisions to the file."""
    decide, lock = authorization.refused, threading.Lock()

    def recorded(caller: str, requests: authorization.Requests, statements: list[Statement]) -> list[Request]:
        asked = list(requests)
        refused = decide(caller, asked, statements)
        with lock, file.open("a") as lines:
            for request in asked:
                decision = asdict(request) | {"caller": caller, "allowed": request not in refused}
                lines.write(json.dumps(decision) + "\n")
        return refused

    authorization.refused = recorded


if __name__ == "__main__":
    record_decisions(Path(sys.argv[1]))
    serve("127.0.0.1", 0)
