"""Every error has its section in the runbook."""

import re
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from helpers.errors import (
    AWS_ADVICE,
    OTHER_ADVICE,
    Advice,
    BadInputError,
    PipelineError,
    ReconciliationError,
    RetryableError,
    advice_for,
)
from helpers.notices.notify_failure import RUNBOOK, runbook_link
from local_aws_support import REPOSITORY

# They hold what their subclasses have in common.
ABSTRACT = {PipelineError, BadInputError, ReconciliationError}


def subclasses(error: type[Exception]) -> Iterator[type[Exception]]:
    for subclass in error.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


RAISED = ({RetryableError} | {*subclasses(PipelineError), *subclasses(RetryableError)}) - ABSTRACT


def sections() -> dict[str, str]:
    """Return the runbook's sections by GitHub's anchors."""
    _, *parts = re.split(r"^## (.+)$", (REPOSITORY / RUNBOOK).read_text(), flags=re.MULTILINE)
    titles, bodies = parts[::2], parts[1::2]
    anchors = [re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles]
    return dict(zip(anchors, bodies, strict=True))


@pytest.mark.parametrize("error", sorted(RAISED, key=lambda error: error.__name__))
def test_error_leads_to_a_section_that_says_what_to_do(error: type[Exception]) -> None:
    advice = advice_for(error("reason"))

    assert advice != OTHER_ADVICE
    assert "do" in sections()[advice.section].lower().replace("*", "").split()
    assert runbook_link(advice.section) == f"{RUNBOOK}#{advice.section}"


def test_errors_of_different_kinds_lead_to_different_sections() -> None:
    found = [advice_for(error("reason")).section for error in RAISED]

    assert len(set(found)) == len(found)


def test_no_error_is_raised_without_a_section_of_its_own() -> None:
    raising = re.compile(rf"(?:raise|return) (?:{'|'.join(error.__name__ for error in ABSTRACT)})\(")
    helpers = (REPOSITORY / "dags" / "helpers").rglob("*.py")

    assert [path.name for path in helpers if raising.search(path.read_text())] == []


def test_each_alarm_points_to_a_section() -> None:
    template = (REPOSITORY / "include" / "stack.yaml").read_text()

    anchors = re.findall(r"\$\{RunbookUrl\}#([\w-]+)", template)
    assert len(anchors) == template.count("Type: AWS::CloudWatch::Alarm\n")
    assert set(anchors) <= sections().keys()
    assert f"Default: {RUNBOOK}\n" in template


def test_links_within_the_runbook_lead_somewhere() -> None:
    links = re.findall(r"\]\(#([\w-]+)\)", (REPOSITORY / RUNBOOK).read_text())

    assert links
    assert set(links) <= sections().keys()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject"), AWS_ADVICE),
        (NoCredentialsError(), AWS_ADVICE),
        (KeyError("x"), OTHER_ADVICE),
        ("Detected zombie job", OTHER_ADVICE),
        (None, OTHER_ADVICE),
    ],
)
def test_error_of_another_package_is_judged_by_the_package(error: object, advice: Advice) -> None:
    assert advice_for(error) == advice
    assert advice.section in sections()
