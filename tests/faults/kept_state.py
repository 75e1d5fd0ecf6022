"""States of a pipeline to which local AWS returns, because to rebuild one takes dozens of requests."""

from __future__ import annotations

import json
import uuid
from copy import deepcopy
from dataclasses import replace
from urllib.request import Request, urlopen

from tests.e2e.deployment import Deployment


class KeptState:
    """The state of a pipeline's buckets and table at one moment."""

    def __init__(self, deployment: Deployment) -> None:
        """Keep the present state."""
        self._deployment = replace(deployment, delivered=deepcopy(deployment.delivered))
        resources = deployment.resources
        buckets = (resources.source_bucket, resources.intermediate_bucket, resources.archive_bucket)
        self._number = self._post("keep", json.dumps({"buckets": buckets, "table": resources.kpi_table}))

    def restore(self) -> Deployment:
        """Return the pipeline to this state, with the name of a Glue job that does not exist."""
        self._post("restore", self._number)
        names = {**self._deployment.names, "GLUE_JOB_NAME": f"job-{uuid.uuid4().hex[:12]}"}
        return replace(self._deployment, names=names, delivered=deepcopy(self._deployment.delivered))

    def _post(self, command: str, body: str) -> str:
        address = f"{self._deployment.endpoint_url}/moto-api/{command}"
        with urlopen(Request(address, body.encode(), {"Content-Type": "text/plain"})) as response:
            answer: str = response.read().decode()
        return answer
