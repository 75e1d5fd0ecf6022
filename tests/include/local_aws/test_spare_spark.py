import json
import signal
from pathlib import Path

import psutil
import pytest

from local_aws_support import make_glue_job, process_runs, running_server, wait_for

WITH_SPARE = ("-m", "include.local_aws", "serve", "--port", "0", "--spare-spark")
# Every job counts as too large for the spare.
LARGE_JOBS = """
from include.local_aws import job_process, server

job_process._SMALL_INPUT_BYTES = -1
server.serve("127.0.0.1", 0, spare_spark=True)
"""
SCRIPT = """
    import json, os, psutil, sys
    from pathlib import Path
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.config("spark.sql.shuffle.partitions", "3").getOrCreate()
    source, target = (sys.argv[sys.argv.index(name) + 1] for name in ("--INPUT", "--OUTPUT"))
    spark.read.text(source).write.text(target)
    print(json.dumps({
        "waited": any("spare_spark" in part for part in psutil.Process().cmdline()),
        "views": len(spark.catalog.listTables()),
        "has role": bool(os.environ["AWS_SESSION_TOKEN"]),
        "imports from its own folder": sys.path[0] == str(Path(__file__).parent),
        "modules of the project": [name for name in sys.modules if name.startswith("include")],
        "standard input": sys.stdin.read(),
    }))
    spark.range(3).createOrReplaceTempView("left_over")
    raise ValueError(f"partitions: {spark.conf.get('spark.sql.shuffle.partitions')}")
"""


def spark_processes(server_pid: int) -> list[int]:
    """Return the waiting process and its JVM."""
    return [child.pid for child in psutil.Process(server_pid).children(recursive=True)]


@pytest.mark.parametrize(
    ("command", "waited"),
    [pytest.param(WITH_SPARE, True, id="small"), pytest.param(("-c", LARGE_JOBS), False, id="large")],
)
def test_each_small_run_has_a_spark_that_waited_for_it_and_large_ones_their_own(
    command: tuple[str, ...], waited: bool
) -> None:
    with running_server(command) as (endpoint_url, _):
        job = make_glue_job(endpoint_url)
        job.s3.put_object(Bucket=job.input_bucket, Key="listens/a.txt", Body=b"a\nb\n")
        for number in range(2):
            output = f"{job.output_uri}{number}"
            run = job.run(SCRIPT, {"--INPUT": f"s3://{job.input_bucket}/listens/", "--OUTPUT": output})

            assert (run["JobRunState"], run["ErrorMessage"]) == ("FAILED", "ValueError: partitions: 3")
            assert json.loads(job.read_log(run["Id"], "output")) == {
                "waited": waited,
                "views": 0,
                "has role": True,
                "imports from its own folder": True,
                "modules of the project": [],
                "standard input": "",
            }
            copied = [text for key, text in job.output().items() if key.startswith(f"output/{number}/part-")]
            assert "".join(copied) == "a\nb\n"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_spare_and_its_jvm_end_with_local_aws(signal_number: signal.Signals) -> None:
    with running_server(WITH_SPARE) as (_, server):
        wait_for(lambda: len(spark_processes(server.pid)) > 1)
        processes = spark_processes(server.pid)
        folder = Path(psutil.Process(processes[0]).cwd()).parent

        server.send_signal(signal_number)
        server.wait(timeout=30)

        wait_for(lambda: not any(map(process_runs, processes)), seconds=30)
        assert folder.exists() is (signal_number == signal.SIGKILL)
