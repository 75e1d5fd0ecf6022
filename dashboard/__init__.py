"""The dashboard on the KPIs and run reports: a Streamlit app, `streamlit run dashboard/app.py`."""
