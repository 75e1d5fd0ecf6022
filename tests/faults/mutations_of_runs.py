"""Safeguards against events of runs and services (scenarios 23 to 45, and 64), each with a mutation."""

from tests.faults.mutation import Mutation

HELPERS, TESTS = "dags/helpers", "tests/dags/helpers"
GLUE_TESTS = f"{TESTS}/test_trigger_glue_job.py"

MUTATIONS = {
    "a day is marked while it is written": Mutation(
        (24,),
        f"{HELPERS}/aws/kpi_table.py",
        '{":status": "updating"}',
        '{":status": "complete"}',
        f"{TESTS}/test_store_kpis_in_dynamodb.py::TestCrashAndRetry"
        "::test_day_is_not_complete_while_items_are_missing_and_the_retry_completes_it",
        "assert 'complete' == 'updating'",
    ),
    "a 412 may be an own write": Mutation(
        (25,),
        f"{HELPERS}/aws/s3_objects.py",
        "        if error_code(error) not in PRECONDITION_FAILED | CONFLICT:\n",
        "        if True:\n",
        f"{TESTS}/aws/test_s3_objects.py::TestJson::test_writer_whose_response_was_lost_gets_its_own_value",
        "PreconditionFailed",
    ),
    "a run is looked for before another is started": Mutation(
        (26,),
        f"{HELPERS}/trigger_glue_job.py",
        "            if run_id := self._adoptable_run(config):\n                return run_id\n",
        "",
        f"{GLUE_TESTS}::TestStart::test_run_whose_response_was_lost_is_adopted",
        "ConcurrentRunsExceededException",
    ),
    "the SDK does not repeat StartJobRun": Mutation(
        (26,),
        f"{HELPERS}/trigger_glue_job.py",
        'retries={"total_max_attempts": 1}',
        'retries={"total_max_attempts": 2}',
        f"{GLUE_TESTS}::TestStart::test_run_whose_response_was_lost_is_adopted",
        "assert 2 == 1",
    ),
    "a run that has succeeded is adopted": Mutation(
        (27,),
        f"{HELPERS}/trigger_glue_job.py",
        'if state in ACTIVE or (state == "SUCCEEDED" and same_script and self._output_is_current(config)):',
        "if state in ACTIVE:",
        f"{GLUE_TESTS}::TestAdoption::test_succeeded_run_is_adopted_if_its_output_is_still_right",
        "assert 'jr_",
    ),
    "only a run whose output is whole is adopted": Mutation(
        (28, 30),
        f"{HELPERS}/trigger_glue_job.py",
        'state == "SUCCEEDED" and same_script and self._output_is_current(config)',
        'state == "SUCCEEDED" and same_script',
        f"{GLUE_TESTS}::TestAdoption::test_batch_without_summary_is_computed_again",
        "!= 'jr_",
    ),
    "the summary goes first of an earlier output": Mutation(
        (28,),
        "glue_script/glue_script.py",
        "    output.delete(SUMMARY)\n    output.delete()\n",
        '    output.delete("listens")\n    output.delete("kpis")\n',
        "tests/glue_script/test_glue_script_job.py"
        "::test_failed_rerun_leaves_no_summary_of_an_earlier_attempt",
        "assert not True",
    ),
    "only SUCCEEDED is a success": Mutation(
        (29,),
        f"{HELPERS}/trigger_glue_job.py",
        '        if state != "SUCCEEDED":\n',
        '        if state not in ("SUCCEEDED", "STOPPED"):\n',
        f"{GLUE_TESTS}::TestExecuteComplete"
        "::test_any_other_state_fails_without_retry_and_logs_glues_message_below_the_output[STOPPED]",
        "DID NOT RAISE",
    ),
    "Glue must have read what the ingest counted": Mutation(
        (30,),
        f"{HELPERS}/run/glue_output.py",
        "    if read != valid_rows:\n",
        "    if False:\n",
        f"{TESTS}/test_store_kpis_in_dynamodb.py::TestRefusals"
        "::test_glue_run_that_read_other_rows_than_the_ingest_counted_is_refused",
        "DID NOT RAISE",
    ),
    "a complete run is left as it is": Mutation(
        (33,),
        f"{HELPERS}/run/store.py",
        "        return report\n\n    def report_if_complete",
        "        return None\n\n    def report_if_complete",
        f"{TESTS}/test_store_kpis_in_dynamodb.py::TestCrashAndRetry"
        "::test_complete_run_changes_nothing_and_returns_what_it_wrote",
        "GlueOutputError",
    ),
    "a file in the archive is still deleted from the source": Mutation(
        (34,),
        f"{HELPERS}/run/dispositions.py",
        "    if not is_current and (taken_to :=",
        "    if (taken_to :=",
        f"{TESTS}/test_archive_streams_data.py::TestCrashAndRetry"
        "::test_file_that_was_archived_but_not_deleted_is_verified_and_deleted",
        "assert 'streams/a.csv' not in ['songs/songs.csv', 'streams/a.csv'",
    ),
    "the archive proves that a file was deleted": Mutation(
        (35,),
        f"{HELPERS}/run/dispositions.py",
        '        if size == version["size"] and candidate.endswith(f"/{name}"):\n',
        "        if False:\n",
        f"{TESTS}/test_archive_streams_data.py::TestUnversionedBucket"
        "::test_file_that_was_deleted_but_not_recorded_is_proven_by_the_archive",
        "changed or vanished before it was archived",
    ),
    "temporary objects stay until the report is there": Mutation(
        (36,),
        f"{HELPERS}/delete_files_from_intermediate_bucket.py",
        "    if report is None:\n",
        "    if False:\n",
        f"{TESTS}/test_delete_files_from_intermediate_bucket.py::test_objects_of_a_run_without_report_are_kept",
        "AttributeError: 'NoneType' object has no attribute 'get'",
    ),
    "buckets must be different": Mutation(
        (37,),
        f"{HELPERS}/contract/settings.py",
        "        wrong += _buckets_named_twice(values)\n",
        "",
        f"{TESTS}/contract/test_settings.py::test_one_bucket_for_two_purposes_is_refused",
        "DID NOT RAISE",
    ),
    "a call that was throttled is repeated": Mutation(
        (38,),
        f"{HELPERS}/aws/clients.py",
        '"total_max_attempts": 5',
        '"total_max_attempts": 1',
        f"{TESTS}/test_store_kpis_in_dynamodb.py::TestCrashAndRetry::test_throttled_write_is_repeated",
        "ProvisionedThroughputExceededException",
    ),
    "a call is not repeated for ever": Mutation(
        (38,),
        f"{HELPERS}/aws/clients.py",
        '"total_max_attempts": 5',
        '"total_max_attempts": 50',
        f"{TESTS}/test_sense_streaming_data.py::TestConfiguration"
        "::test_service_that_is_down_is_a_retryable_error",
        "DID NOT RAISE",
    ),
    "no two items have one key": Mutation(
        (40,),
        f"{HELPERS}/run/kpi_items.py",
        "        if day not in versions or genre in items[day]:\n",
        "        if day not in versions:\n",
        f"{TESTS}/test_store_kpis_in_dynamodb.py::TestRefusals"
        "::test_item_that_cannot_be_stored_is_refused_before_anything_is_written[genre twice]",
        "DID NOT RAISE",
    ),
    "a number is stored as it is written": Mutation(
        (41,),
        f"{HELPERS}/run/kpi_items.py",
        "Decimal(str(value))",
        "Decimal(str(round(value, 2)))",
        f"{TESTS}/test_store_kpis_in_dynamodb.py::TestItems::test_number_is_stored_exactly[1e-07]",
        "assert Decimal('0.0') == Decimal('1E-7')",
    ),
    "an item has a key": Mutation(
        (41,),
        f"{HELPERS}/run/kpi_items.py",
        "        if not day or not genre:\n",
        "        if False:\n",
        f"{TESTS}/test_store_kpis_in_dynamodb.py::TestRefusals"
        "::test_item_that_cannot_be_stored_is_refused_before_anything_is_written[empty genre]",
        "ValidationException",
    ),
    "an item is not too large": Mutation(
        (41,),
        f"{HELPERS}/run/kpi_items.py",
        "    if size_in_bytes(item) > MAX_ITEM_BYTES:\n",
        "    if False:\n",
        f"{TESTS}/test_store_kpis_in_dynamodb.py::TestRefusals"
        "::test_item_that_is_too_large_is_refused_with_a_working_remedy[large]",
        "ValidationException",
    ),
    "what is denied is not missing": Mutation(
        (44,),
        f"{HELPERS}/aws/s3_objects.py",
        'MISSING = frozenset({"404", ',
        'MISSING = frozenset({"404", "AccessDenied", ',
        f"{TESTS}/aws/test_s3_objects.py::TestJson::test_denied_access_is_not_reported_as_a_missing_object",
        "DID NOT RAISE",
    ),
    "a required variable has no default": Mutation(
        (45,),
        f"{HELPERS}/contract/settings.py",
        '"source_bucket": lambda: _required("SOURCE_BUCKET_NAME"),',
        '"source_bucket": lambda: setting("SOURCE_BUCKET_NAME", "music-streaming-source"),',
        f"{TESTS}/contract/test_settings.py::test_missing_bucket_is_named_with_the_remedy",
        "DID NOT RAISE",
    ),
    "buckets and table are looked for first": Mutation(
        (45,),
        f"{HELPERS}/sense_streaming_data.py",
        "        check_resources(config)\n",
        "",
        f"{TESTS}/test_sense_streaming_data.py::TestConfiguration"
        "::test_missing_table_is_named_with_its_variable",
        "DID NOT RAISE",
    ),
    "a day with less history than the table counts is refused": Mutation(
        (64,),
        f"{HELPERS}/store_kpis_in_dynamodb.py",
        'return stored.listens <= counts["total"] and stored.version <= version',
        "return True",
        f"{TESTS}/test_store_kpis_in_dynamodb.py::TestRefusals"
        "::test_day_whose_history_lost_objects_keeps_its_kpis",
        "DID NOT RAISE",
    ),
}
