from __future__ import annotations

from typing import Any

import pytest

from helpers.contract import records
from helpers.contract.keys import catalog_copy_key, history_prefix, kpis_key, report_key
from helpers.ingest.catalogs import SONGS_SCHEMA, USERS_SCHEMA
from helpers.validate_csv_files import REJECTED_COLUMNS
from include.local_aws.provision import read_template
from include.sql.tables import (
    KPIS,
    LISTENS,
    REJECTED_ROWS,
    RUN_REPORTS,
    SONGS,
    TABLES,
    USERS,
    Table,
    hive_type,
)
from local_aws_support import REPOSITORY


def table_input(table: Table) -> dict[str, Any]:
    name = "".join(word.capitalize() for word in table.name.split("_"))
    found: dict[str, Any] = read_template()["Resources"][f"{name}Table"]["Properties"]["TableInput"]
    return found


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_glue_table_of_the_stack_has_the_same_columns_and_objects(table: Table) -> None:
    given = table_input(table)
    storage, parameters = given["StorageDescriptor"], given["Parameters"]

    assert given["Name"] == table.name
    assert storage["Location"] == {"Fn::Sub": f"s3://${{ArchiveBucketParameter}}/{table.prefix}"}
    assert {column["Name"]: column["Type"] for column in storage["Columns"]} == {
        column.name: hive_type(column.type) for column in table.columns
    }
    partitions = [{"Name": "listen_date", "Type": "date"}] if table.is_by_day else []
    assert given.get("PartitionKeys", []) == partitions
    if table.is_by_day:
        template = f"s3://${{ArchiveBucketParameter}}/{table.prefix}listen_date=${{!listen_date}}/"
        assert parameters["storage.location.template"] == {"Fn::Sub": template}


def test_columns_are_those_that_the_pipeline_writes() -> None:
    assert SONGS.columns == SONGS_SCHEMA
    assert USERS.columns == USERS_SCHEMA
    assert REJECTED_ROWS.columns.names == REJECTED_COLUMNS
    assert set(RUN_REPORTS.columns.names) <= records.RunReport.__annotations__.keys()
    totals = RUN_REPORTS.columns.field("totals").type
    assert {field.name for field in totals} == records.ReportTotals.__annotations__.keys() - {
        "rejected_by_reason"
    }
    check = RUN_REPORTS.columns.field("checks").type.value_type
    assert {field.name for field in check} == records.Check.__annotations__.keys()


def test_objects_are_where_the_pipeline_writes_them() -> None:
    assert history_prefix("2024-06-25") == f"{LISTENS.prefix}listen_date=2024-06-25/"
    assert kpis_key("2024-06-25").startswith(f"{KPIS.prefix}listen_date=2024-06-25/")
    assert catalog_copy_key("songs", "a").startswith(SONGS.prefix)
    assert catalog_copy_key("users", "a").startswith(USERS.prefix)
    assert report_key("run").startswith(RUN_REPORTS.prefix)


def test_page_on_sql_has_every_table_and_column() -> None:
    page = (REPOSITORY / "docs" / "sql.md").read_text()

    for table in TABLES:
        assert f"| `{table.name}` | {table.meaning} | `{table.prefix}` |" in page
        for column in table.columns:
            assert f"| `{table.name}` | `{column.name}` | `{hive_type(column.type)}` |" in page
