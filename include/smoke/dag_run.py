"""One run of the DAG in its own process: `python -m include.smoke.dag_run RESULT LOG`.

Airflow's output goes to the file LOG, a line per task to this process's output, and the run's result as JSON
to the file RESULT.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from include.commands.pipeline_run import run_pipeline
from include.commands.terminal import open_console, output_to


def main(result: Path, log: Path) -> None:
    """Run the DAG in the Airflow that the environment describes."""
    console = open_console()

    def on_end(label: str, state: str, seconds: float | None) -> None:
        took = "" if seconds is None else f"{seconds:{22 - len(state)}.1f} s"
        console.print(f"    {label:<44} {state}{took}", markup=False)

    with output_to(log):
        outcome = run_pipeline(lambda label: None, on_end, retry_delay=None)
    result.write_text(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
