"""Numbers and long texts in sentences for people."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return the number with its noun, such as `1 file` or `2,345 files`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def shortened(text: str, limit: int) -> str:
    """Return the text; a text that exceeds the limit is cut to it and ends with an ellipsis."""
    return text if len(text) <= limit else f"{text[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


def byte_size(number: int) -> str:
    """Return a number of bytes as people write it."""
    amount = float(number)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} GB"
