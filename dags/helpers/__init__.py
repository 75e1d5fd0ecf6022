"""The code of the DAG's tasks: one module per task, named after it, and packages ("rooms") that tasks share.

The tasks, in the order in which they run (`choose_input` is in the DAG file):

- `sense_streaming_data` checks settings and resources, then waits for a stream file.
- `list_stream_files` fixes the list of file versions that the run works on.
- `extract_and_combine_streams` reads one part's files and combines their records.
- `validate_csv_files` separates one part's valid rows from its rejected rows.
- `move_files_to_intermediate_bucket` checks the whole run's input and moves it to the Glue job's input
  prefix.
- `prepare_reprocessing` replaces the previous four tasks in a run that reprocesses days of the history.
- `trigger_glue_job` runs the Glue script, which computes the KPIs, or adopts a run that is in progress.
- `store_kpis_in_dynamodb` checks the Glue job's output, adds listens to the history and writes the KPI items.
- `archive_streams_data` archives or quarantines the source files and writes the run report.
- `delete_files_from_intermediate_bucket` deletes the run's temporary objects.

The rooms. A task imports rooms, never another task; a room imports no task.

- `contract` defines names, keys, records and settings. It needs only the standard library, so the commands,
  the dashboard and the tests import it too.
- `aws` creates clients and uses S3 and the KPI table safely.
- `ingest` reads CSV files and catalogs, and decides which rows are valid.
- `run` reads and writes the state that a run's tasks share: manifests, checks, Glue's output, the report.
- `notices` informs people: run notes, alerts, links, metrics.

`errors` defines every failure that people see, each with its runbook section and the next step.
"""
