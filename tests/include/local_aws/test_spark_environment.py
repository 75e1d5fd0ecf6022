import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.local_aws.spark_environment import spark_environment

SETTINGS_OF_SESSION = """
import json
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").getOrCreate()
jvm = spark._jvm
of_java = {name: jvm.java.lang.System.getProperty(name) for name in ("user.property", "java.io.tmpdir")}
blocks = jvm.org.apache.spark.SparkEnv.get().blockManager().diskBlockManager().localDirsString()
print(json.dumps({**of_java, "blocks": list(blocks), **dict(spark.sparkContext.getConf().getAll())}))
"""


def test_settings_and_java_options_reach_spark_from_a_folder_with_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    environment = spark_environment(folder, {"spark.app.name": "of a test"}, ["-Duser.property=two words"])
    printed = subprocess.run(
        [sys.executable, "-c", SETTINGS_OF_SESSION], env=environment, check=True, stdout=subprocess.PIPE
    ).stdout

    settings = json.loads(printed)
    assert settings["spark.app.name"] == "of a test"
    assert settings["user.property"] == "two words"
    assert settings["spark.driver.host"] == "127.0.0.1"
    assert settings["java.io.tmpdir"] == str(folder / "tmp")
    assert [Path(blocks).parent for blocks in settings["blocks"]] == [folder / "tmp"]


def test_spark_of_the_user_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "SPARK_HOME",
        "SPARK_CONF_DIR",
        "SPARK_DIST_CLASSPATH",
        "HADOOP_CONF_DIR",
        "YARN_CONF_DIR",
        "PYTHONPATH",
    ):
        monkeypatch.setenv(name, "/user's")
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master spark://user's:7077 pyspark-shell")

    environment = spark_environment(tmp_path, {})

    assert not [value for value in environment.values() if "user's" in value]
    assert environment["PATH"] == os.environ["PATH"]
