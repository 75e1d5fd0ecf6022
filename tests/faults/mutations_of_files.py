"""Safeguards against what may happen to files and be in them (scenarios 1 to 22), each with a mutation."""

from tests.faults.mutation import Mutation

HELPERS, TESTS = "dags/helpers", "tests/dags/helpers"
GLUE_SCRIPT, GLUE_TESTS = "glue_script/glue_script.py", "tests/glue_script"

MUTATIONS = {
    "only the version that was read is deleted": Mutation(
        (3, 4),
        f"{HELPERS}/archive_streams_data.py",
        "    return same_id and found",
        "    return found",
        f"{TESTS}/test_archive_streams_data.py::TestDispositions"
        "::test_newer_version_survives_and_the_read_one_is_archived",
        "An error occurred (404) when calling the HeadObject operation: Not Found",
    ),
    "a retry works on the list of the first attempt": Mutation(
        (1,),
        f"{HELPERS}/list_stream_files.py",
        "    if manifest is None:\n"
        "        manifest = write_json_once("
        "s3, config.archive_bucket, key, freeze(s3, dag_run_id, config))\n",
        "    from helpers.s3_objects import write_json\n\n"
        "    manifest = freeze(s3, dag_run_id, config)\n"
        "    write_json(s3, config.archive_bucket, key, manifest)\n",
        f"{TESTS}/test_list_stream_files.py::TestListStreamFiles::test_two_attempts_at_a_time_work_on_one_list",
        "assert 1 == 2",
    ),
    "repeated listens become one": Mutation(
        (5, 6),
        GLUE_SCRIPT,
        '    return listens.groupBy(*identity).agg(F.bit_or("sources").alias("sources"))',
        "    return listens",
        f"{GLUE_TESTS}/test_glue_script.py::test_repeated_listens_become_one_that_knows_all_its_sources",
        "sources=4",
    ),
    "a day is computed from the history too": Mutation(
        (4, 5, 13),
        GLUE_SCRIPT,
        "    if folders:\n",
        "    if not folders:\n",
        f"{GLUE_TESTS}/test_glue_script_job.py::test_listen_of_own_and_of_another_batch_is_not_new",
        "assert (3, 3, 3) == (2, 1, 3)",
    ),
    "a file's name in the archive has its version": Mutation(
        (7,),
        f"{HELPERS}/archive_streams_data.py",
        "    return f\"{name}__{version['version_id'] or version['etag'].strip(chr(34))}{suffix}\"\n",
        '    return f"{name}{suffix}"\n',
        f"{TESTS}/test_archive_streams_data.py::TestDispositions::test_same_name_with_other_content_is_kept_for_each_run",
        "Right contains one more item",
    ),
    "a record that was cut is told": Mutation(
        (9,),
        f"{HELPERS}/csv_reader.py",
        "            pending.append(MalformedRecord(record.number, record.text))\n",
        "",
        f"{TESTS}/test_csv_reader.py::test_record_that_the_end_of_the_file_cuts_is_told",
        "At index 1 diff: [] != [MalformedRecord(row=2",
    ),
    "an empty file is no file without rows": Mutation(
        (10,),
        f"{HELPERS}/csv_reader.py",
        '            raise FileRejectedError("the file is empty: it has not even a header")\n',
        '            return self._columns, b""\n',
        f"{TESTS}/test_csv_reader.py::test_unusable_file_is_rejected_with_the_reason[zero bytes]",
        "DID NOT RAISE",
    ),
    "what is no CSV file is left alone": Mutation(
        (10,),
        f"{HELPERS}/list_stream_files.py",
        '    streams = [version for version in listed if version["key"].endswith(CSV_SUFFIXES)]\n',
        "    streams = listed\n",
        f"{TESTS}/test_list_stream_files.py::TestListStreamFiles::test_keys_that_are_no_csv_are_recorded_and_left",
        "Left contains 5 more items",
    ),
    "nothing is computed from files without a valid row": Mutation(
        (10, 19),
        f"{HELPERS}/move_files_to_intermediate_bucket.py",
        "    if not rows:\n",
        "    if False:\n",
        f"{TESTS}/test_move_files_to_intermediate_bucket.py::TestNoValidRow::test_run_ends_red_with_the_reasons",
        "DID NOT RAISE",
    ),
    "all pages of a listing are read": Mutation(
        (11,),
        f"{HELPERS}/s3_objects.py",
        '    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)\n',
        "    pages = [s3.list_object_versions(Bucket=bucket, Prefix=prefix)]\n",
        f"{TESTS}/test_s3_objects.py::TestListCurrentVersions::test_objects_of_all_pages_are_listed",
        "Right contains 8 more items",
    ),
    "keys are taken as they are": Mutation(
        (12,),
        f"{HELPERS}/s3_objects.py",
        '            key=version["Key"],\n',
        '            key=__import__("urllib.parse").parse.unquote_plus(version["Key"]),\n',
        f"{TESTS}/test_s3_objects.py::TestListCurrentVersions::test_object_that_came_again_after_its_deletion_is_listed",
        "'streams/a b ü%[1]*.csv'",
    ),
    "a run without a CSV file is skipped": Mutation(
        (14,),
        f"{HELPERS}/list_stream_files.py",
        "    if not streams:\n",
        "    if False:\n",
        f"{TESTS}/test_list_stream_files.py::TestListStreamFiles::test_run_without_a_csv_is_skipped_and_leaves_nothing",
        "DID NOT RAISE",
    ),
    "Glue does not run where both ways to it were skipped": Mutation(
        (14,),
        "dags/music_streaming_services_dag.py",
        "TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS",
        "TriggerRule.NONE_FAILED",
        "tests/dags/test_dag_example.py::TestDag::test_only_glue_runs_though_one_of_its_two_ways_was_skipped",
        "'none_failed'> ==",
    ),
    "every column must be in the header": Mutation(
        (15,),
        f"{HELPERS}/csv_reader.py",
        "        if missing:\n",
        "        if False:\n",
        f"{TESTS}/test_extract_and_combine_streams.py"
        "::test_file_of_a_wrong_structure_is_quarantined_and_the_others_go_on[missing column]",
        "ArrowKeyError",
    ),
    "columns are found by name": Mutation(
        (16,),
        f"{HELPERS}/csv_reader.py",
        "        self._names = _unique_names(header, columns)\n",
        "        self._names = [*columns, *map(str, range(len(header) - len(columns)))]\n",
        f"{TESTS}/test_csv_reader.py::test_every_form_of_a_file_gives_the_same_rows[other order]",
        "(1, 'a', 'x', '1')",
    ),
    "an id must not be empty": Mutation(
        (17,),
        f"{HELPERS}/validate_csv_files.py",
        '        "empty user_id": user_id == "",\n',
        "",
        f"{TESTS}/test_validate_csv_files.py::TestCheckRows"
        "::test_first_rule_that_a_row_breaks_is_its_reason[no user]",
        "assert None == 'empty user_id'",
    ),
    "a listen has a time": Mutation(
        (17,),
        f"{HELPERS}/validate_csv_files.py",
        '        "invalid listen_time": listen_time.isna(),\n',
        "",
        f"{TESTS}/test_validate_csv_files.py::TestCheckRows"
        "::test_first_rule_that_a_row_breaks_is_its_reason[no time]",
        "assert None == 'invalid listen_time'",
    ),
    "a byte order mark is no part of a name": Mutation(
        (18,),
        f"{HELPERS}/csv_reader.py",
        "start.removeprefix(codecs.BOM_UTF8)",
        "start",
        f"{TESTS}/test_csv_reader.py::test_every_form_of_a_file_gives_the_same_rows[byte order mark]",
        "missing column user_id",
    ),
    "a quoted line break ends no record": Mutation(
        (18,),
        f"{HELPERS}/csv_reader.py",
        "newlines_in_values=True",
        "newlines_in_values=False",
        f"{TESTS}/test_csv_reader.py::test_rows_keep_their_numbers_over_many_blocks[0-LF]",
        "the file is not well-formed CSV",
    ),
    "an id has no NUL": Mutation(
        (18,),
        f"{HELPERS}/validate_csv_files.py",
        '        "NUL character": _contains_nul(records),\n',
        "",
        f"{TESTS}/test_validate_csv_files.py::TestCheckRows"
        "::test_first_rule_that_a_row_breaks_is_its_reason[NUL in user]",
        "assert None == 'NUL character'",
    ),
    "too many bad rows reject a file": Mutation(
        (19,),
        f"{HELPERS}/validate_csv_files.py",
        "    if rejected <= Decimal(str(max_rejected_fraction)) * rows:\n",
        "    if True:\n",
        f"{TESTS}/test_validate_csv_files.py::TestValidateCsvFiles"
        "::test_file_is_rejected_above_the_fraction_of_bad_rows_and_not_at_it[0.05-6-100-quarantine]",
        "assert 'archive' == 'quarantine'",
    ),
    "no row of a rejected file is counted": Mutation(
        (19,),
        f"{HELPERS}/validate_csv_files.py",
        "_tables(valid.path, accepted)",
        "_tables(valid.path, range(len(outcomes)))",
        f"{TESTS}/test_validate_csv_files.py::TestValidateCsvFiles"
        "::test_file_that_is_rejected_as_a_whole_takes_only_its_own_rows_along",
        "Left contains one more item",
    ),
    "a listen of an unknown track is kept": Mutation(
        (20,),
        GLUE_SCRIPT,
        'track_listens.join(songs, "track_id", how="left")',
        'track_listens.join(songs, "track_id", how="inner")',
        f"{GLUE_TESTS}/test_glue_script.py"
        "::test_track_counts_in_each_of_its_genres_and_as_unknown_without_catalog_row",
        "is_first=True)] instead of [",
    ),
    "an offset is heeded": Mutation(
        (21,),
        f"{HELPERS}/validate_csv_files.py",
        "    strings = pa.array(texts, pa.string())\n",
        '    strings = pc.replace_substring_regex(pa.array(texts, pa.string()), _OFFSET_PATTERN, "")\n',
        f"{TESTS}/test_validate_csv_files.py::TestParseListenTimes::test_good_form_is_the_instant_that_it_says",
        "datetime.datetime(2024, 6, 25, 15, 43, 13",
    ),
    "a gzipped file is told by its content": Mutation(
        (22,),
        f"{HELPERS}/csv_reader.py",
        "if start == _GZIP_MAGIC else source",
        "if False else source",
        f"{TESTS}/test_csv_reader.py::test_gzip_of_several_members_is_one_file",
        "the file is not UTF-8: byte 0x8b",
    ),
    "a gzipped file is unzipped in pieces": Mutation(
        (22,),
        f"{HELPERS}/csv_reader.py",
        'gzip.GzipFile(fileobj=source, mode="rb") if',
        "io.BytesIO(gzip.GzipFile(fileobj=source).read()) if",
        f"{TESTS}/test_csv_reader.py::test_gzip_bomb_is_handled_in_bounded_memory[good records]",
        "< 200",
    ),
}
