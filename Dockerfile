FROM quay.io/astronomer/astro-runtime:12.7.1
# glibc keeps what each thread freed apart, up to 100 MB a task; with two arenas threads share it (docs/performance.md).
ENV MALLOC_ARENA_MAX=2
# With all groups expanded, the graph of Airflow 2 is wider than a screen from left to right.
ENV AIRFLOW__WEBSERVER__DAG_ORIENTATION=TB
