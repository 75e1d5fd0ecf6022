from __future__ import annotations

import pytest

from include.sql.__main__ import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "xml"], "FORMAT is 'xml', but it must be one of table, csv, json."),
        (["--aws-port", "abc"], "'abc' is not a port"),
    ],
)
def test_wrong_option_is_refused_with_those_that_are_right(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "SELECT 1"]) == 1

    assert message in capsys.readouterr().err
