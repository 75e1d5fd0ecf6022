"""Every message that asks for action has its section in the runbook."""

import ast
import re
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from helpers import glue_output
from helpers.errors import ConfigurationError
from helpers.runbook import ANY_OTHER, AWS, RUNBOOK, SETTINGS, advice_for, all_advice
from local_aws_support import REPOSITORY

ERRORS = {
    "BadInputError",
    "ReconciliationError",
    "ConfigurationError",
    "RuntimeError",
    "AirflowException",
    "AirflowFailException",
}


def messages() -> Iterator[tuple[str, str, str]]:
    """Yield where an error is made, its class, and its message with `…` for what is filled in."""
    for path in sorted((REPOSITORY / "dags" / "helpers").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS and node.args:
                yield f"{path.name}:{node.lineno}", node.func.id, text_of(node.args[0])  # type: ignore[attr-defined]


def text_of(expression: ast.expr) -> str:
    parts = expression.values if isinstance(expression, ast.JoinedStr) else [expression]
    texts = []
    for part in parts:
        constant = getattr(getattr(part, "value", None), "id", "")
        if constant == "RUN_GLUE_AGAIN":
            texts.append(glue_output.RUN_GLUE_AGAIN)
        else:
            texts.append(part.value if isinstance(part, ast.Constant) else "…")
    return "".join(texts)


def sections() -> dict[str, str]:
    """Return the runbook's sections by the anchors that GitHub gives them."""
    _, *parts = re.split(r"^## (.+)$", (REPOSITORY / RUNBOOK).read_text(), flags=re.MULTILINE)
    titles, bodies = parts[::2], parts[1::2]
    anchors = [re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles]
    return dict(zip(anchors, bodies, strict=True))


# How each message of the helpers begins, and the section that it belongs to.
SETTING, EARLIER = "a-setting-or-a-resource-is-missing", "what-an-earlier-task-left-is-missing"
GLUES_OUTPUT, REFUSED = "glues-output-and-the-history-do-not-agree", "aws-refused-or-did-not-answer"
SECTION_OF = {
    "The environment variable … is not set": SETTING,
    "The environment variable … is …; it must be": SETTING,
    "… and … both name the bucket …": SETTING,
    "…, named by …, does not exist": SETTING,
    "…, named by …, may not be used with these": SETTING,
    "…, named by …, could not be checked": REFUSED,
    "s3://…/… is being written by another task": REFUSED,
    "… objects of s3://… were not deleted": REFUSED,
    "The … catalog … cannot be used": "a-catalog-is-missing-or-wrong",
    "No CSV file under s3://…/…: upload the catalog": "a-catalog-is-missing-or-wrong",
    "None of … stream files has a valid row": "no-file-has-a-valid-row",
    "No listens of … are in s3://…/listens/": "the-days-to-compute-again-are-wrong",
    "reprocess_dates has …": "the-days-to-compute-again-are-wrong",
    "The trigger sent no event": "the-state-of-the-glue-job-is-unknown",
    "The state of Glue job run … of … is unknown": "the-state-of-the-glue-job-is-unknown",
    "Glue job run … of … ended …": "the-glue-job-failed",
    "The Glue job left no summary of run …": GLUES_OUTPUT,
    "Run …: …. Nothing was archived.": GLUES_OUTPUT,
    "The KPI item (…, …) cannot be stored": GLUES_OUTPUT,
    "…: the table has … listens and the run adds …": GLUES_OUTPUT,
    "Run … has no report": EARLIER,
    "The input manifest s3://…/… does not exist": EARLIER,
    "The run's manifest s3://…/… does not exist": EARLIER,
    "Part … of run … has no combined records": EARLIER,
    "…. Nothing was moved; clear extract_and_combine": EARLIER,
    "Copies are missing under …": EARLIER,
    "s3://…/… is not equal to its source": "a-copy-differs-from-its-source",
    "s3://…/… changed or vanished before it was archived": "a-source-file-vanished",
}


@pytest.mark.parametrize(("place", "error", "message"), messages())
def test_message_leads_to_its_section(place: str, error: str, message: str) -> None:
    advice = SETTINGS if error == "ConfigurationError" else advice_for(message)

    assert {section for begin, section in SECTION_OF.items() if message.startswith(begin)} == {advice.section}


def test_every_expected_message_is_there() -> None:
    found = [message for _, _, message in messages()]

    assert [begin for begin in SECTION_OF if not any(message.startswith(begin) for message in found)] == []


def test_what_a_message_quotes_does_not_choose_its_section() -> None:
    quoted = "None of 2 stream files has a valid row. No listens of that day. Clear trigger_glue_job"

    assert advice_for(f"Glue job run jr_1 of kpis ended FAILED: {quoted}").section == "the-glue-job-failed"


def test_every_section_that_is_pointed_to_exists_and_says_what_to_do() -> None:
    for advice in all_advice():
        assert "do" in sections()[advice.section].lower().replace("*", "").split(), advice.section
    assert (REPOSITORY / RUNBOOK).is_file()
    assert SETTINGS.link == f"{RUNBOOK}#{SETTINGS.section}"


def test_alarm_points_to_a_section() -> None:
    template = (REPOSITORY / "include" / "stack.yaml").read_text()

    [anchor] = re.findall(r"\$\{RunbookUrl\}#([\w-]+)", template)
    assert anchor in sections()
    assert f"Default: {RUNBOOK}\n" in template


def test_links_within_the_runbook_lead_somewhere() -> None:
    links = re.findall(r"\]\(#([\w-]+)\)", (REPOSITORY / RUNBOOK).read_text())

    assert links
    assert set(links) <= sections().keys()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ConfigurationError("The environment variable X is not set."), SETTINGS),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject"), AWS),
        (NoCredentialsError(), AWS),
        (KeyError("x"), ANY_OTHER),
        ("Detected zombie job", ANY_OTHER),
        (None, ANY_OTHER),
    ],
)
def test_what_says_nothing_of_its_own_is_told_by_where_it_comes_from(error: object, advice: object) -> None:
    assert advice_for(error) == advice


def test_glue_run_of_unknown_state_is_not_taken_for_one_that_failed() -> None:
    unknown = "The state of Glue job run jr_1 of kpis is unknown: …. A retry adopts it."

    assert advice_for(unknown).section == "the-state-of-the-glue-job-is-unknown"
