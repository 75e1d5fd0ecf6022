"""Prints the template reduced to its retained resources; a new stack imports those first.

``python -m include.retained > retained.json``; docs/deploy.md describes the next steps. An import accepts
neither new resources nor outputs, so the whole template cannot be used for it.
"""

import json
import sys
from typing import Any

from include.local_aws.provision import read_template


def retained(template: dict[str, Any]) -> dict[str, Any]:
    """Return the template with only the resources that outlive their stack."""
    # An import creates nothing, so no resource has to wait for another.
    order = {"DependsOn", "Metadata"}
    kept = {
        name: {key: value for key, value in resource.items() if key not in order}
        for name, resource in template["Resources"].items()
        if resource.get("DeletionPolicy") == "RetainExceptOnCreate"
    }
    # It names the queue, which does not outlive its stack.
    source = kept["SourceBucket"]
    kept["SourceBucket"] = source | {
        "Properties": {
            name: value for name, value in source["Properties"].items() if name != "NotificationConfiguration"
        }
    }
    return {name: part for name, part in template.items() if name != "Outputs"} | {"Resources": kept}


if __name__ == "__main__":
    json.dump(retained(read_template()), sys.stdout, indent=1)
