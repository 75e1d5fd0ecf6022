"""Turns delivered CSV files into typed Parquet."""
