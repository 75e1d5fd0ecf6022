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


@pytest.mark.parametrize(("place", "error", "message"), messages())
def test_message_that_asks_for_action_has_a_section_of_its_own(place: str, error: str, message: str) -> None:
    advice = SETTINGS if error == "ConfigurationError" else advice_for(message)

    assert advice != ANY_OTHER, f"{place}: {message}"


def test_messages_are_found_at_all() -> None:
    assert len(list(messages())) > 20


def test_every_section_that_is_pointed_to_exists_and_says_what_to_do() -> None:
    for advice in all_advice():
        assert "do" in sections()[advice.section].lower().replace("*", "").split(), advice.section
    assert (REPOSITORY / RUNBOOK).is_file()
    assert SETTINGS.link == f"{RUNBOOK}#{SETTINGS.section}"


def test_alarm_points_to_a_section() -> None:
    template = (REPOSITORY / "include" / "stack.yaml").read_text()

    [anchor] = re.findall(r"docs/runbook\.md#([\w-]+)", template)
    assert anchor in sections()


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
