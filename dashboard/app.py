"""Entry point of the dashboard: `python -m streamlit run dashboard/app.py` from the project's folder."""

from __future__ import annotations

import streamlit as st

from dashboard.charts import ink
from dashboard.source import NothingYetError
from include.kpis.problems import ReadError

TITLE = "Music streaming KPIs"

st.set_page_config(page_title=TITLE, page_icon=":material/headphones:", layout="wide")
# The logo is the only place beside the navigation that every page and width shows.
st.logo(
    "<svg xmlns='http://www.w3.org/2000/svg' width='260' height='32' viewBox='0 0 260 32'>"
    "<text x='0' y='23' font-family='sans-serif' font-size='20' font-weight='600' "
    f"fill='{ink()}'>{TITLE}</text></svg>",
    size="large",
)
DAY = st.Page("views/day.py", title="Day", icon=":material/today:")


def start() -> None:
    """Show the page Day, whose address is `/day`: Streamlit serves a default page at `/` only."""
    st.switch_page(DAY, query_params=st.query_params.to_dict())


page = st.navigation(
    [
        st.Page(start, default=True, visibility="hidden"),
        DAY,
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
