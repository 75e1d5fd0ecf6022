import json
import sys
from pathlib import Path

import pytest

from tests.benchmarks.harness import Contender, alternate, run


def contender(name: str, program: str) -> Contender:
    return Contender(name, [sys.executable, "-c", program])


def test_contenders_take_turns_after_being_prepared(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def note(text: str) -> str:
        return f"open({str(log)!r}, 'a').write({text!r})"

    def prepare() -> None:
        with log.open("a") as file:
            file.write("-")

    contenders = [
        Contender(name, [sys.executable, "-c", note(name)], prepare=prepare) for name in ("a", "b", "c")
    ]
    measurements = alternate("part", "case", contenders, 2)

    assert log.read_text() == "-a-b-c-a-b-c"
    assert [measurement.contender for measurement in measurements] == ["a", "b", "c"]
    assert [len(measurement.seconds) for measurement in measurements] == [2, 2, 2]


def test_failing_contender_is_named_with_what_it_printed() -> None:
    failing = contender("slow one", "print('as far as here'); raise SystemExit('no such table')")

    with pytest.raises(RuntimeError, match=r"slow one ended with 1:\n(.*\n)*no such table") as failure:
        alternate("part", "case", [contender("good", ""), failing], 1)

    assert "as far as here" in str(failure.value)


def test_time_is_what_the_last_line_says() -> None:
    facts = json.dumps({"seconds": 1234.5, "rows": 7})

    seconds, _, told = run(contender("a", f"print('warning'); print({facts!r})"))

    assert seconds == 1234.5
    assert told == {"rows": 7}


@pytest.mark.parametrize("printed", ["", "done", '{"rows": 7}', "[1]"])
def test_time_is_that_of_the_process_when_it_says_none(printed: str) -> None:
    seconds, _, told = run(contender("a", f"import time; time.sleep(0.3); print({printed!r})"))

    assert 0.3 <= seconds < 60
    assert told == {}


def test_peak_is_the_memory_of_a_process_and_its_children_together() -> None:
    child = "import time; data = bytearray(100 * 1024**2); time.sleep(0.5)"
    both = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    alone = contender("alone", f"data = bytearray(100 * 1024**2); {both}")

    _, peak_mib, _ = run(alone)

    assert 200 < peak_mib < 300
