"""Recognizes files of other formats that bear the name of a CSV file, for messages."""

from __future__ import annotations

import re

_EXPORT = "export it as CSV"
# Patterns of a file's first bytes, each with the format's name and what its sender has to do.
_FORMATS = {
    rb"PK\x03\x04": ("a ZIP archive or an Excel workbook", "unzip it, or save its sheet as CSV UTF-8"),
    rb"\xd0\xcf\x11\xe0": ("a document of an old Excel", "save its sheet as CSV UTF-8"),
    rb"\x28\xb5\x2f\xfd|BZh[1-9]|\xfd7zXZ\x00": (
        "a compressed file, but not gzip",
        "compress it with gzip, or not at all",
    ),
    rb"PAR1": ("Parquet", _EXPORT),
    rb"Obj\x01": ("Avro", _EXPORT),
    rb"\xff\xfe|\xfe\xff": ("UTF-16 text", "save it as UTF-8"),
    rb"\s*(\[\s*)?\{\s*[\"}]": ("JSON", _EXPORT),
    rb"(?i)\s*<(\?xml|!doctype|html|error)\b": ("XML or HTML", _EXPORT),
}


def other_format(start: bytes) -> str | None:
    """Return what a file seems to be and the remedy, by its first bytes; None if it may be CSV."""
    for pattern, (name, remedy) in _FORMATS.items():
        if re.match(pattern, start):
            return f"the file looks like {name}: {remedy}"
    return None
