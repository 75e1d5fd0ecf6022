"""The dashboard on the KPIs and run reports: a Streamlit app, `streamlit run dashboard/app.py`."""

import include  # noqa: F401  # It puts the facts of `dags/helpers` on the path, whichever module comes first.
