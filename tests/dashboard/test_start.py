"""The dashboard as `streamlit run` starts it: pytest's own paths would hide a module that a user lacks."""

from __future__ import annotations

import os
import subprocess
import sys

from local_aws_support import REPOSITORY

# Streamlit catches the errors of a page, so the script asks for them.
START = """
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("dashboard/app.py", default_timeout=60).run()
print(*(error.value for error in app.exception))
"""


def test_app_starts_with_nothing_but_the_projects_folder_on_the_path() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    completed = subprocess.run(
        [sys.executable, "-c", START],
        cwd=REPOSITORY,
        env=environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert completed.stdout.strip() == ""
