import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

import pytest
from airflow.providers.amazon.aws.hooks.glue import GlueJobHook
from botocore.exceptions import ClientError

from local_aws_support import WRITE_TO_OUTPUT, GlueJob, connect, make_glue_job, process_runs, wait_for

SLEEP_WITH_CHILD = (
    WRITE_TO_OUTPUT
    + """
    child = subprocess.Popen(["sleep", "600"])
    (output / "pids").write_text(f"{os.getpid()} {child.pid}")
    print("asleep", os.getpid(), child.pid)
    time.sleep(600)
"""
)

# Prints what it finds, and leaves behind what the next run must not find.
FIND = """
    import argparse, json, os, sys
    from pathlib import Path
    from pyspark.sql import SparkSession

    parser = argparse.ArgumentParser()
    parser.add_argument("--INPUT")
    parser.add_argument("--FAIL")
    arguments, _ = parser.parse_known_args()
    spark = SparkSession.builder.config("spark.job.description", "x").getOrCreate()
    print(json.dumps({
        "jvm": spark._jvm.java.lang.ProcessHandle.current().pid(),
        "users": sorted(row.user for row in spark.read.csv(arguments.INPUT, header=True).collect()),
        "views": [table.name for table in spark.catalog.listTables()],
        "files": [path.name for path in Path().iterdir() if path.name == "left.txt"],
        "environment": os.environ.get("LEFT"),
        "setting": spark.conf.get("spark.left", "none"),
        "stdin": sys.stdin.read(),
    }))
    spark.range(1).createOrReplaceTempView("left")
    spark.conf.set("spark.left", "behind")
    Path("left.txt").write_text("left")
    os.environ["LEFT"] = "behind"
    if arguments.FAIL:
        raise ValueError("told to fail")
    sys.exit(0)
"""

SPARK = """
    import argparse
    from pyspark.sql import SparkSession, functions as F

    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--INPUT", "--OUTPUT", "--JOB_NAME", "--JOB_RUN_ID", "--COLOUR", "--SHAPE"):
        parser.add_argument(name)
    arguments, _ = parser.parse_known_args()
    print(f"{arguments.JOB_NAME} {arguments.JOB_RUN_ID} {arguments.COLOUR} {arguments.SHAPE}")

    spark = SparkSession.builder.getOrCreate()
    print("java", spark._jvm.System.getProperty("java.home"))
    path = spark._jvm.org.apache.hadoop.fs.Path(arguments.OUTPUT)
    hadoop = path.getFileSystem(spark._jsc.hadoopConfiguration())
    hadoop.delete(path, True)
    listens = spark.read.csv(arguments.INPUT, header=True)
    assert listens.first()["listen_date"].isoformat() == "2024-06-25"
    counts = listens.groupBy("listen_date", "genre").agg(F.count("*").alias("listens"))
    counts.coalesce(1).write.partitionBy("genre").json(arguments.OUTPUT + "kpis")
    spark.createDataFrame([(1,)], "n int").filter("no_such_column = 1")
"""


def test_spark_reads_and_writes_s3_and_failure_leaves_output_and_message(glue_job: GlueJob) -> None:
    glue_job.s3.put_object(
        Bucket=glue_job.input_bucket,
        Key="listens/listen_date=2024-06-25/part 1.csv",
        Body=b"user,genre\n1,hip hop\n2,hip hop\n3,a:b\n",
    )
    glue_job.s3.put_object(Bucket=glue_job.output_bucket, Key="output/stale.json", Body=b"{}")

    run = glue_job.run(
        SPARK,
        {
            "--INPUT": f"s3://{glue_job.input_bucket}/listens/",
            "--OUTPUT": glue_job.output_uri,
            "--COLOUR": "blue",
        },
    )

    output = glue_job.output()
    parts = {key.rpartition("/")[0]: body for key, body in output.items() if key.endswith(".json")}
    assert parts == {
        "output/kpis/genre=hip hop": '{"listen_date":"2024-06-25","listens":2}\n',
        "output/kpis/genre=a%3Ab": '{"listen_date":"2024-06-25","listens":1}\n',
    }
    assert len(output) == 3, f"only the parts and _SUCCESS, no .crc files: {sorted(output)}"
    assert run["JobRunState"] == "FAILED"
    assert "AnalysisException" in run["ErrorMessage"]
    assert "no_such_column" in run["ErrorMessage"]
    assert "Traceback" not in run["ErrorMessage"]
    printed = glue_job.read_log(run["Id"], "output")
    assert printed.startswith(f"{glue_job.name} {run['Id']} blue round\njava ")
    errors = glue_job.read_log(run["Id"], "error")
    assert errors.startswith("Traceback"), "Spark itself logs nothing"


def test_next_run_finds_the_jvm_of_the_last_that_succeeded_and_nothing_else_of_it(
    glue_job: GlueJob,
) -> None:
    def find(listens: bytes, **arguments: str) -> dict[str, Any]:
        key = f"{arguments.get('prefix', 'listens')}/a.csv"
        glue_job.s3.put_object(Bucket=glue_job.input_bucket, Key=key, Body=b"user\n" + listens)
        uri = f"s3://{glue_job.input_bucket}/{key}"
        run = glue_job.run(FIND, {"--INPUT": uri, "--FAIL": arguments.get("fail", "")})
        assert run["JobRunState"] == ("FAILED" if "fail" in arguments else "SUCCEEDED"), run
        found: dict[str, Any] = json.loads(glue_job.read_log(run["Id"], "output"))
        return found

    first, second = find(b"1\n"), find(b"2\n3\n", prefix="others")
    failed = find(b"4\n", fail="yes")
    after_failure = find(b"5\n")

    nothing = {"views": [], "files": [], "environment": None, "setting": "none", "stdin": ""}
    assert first == {"jvm": first["jvm"], "users": ["1"], **nothing}
    assert second == {"jvm": first["jvm"], "users": ["2", "3"], **nothing}
    assert failed["jvm"] == first["jvm"]
    assert after_failure == {"jvm": after_failure["jvm"], "users": ["5"], **nothing}
    assert after_failure["jvm"] != first["jvm"]
    wait_for(lambda: not process_runs(first["jvm"]))


def test_script_that_ends_the_jvm_itself_has_succeeded(glue_job: GlueJob) -> None:
    run = glue_job.run("""
        from pyspark import SparkContext

        SparkContext._ensure_initialized()
        SparkContext._gateway.proc.kill()
    """)

    assert run["JobRunState"] == "SUCCEEDED", run
    assert glue_job.run("print('up')")["JobRunState"] == "SUCCEEDED"


def test_run_is_described_as_by_glue(glue_job: GlueJob) -> None:
    glue_job.put_script("import time; print('up'); time.sleep(1.2)")
    run_id = glue_job.start({"--COLOUR": "blue"})
    started = glue_job.describe(run_id)
    glue_job.wait_for_log(run_id, "up")
    running = glue_job.describe(run_id)
    ended = glue_job.wait(run_id)

    assert started["JobRunState"] in ("STARTING", "RUNNING")
    assert running["JobRunState"] == "RUNNING"
    assert "CompletedOn" not in running
    assert ended["JobRunState"] == "SUCCEEDED"
    assert "ErrorMessage" not in ended
    assert ended["StartedOn"] < ended["CompletedOn"] == ended["LastModifiedOn"]
    assert 1 <= ended["ExecutionTime"] <= 10
    assert ended["Arguments"] == {"--COLOUR": "blue", "--SHAPE": "round"}
    expected = {
        "Attempt": 0,
        "GlueVersion": "5.1",
        "JobName": glue_job.name,
        "LogGroupName": "/aws-glue/jobs",
        "MaxCapacity": 2.0,
        "NumberOfWorkers": 2,
        "Timeout": 480,
        "WorkerType": "G.1X",
    }
    assert {name: ended[name] for name in expected} == expected
    assert "DPUSeconds" not in ended, "Glue counts them with auto scaling only"


def test_run_with_auto_scaling_has_its_dpu_seconds_once_it_has_ended(glue_job: GlueJob) -> None:
    glue_job.put_script("import time; print('up'); time.sleep(1.2)")
    run_id = glue_job.start({"--enable-auto-scaling": "true"})
    glue_job.wait_for_log(run_id, "up")
    running = glue_job.describe(run_id)
    ended = glue_job.wait(run_id)

    assert "DPUSeconds" not in running
    assert ended["DPUSeconds"] == 2 * ended["ExecutionTime"] > 0


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param(
            "raise ValueError('no manifest\\nat all')", "ValueError: no manifest\nat all", id="exception"
        ),
        pytest.param(
            "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('day') from e",
            "KeyError: 'day'",
            id="chained exception",
        ),
        pytest.param(
            "import include", "ModuleNotFoundError: No module named 'include'", id="module of the server"
        ),
        pytest.param(
            "raise SystemExit('stop')", "Command failed with exit code 1: stop", id="exit with message"
        ),
        pytest.param("raise SystemExit(3)", "Command failed with exit code 3", id="exit code"),
        pytest.param("import os; os.abort()", "Command failed with exit code -6", id="signal"),
    ],
)
def test_failed_run_shows_the_last_exception(glue_job: GlueJob, script: str, message: str) -> None:
    run = glue_job.run(script)
    assert (run["JobRunState"], run["ErrorMessage"]) == ("FAILED", message)


def test_job_acts_as_its_role_in_local_aws_and_not_as_the_user(glue_job: GlueJob) -> None:
    run = glue_job.run("import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])")
    assert run["JobRunState"] == "SUCCEEDED", run.get("ErrorMessage")
    assert ":assumed-role/some-role/" in glue_job.read_log(run["Id"], "output")
    assert glue_job.read_log(run["Id"], "error") == ""


def test_missing_script_fails_and_names_it(glue_job: GlueJob) -> None:
    run = glue_job.wait(glue_job.start())
    assert run["JobRunState"] == "FAILED"
    assert f"s3://{glue_job.input_bucket}/artifacts/script.py" in run["ErrorMessage"]


def test_missing_bucket_in_an_argument_fails_and_is_named(glue_job: GlueJob) -> None:
    run = glue_job.run("print('never')", {"--INPUT": "s3://no-such-bucket/input/"})
    assert run["JobRunState"] == "FAILED"
    assert "no-such-bucket" in run["ErrorMessage"]


def test_timeout_kills_the_process_group_and_keeps_its_output(glue_job: GlueJob) -> None:
    glue_job.glue.tag_resource(ResourceArn=glue_job.arn, TagsToAdd={"local-aws:timeout-seconds": "1"})
    run = glue_job.run(SLEEP_WITH_CHILD, {"--OUTPUT": glue_job.output_uri})

    assert run["JobRunState"] == "TIMEOUT"
    assert run["ErrorMessage"] == "The run took longer than its timeout of 1 seconds."
    pids = [int(pid) for pid in glue_job.output()["output/pids"].split()]
    wait_for(lambda: not any(map(process_runs, pids)), seconds=5)


def test_stopped_run_is_killed_and_keeps_its_output(glue_job: GlueJob) -> None:
    glue_job.put_script(SLEEP_WITH_CHILD)
    run_id = glue_job.start({"--OUTPUT": glue_job.output_uri})
    glue_job.wait_for_log(run_id, "asleep")
    answer = glue_job.glue.batch_stop_job_run(JobName=glue_job.name, JobRunIds=[run_id, "jr_unknown"])
    run = glue_job.wait(run_id)
    late_answer = glue_job.glue.batch_stop_job_run(JobName=glue_job.name, JobRunIds=[run_id])

    assert answer["SuccessfulSubmissions"] == [{"JobName": glue_job.name, "JobRunId": run_id}]
    assert [error["JobRunId"] for error in answer["Errors"]] == ["jr_unknown"]
    assert run["JobRunState"] == "STOPPED"
    assert "CompletedOn" in run
    pids = [int(pid) for pid in glue_job.output()["output/pids"].split()]
    wait_for(lambda: not any(map(process_runs, pids)), seconds=5)
    assert late_answer["SuccessfulSubmissions"] == []
    assert late_answer["Errors"][0]["ErrorDetail"]["ErrorCode"] == "InvalidInputException"
    assert glue_job.describe(run_id)["JobRunState"] == "STOPPED"


def test_only_one_of_many_simultaneous_starts_is_accepted(slow_aws: str) -> None:
    job = make_glue_job(slow_aws)
    job.put_script("import time; time.sleep(600)")

    def start(_: int) -> str:
        glue = connect("glue", slow_aws)
        try:
            return str(glue.start_job_run(JobName=job.name)["JobRunId"])
        except ClientError as error:
            return error.response["Error"]["Code"]

    with ThreadPoolExecutor(4) as executor:
        answers = sorted(executor.map(start, range(4)))

    assert answers[:3] == ["ConcurrentRunsExceededException"] * 3
    assert job.describe(answers[3])["JobRunState"] in ("STARTING", "RUNNING")
    job.glue.batch_stop_job_run(JobName=job.name, JobRunIds=[answers[3]])
    assert job.wait(answers[3])["JobRunState"] == "STOPPED"
    assert job.start().startswith("jr_"), "an ended run makes room for the next"


def test_only_what_changed_is_written_back(glue_job: GlueJob) -> None:
    for bucket in (glue_job.input_bucket, glue_job.output_bucket):
        glue_job.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("same", "changed", "removed", "folder/"):
        glue_job.s3.put_object(
            Bucket=glue_job.output_bucket, Key=f"output/{key}", Body=b"" if key == "folder/" else b"1"
        )
    glue_job.s3.put_object(Bucket=glue_job.output_bucket, Key="output-of-others/removed", Body=b"1")
    glue_job.s3.put_object(Bucket=glue_job.input_bucket, Key="input/a", Body=b"1")

    run = glue_job.run(
        WRITE_TO_OUTPUT
        + """
    assert (output / "folder").is_dir()
    (output / "changed").write_text("2")
    (output / "removed").unlink()
    (output / "new").write_text("1")
    (output / "empty folder").mkdir()
    (output.parent / "output-of-others").mkdir()
    """,
        {"--OUTPUT": glue_job.output_uri.rstrip("/"), "--INPUT": f"s3://{glue_job.input_bucket}/input/"},
    )

    assert run["JobRunState"] == "SUCCEEDED", run.get("ErrorMessage")
    assert glue_job.output() == {
        "output/same": "1",
        "output/changed": "2",
        "output/new": "1",
        "output/folder/": "",
        "output-of-others/removed": "1",
    }
    versions = glue_job.s3.list_object_versions(Bucket=glue_job.output_bucket)
    assert sorted(version["Key"] for version in versions["Versions"]) == [
        "output-of-others/removed",
        *(
            "output/changed",
            "output/changed",
            "output/folder/",
            "output/new",
            "output/removed",
            "output/same",
        ),
    ]
    assert [marker["Key"] for marker in versions["DeleteMarkers"]] == ["output/removed"]
    inputs = glue_job.s3.list_object_versions(Bucket=glue_job.input_bucket, Prefix="input/")
    assert len(inputs["Versions"]) == 1


def test_keys_are_kept_as_they_are_and_impossible_ones_are_reported(glue_job: GlueJob) -> None:
    keys = [
        "output/ä b/%3A+&='\"*?#.txt",
        "output//double",
        "output/../escape",
        "output/file",
        "output/file/below",
    ]
    for key in keys:
        glue_job.s3.put_object(Bucket=glue_job.output_bucket, Key=key, Body=b"1")

    run = glue_job.run(
        WRITE_TO_OUTPUT
        + """
    for path in sorted(output.rglob("*.txt")):
        path.with_name("2" + path.name).write_text("2")
    """,
        {"--OUTPUT": glue_job.output_uri},
    )

    assert run["JobRunState"] == "SUCCEEDED", run.get("ErrorMessage")
    assert glue_job.output() == {**dict.fromkeys(keys, "1"), "output/ä b/2%3A+&='\"*?#.txt": "2"}
    reported = glue_job.read_log(run["Id"], "error")
    left_out = ["output//double", "output/../escape", "output/file/below"]
    assert [key for key in keys if f"s3://{glue_job.output_bucket}/{key}:" in reported] == left_out


def test_update_replaces_the_definition_and_keeps_the_runs(glue_job: GlueJob) -> None:
    run_id = glue_job.run("print('hello')")["Id"]
    glue_job.glue.update_job(
        JobName=glue_job.name,
        JobUpdate={
            "Role": "role/other",
            "Command": {"Name": "glueetl", "ScriptLocation": "s3://b-b/c"},
            "Timeout": 7,
        },
    )

    job = glue_job.glue.get_job(JobName=glue_job.name)["Job"]
    assert (job["Role"], job["Command"]["ScriptLocation"], job["Timeout"]) == ("role/other", "s3://b-b/c", 7)
    assert job["DefaultArguments"] == {}
    assert "WorkerType" not in job
    assert glue_job.describe(run_id)["JobRunState"] == "SUCCEEDED"
    with pytest.raises(glue_job.glue.exceptions.EntityNotFoundException, match="no-such-job"):
        glue_job.glue.update_job(JobName="no-such-job", JobUpdate={"Role": "r"})


@pytest.mark.parametrize("state", ["STOPPED", "ERROR", "TIMEOUT", "EXPIRED", "FAILED", "SUCCEEDED"])
def test_tag_makes_runs_end_in_its_state_without_running(glue_job: GlueJob, state: str) -> None:
    glue_job.glue.tag_resource(ResourceArn=glue_job.arn, TagsToAdd={"local-aws:end-state": state})
    forced = glue_job.run("print('ran')", {"--OUTPUT": glue_job.output_uri})
    assert forced["JobRunState"] == state
    assert ("ErrorMessage" in forced) == (state != "SUCCEEDED")
    assert "CompletedOn" in forced


def test_tag_that_is_older_than_the_job_outlives_its_updates(glue_job: GlueJob) -> None:
    glue_job.glue.delete_job(JobName=glue_job.name)
    glue_job.glue.tag_resource(ResourceArn=glue_job.arn, TagsToAdd={"local-aws:end-state": "EXPIRED"})
    definition = {
        "Role": "some-role",
        "Command": {"Name": "glueetl", "ScriptLocation": "s3://some-bucket/script.py"},
    }
    glue_job.glue.create_job(Name=glue_job.name, **definition)
    glue_job.glue.update_job(JobName=glue_job.name, JobUpdate=definition)
    assert glue_job.wait(glue_job.start())["JobRunState"] == "EXPIRED"


def test_runs_are_listed_newest_first_in_pages(glue_job: GlueJob) -> None:
    glue_job.glue.tag_resource(ResourceArn=glue_job.arn, TagsToAdd={"local-aws:end-state": "SUCCEEDED"})
    run_ids = [glue_job.wait(glue_job.start())["Id"] for _ in range(5)]
    pages = list(
        glue_job.glue.get_paginator("get_job_runs").paginate(
            JobName=glue_job.name, PaginationConfig={"PageSize": 2}
        )
    )
    assert [len(page["JobRuns"]) for page in pages] == [2, 2, 1]
    assert [run["Id"] for page in pages for run in page["JobRuns"]] == run_ids[::-1]

    glue_job.glue.untag_resource(ResourceArn=glue_job.arn, TagsToRemove=["local-aws:end-state"])
    assert glue_job.run("raise ValueError('ran')")["ErrorMessage"] == "ValueError: ran"


def test_reset_kills_live_runs_and_nothing_writes_into_the_new_state(glue_job: GlueJob) -> None:
    glue_job.put_script(SLEEP_WITH_CHILD)
    run_id = glue_job.start({"--OUTPUT": glue_job.output_uri})
    pids = [int(pid) for pid in glue_job.wait_for_log(run_id, "asleep").split()[1:]]
    assert all(map(process_runs, pids))

    urlopen(Request(f"{glue_job.endpoint_url}/moto-api/reset", method="POST"))

    wait_for(lambda: not any(map(process_runs, pids)), seconds=5)
    glue_job.s3.create_bucket(Bucket=glue_job.output_bucket)
    time.sleep(0.5)
    assert glue_job.output() == {}
    assert glue_job.glue.list_jobs()["JobNames"] == []
    assert glue_job.logs.describe_log_groups()["logGroups"] == []


def test_airflow_hook_updates_and_runs_a_job(glue_job: GlueJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", glue_job.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    connect("iam", glue_job.endpoint_url).create_role(RoleName=glue_job.name, AssumeRolePolicyDocument="{}")
    glue_job.put_script("import sys; print('to output'); print('to error', file=sys.stderr)")
    hook = GlueJobHook(
        aws_conn_id=None,
        region_name="us-east-1",
        job_name=glue_job.name,
        desc="updated",
        script_location=f"s3://{glue_job.input_bucket}/artifacts/script.py",
        iam_role_name=glue_job.name,
        s3_bucket=glue_job.output_bucket,
        update_config=True,
        create_job_kwargs={"WorkerType": "G.1X", "NumberOfWorkers": 3},
        job_poll_interval=0.2,
    )

    run_id = hook.initialize_job({"--A": "1"})["JobRunId"]
    ended = hook.job_completion(glue_job.name, run_id)

    assert ended == {"JobRunState": "SUCCEEDED", "JobRunId": run_id}
    job = glue_job.glue.get_job(JobName=glue_job.name)["Job"]
    assert (job["Description"], job["NumberOfWorkers"]) == ("updated", 3)
    names = {
        kind: [
            stream["logStreamName"]
            for stream in glue_job.logs.describe_log_streams(
                logGroupName=f"/aws-glue/jobs/{kind}", logStreamNamePrefix=run_id
            )["logStreams"]
        ]
        for kind in ("output", "error")
    }
    assert set(map(tuple, names.values())) == {(f"{run_id}-driver",)}, "as Glue 5 names them"
