"""Links, paths and names in README and docs exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from local_aws_support import REPOSITORY
from tests.docs_pages import NAMES, without_fences

# Words of AWS, Airflow and examples that are not in the source.
NOT_OURS = {"ALL_DONE", "AWS_PROFILE", "CAPABILITY_NAMED_IAM", "DEEP_ARCHIVE", "ROLLBACK_COMPLETE", "RUN_KEY"}
FOLDERS = "dags|dashboard|docs|glue_script|include|plugins|tests"


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", without_fences(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


def sources() -> str:
    """Return the text of code, template and settings, without pages and tests."""
    folders = (REPOSITORY / name for name in ("dags", "dashboard", "glue_script", "include"))
    files = [path for folder in folders for kind in ("*.py", "*.yaml") for path in folder.rglob(kind)]
    files += [REPOSITORY / name for name in ("Makefile", "Dockerfile", ".env.example")]
    return "\n".join(file.read_text() for file in files)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = REPOSITORY / name
    broken = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_paths_exist(name: str) -> None:
    text = (REPOSITORY / name).read_text()

    named = set(re.findall(rf"(?<![\w/.])(?:{FOLDERS})/[\w./-]+\.(?:py|md|yaml|xml|sha256|png)", text))

    missing = {REPOSITORY / path for path in named if not (REPOSITORY / path).is_file()}
    assert missing == set()


def test_variables_and_constants_exist() -> None:
    known = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", sources()))
    named = {
        word
        for name in NAMES
        for word in re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", (REPOSITORY / name).read_text())
    }

    assert "MAX_REJECTED_FRACTION" in named
    assert named - known - NOT_OURS == set()
