import pytest

from helpers.ingest.time_forms import guess_time_form

FORMS = {
    "25/06/2024 17:43": "day/month/year",
    "25.6.24": "day/month/year",
    "06/25/2024 17:43": "month/day/year",
    "05/06/2024 17:43": "day/month/year or month/day/year",
    "1719337393": "seconds since 1970",
    "1719337393.5": "seconds since 1970",
    "1719337393000": "milliseconds since 1970",
    "1719337393000000": "microseconds since 1970",
    "1719337393000000000": "nanoseconds since 1970",
    "45468.738": "a spreadsheet's number of a day",
    "NULL": "a word for no value",
    "2024-06-25": "a date without a time",
    "17:43:13": "a time without a date",
    "2024-06-25 17:43": "a time without seconds",
    "2024-06-25 05:43:13 PM": "a time with AM or PM",
    "2024-06-25T17:43:13.123456789Z": "a time with more than 6 digits after the seconds",
    "2024-06-25 17:43:13,5": "a time with a comma before the fraction",
    "2024-06-25 17:43:13 UTC": "a time with a time zone's name, or a space before the offset",
    "2024-02-30 17:43:13": "a day, time or offset that does not exist, or a year that no listen has",
    "2024/06/25 17:43:13": "a date with other separators than hyphens",
    "20240625 17:43:13": "a date without separators",
    "20240625T174313": "a date without separators",
    "2024-6-25 7:43:13": "numbers without leading zeros",
    "25 Jun 2024 17:43": "a month as a word",
    "": None,
    "yesterday": None,
}


@pytest.mark.parametrize(("text", "form"), FORMS.items())
def test_form_of_a_time_is_guessed(text: str, form: str | None) -> None:
    assert guess_time_form([text]) == (0, form)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param(["05/06/2024", "25/06/2024"], (1, "day/month/year"), id="a later day decides"),
        pytest.param(["05/06/2024", "06/25/2024"], (1, "month/day/year"), id="a later month decides"),
        pytest.param(
            ["x", "2024-06-25", "17:43", "2024-06-26"], (1, "a date without a time"), id="most common"
        ),
        pytest.param(
            ["05/06/2024", "25/06/2024", "06/25/2024"],
            (0, "day/month/year or month/day/year"),
            id="nothing is decided by both",
        ),
        pytest.param([], (0, None), id="no text"),
    ],
)
def test_guess_is_the_most_common_form_with_a_text_of_it(
    texts: list[str], expected: tuple[int, str | None]
) -> None:
    assert guess_time_form(texts) == expected
