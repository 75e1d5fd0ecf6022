"""Pages, help texts, docstrings, comments and messages use the plain words of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import groupby

import pytest

from local_aws_support import REPOSITORY
from tests.docs_pages import NAMES, without_fences

REFUSED = re.compile(
    "|".join(
        (
            # Words that have a plainer one.
            r"\b(mend(s|ed|ing)?|anew|red|tells?|told|commonest|more seldom|learnt|passed over|at once)\b",
            r"\b(comput(e|es|ed|ing)( \w+){0,2} again|takes? the place of|hand(s|ed|ing)? (on|out))\b",
            r"\b(c[oa]mes? (between|to pass)|go(es)? on|went on|all that|but for)\b",
            r"\bstands? (there|here|twice|exactly)\b|\bso (many|few) \w+(?! that)\b",
            # Relative clauses without a noun.
            r"\b(that which|(what|all that) follows|what (came|comes) of)\b",
            r"\bwhat (is|was|are|were) (there|left|put|in|read|written|made|given|asked|needed|already)\b",
            # Inversions, and clauses that German or Latin would build like this.
            r"\bnor (do|does|did|is|are|was|were|can|has|have|may|must)\b|\bso that (\w+ ){1,3}be\b",
            r"\b(has|have|had) not (the|a|an|any)\b|\b(has|have) not[.,;:]",
            r"(?<!there )\b(is|are) no (?!longer|more\b|need|different)\w+",
        )
    ),
    re.IGNORECASE,
)
# A docstring or comment that begins like this has no subject.
HEADLESS = re.compile(r"(Of|What|That|Those|Where|Whichever|Whoever|Whatever|Also|Tells?)\b")
# Code, which is quoted unchanged, targets of links, and words that CONTRIBUTING.md strikes out.
QUOTED = re.compile(r"`[^`]*`|\]\([^)]*\)|~~.*?~~")
# A string with at least this many spaces is a message and not a name or a format.
SPACES_OF_MESSAGES = 3
EXEMPT = ("tests/test_english.py",)


def refused(text: str) -> list[str]:
    return [found[0] for found in REFUSED.finditer(QUOTED.sub("", without_fences(text)))]


def headless(text: str) -> list[str]:
    found = HEADLESS.match(text)
    return [found[0]] if found else []


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node)
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
        ):
            yield node.body[0].value


def comments(source: str) -> Iterator[str]:
    """Yield the comments; consecutive lines are one comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    for _, block in groupby(enumerate(lines), lambda item: item[1][0] - item[0]):
        yield " ".join(text.lstrip("# ") for _, (_, text) in block)


def messages(tree: ast.Module) -> Iterator[str]:
    """Yield the texts of strings that are neither docstrings nor names."""
    skipped = {id(constant) for constant in docstrings(tree)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in skipped:
            continue
        if node.value.count(" ") >= SPACES_OF_MESSAGES:
            yield node.value


def python_files() -> list[str]:
    folders = (".astro", "dags", "dashboard", "glue_script", "include", "plugins", "tests")
    found = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    names = sorted(str(path.relative_to(REPOSITORY)) for path in found)
    return [name for name in names if not name.startswith(EXEMPT)]


def problems_of(source: str, with_messages: bool) -> list[str]:
    tree = ast.parse(source)
    prose = [*(" ".join(str(text.value).split()) for text in docstrings(tree)), *comments(source)]
    found = [f"{word!r} in: {text}" for text in prose for word in [*headless(text), *refused(text)]]
    if with_messages:
        found += [f"{word!r} in: {text}" for text in messages(tree) for word in refused(text)]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_page_uses_plain_words_and_names_no_commit(name: str) -> None:
    text = (REPOSITORY / name).read_text()

    assert refused(text) == []
    assert re.findall(r"`[0-9a-f]{7,40}`|\bcommit [0-9a-f]{7,40}\b", text) == []


def test_docstrings_comments_and_messages_use_plain_words_and_have_a_subject() -> None:
    found = {
        name: problems
        for name in python_files()
        if (problems := problems_of((REPOSITORY / name).read_text(), not name.startswith("tests/")))
    }

    assert found == {}


@pytest.mark.parametrize("name", ["Makefile", ".env.example", "include/stack.yaml"])
def test_comments_and_descriptions_use_plain_words(name: str) -> None:
    texts = re.findall(r"# (.+)$|Description: (.+)$|echo '([^']+)'", (REPOSITORY / name).read_text(), re.M)

    assert [word for text in texts for word in refused("".join(text))] == []


def test_refused_words_are_found() -> None:
    assert refused("Mend it. Days are computed once again; the `red` is red.") == [
        "Mend",
        "computed once again",
        "red",
    ]


def test_prose_of_code_is_checked_and_its_names_are_not() -> None:
    source = '''
"""What was put.

Told twice."""
red = "bold red"  # Of the error.
raise ValueError("Mend what was given, it is no day")
'''

    assert [problem.split(" in: ")[0] for problem in problems_of(source, with_messages=True)] == [
        "'What'",
        "'What was put'",
        "'Told'",
        "'Of'",
        "'Mend'",
        "'what was given'",
        "'is no day'",
    ]
