"""SQL on what the pipeline keeps: the tables, ten queries that analysts ask, and DuckDB to run them here.

The Glue tables of `include/stack.yaml` are the same tables for Athena.
"""
