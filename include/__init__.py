"""Everything outside the DAG: commands, local AWS, the read side. It imports facts from `dags/helpers`."""

import sys
from pathlib import Path

# Airflow puts this folder on the path for the DAG. Commands that run without Airflow need it too.
sys.path.append(str(Path(__file__).resolve().parents[1] / "dags"))
