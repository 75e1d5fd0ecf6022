"""Entry point of the dashboard: `python -m streamlit run dashboard/app.py` from the project's folder."""

from __future__ import annotations

import streamlit as st

from dashboard.source import NothingYetError
from include.kpis.problems import ReadError

st.set_page_config(page_title="Music streaming KPIs", page_icon=":material/headphones:", layout="wide")
page = st.navigation(
    [
        st.Page("views/day.py", title="Day", icon=":material/today:", default=True),
        st.Page("views/trends.py", title="Trends", icon=":material/show_chart:"),
        st.Page("views/pipeline.py", title="Pipeline", icon=":material/account_tree:"),
    ],
    position="top",
)
try:
    page.run()
except NothingYetError as error:
    st.info(str(error), icon=":material/hourglass_empty:")
except ReadError as error:
    st.error(str(error), icon=":material/error:")
