"""AWS clients, and safe ways to use S3 and the KPI table."""
