"""Examples in README and docs: Python, `include.kpis` and `aws dynamodb` run; others are checked."""

from __future__ import annotations

import json
import logging
import re
import runpy
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import jmespath  # type: ignore[import-untyped]
import pytest
import yaml
from botocore.exceptions import ClientError

from helpers.contract.keys import report_key
from include.kpis.__main__ import main as kpis
from kpi_table_support import day_items, make_table, put_items
from local_aws_support import REPOSITORY, connect, running_server
from quality_support import thirty_reports
from tests.docs_pages import NAMES, PAGES, fences, shell_commands

DAY, ARCHIVE = date(2024, 6, 25), "music-streaming-archive"
COMMANDS = [words for _, words in shell_commands()]
MAKE = sorted({tuple(words[1:]) for words in COMMANDS if words[0] == "make"})
MODULES = sorted({tuple(words[2:]) for words in COMMANDS if words[0].endswith("python")})
QUERIES = [words for words in COMMANDS if words[:2] == ["aws", "dynamodb"]]
# These do not run, because they need AWS, Astro or the reader's files; test_docs_airflow3.py runs Git's.
NOT_RUN = {
    "astro", "aws", "cat", "cd", "cp", "curl", "done", "echo", "export", "for", "git", "sed", "token=$(curl"
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A local AWS with the table of the examples and the report of a run."""
    with running_server() as (endpoint_url, _):
        dynamodb = connect("dynamodb", endpoint_url)
        make_table(dynamodb, "music_kpis_table")
        genres = {"cedar-chant": 387, "quartz-drift": 302, "lunar-strum": 278, "Unknown": 9}
        put_items(dynamodb, "music_kpis_table", day_items(DAY, genres))
        s3, report = connect("s3", endpoint_url), thirty_reports()[0]
        s3.create_bucket(Bucket=ARCHIVE)
        s3.put_object(Bucket=ARCHIVE, Key=report_key(report["run_key"]), Body=json.dumps(report))
        yield endpoint_url


@pytest.fixture
def environment(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KPI_TABLE_NAME", raising=False)
    # Airflow, which other tests import, makes the libraries' log part of the output.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    for name, value in {
        "ARCHIVE_BUCKET_NAME": ARCHIVE,
        "AWS_ENDPOINT_URL": server,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("page", "source"), [pytest.param(*fence, id=fence[0]) for fence in fences("python")]
)
def test_python_runs(page: str, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(source, page, "exec"), {})

    assert "cedar-chant" in capsys.readouterr().out


@pytest.mark.usefixtures("environment")
def test_readme_gives_the_strings_of_the_original_project(capsys: pytest.CaptureFixture[str]) -> None:
    [source] = [text for page, text in fences("python") if page == "README.md"]

    exec(source, {})

    genres = "cedar-chant|quartz-drift|lunar-strum"
    assert capsys.readouterr().out.splitlines() == [
        f"{genre}, Song 1 of {genre}|Song 2 of {genre}|Song 3 of {genre}, {genres}"
        for genre in ("cedar-chant", "quartz-drift", "lunar-strum", "Unknown")
    ]


def test_commands_are_of_a_kind_that_is_checked() -> None:
    kinds = {words[0].lstrip("(") for words in COMMANDS}

    assert kinds - NOT_RUN == {"make", ".venv/bin/python", ".venv-dashboard/bin/python"}


@pytest.mark.parametrize("arguments", MAKE, ids=" ".join)
def test_make_has_the_target_and_takes_the_variables(arguments: tuple[str, ...], tmp_path: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    known = makefile + (REPOSITORY / ".env.example").read_text()
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    for lock in [*REPOSITORY.glob("requirements*.txt"), REPOSITORY / "dashboard" / "requirements-lock.txt"]:
        (tmp_path / lock.relative_to(REPOSITORY)).parent.mkdir(exist_ok=True)
        (tmp_path / lock.relative_to(REPOSITORY)).touch()

    done = subprocess.run(["make", "--dry-run", *arguments], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    for name in re.findall(r"(?m)^([A-Z_]+)=", "\n".join(arguments)):
        assert re.search(rf"\b{name}\b", known), name


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_in_the_text_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"`make ([a-z0-9-]+)", (REPOSITORY / name).read_text()))

    assert named - targets == set()


class _ParsedError(Exception):
    """The arguments are valid; other tests cover the command itself."""


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("arguments", [words for words in MODULES if "include." in words[0]], ids=" ".join)
def test_module_takes_its_arguments(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    parse = ArgumentParser.parse_args

    def parse_and_stop(*given: Any) -> None:
        parse(*given)
        raise _ParsedError

    monkeypatch.setattr(ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", list(arguments))
    if arguments == ("include.retained",):  # takes no arguments
        runpy.run_module(arguments[0], run_name="__main__")
    else:
        with pytest.raises(_ParsedError):
            runpy.run_module(arguments[0], run_name="__main__")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "arguments", [words[1:] for words in MODULES if words[0] == "include.kpis"], ids=" ".join
)
def test_kpis_answers(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert kpis(list(arguments)) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("words", QUERIES, ids=[f"{n}-{words[2]}" for n, words in enumerate(QUERIES)])
def test_aws_cli_answers(words: list[str], server: str) -> None:
    options = dict(zip(words[3::2], words[4::2], strict=True))
    query = options.pop("--query", "@")
    options.pop("--output", None)
    parameters = {
        name[2:].title().replace("-", ""): json.loads(value) if value[0] in "{[" else value
        for name, value in options.items()
    }
    call = getattr(connect("dynamodb", server), words[2].replace("-", "_"))

    if '."track_genre-date-index"' in options.get("--statement", ""):
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            call(**parameters)
    else:
        found = jmespath.search(query, call(**parameters))
        assert "cedar-chant" in str(found) or ["2024-06-25", "387", "1"] in found


def test_parameters_of_the_stack_exist() -> None:
    class Loader(yaml.SafeLoader):
        """Ignores CloudFormation's tags."""

    Loader.add_multi_constructor("!", lambda *_: None)
    template = yaml.load((REPOSITORY / "include" / "stack.yaml").read_text(), Loader)
    words = [word for command in COMMANDS if command[:2] == ["aws", "cloudformation"] for word in command]

    named = {found[1] for word in words if (found := re.match(r"(?:ParameterKey=)?([A-Z]\w+)[=,]", word))}

    assert len(named) >= 5
    assert named <= template["Parameters"].keys()


def test_every_page_is_read() -> None:
    assert len(PAGES) > 10
    assert all(page.is_file() for page in PAGES)
