"""The pages for readers, and the examples in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import groupby

from local_aws_support import REPOSITORY

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fences(language: str) -> Iterator[tuple[str, str]]:
    """Yield page and text of each code block in that language."""
    for name, page in zip(NAMES, PAGES, strict=True):
        yield from ((name, text) for found, text in _FENCE.findall(page.read_text()) if found == language)


def without_fences(text: str) -> str:
    return _FENCE.sub("", text)


def shell_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield page and words of each command in the shell examples, without variables and redirections."""
    for name, text in fences("bash"):
        code = re.sub(r"(^|[ \t])#.*$", "", text.replace("\\\n", " "), flags=re.MULTILINE)
        lexer = shlex.shlex(code, posix=True, punctuation_chars=";\n")
        lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
        for separates, group in groupby(lexer, lambda word: set(word) <= {";", "\n"}):
            words = list(group)
            while words and (words[0] == "do" or re.match(r"[A-Z_]+=", words[0])):
                words.pop(0)
            if words and not separates:
                yield name, words[: words.index(">")] if ">" in words else words
