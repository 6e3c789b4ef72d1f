"""Rows of a file that is CSV with a header, or JSON lines (pure)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping

from headrace.errors import CallerError

Rows = Iterator[tuple[int, Mapping[str, object]]]


def rows_of(text: str, file: str, needed: str, columns: str) -> Rows:
    """The number of each row's line, and its values by column. CallerError says which line of the `file`
    ("log") is wrong, or with `columns` that the header lacks the needed one."""
    if text.lstrip().startswith("{"):
        yield from _json_rows(text, file)
        return
    reader = csv.DictReader(io.StringIO(text))
    if needed not in (reader.fieldnames or ()):
        raise CallerError(f"the {file}'s first line must name its columns{columns}")
    for row in reader:
        yield reader.line_num, row


def _json_rows(text: str, file: str) -> Rows:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as err:
            raise CallerError(f"line {number} of the {file} is no JSON: {err}") from err
        if not isinstance(row, dict):
            raise CallerError(f"line {number} of the {file} is no JSON object")
        yield number, row
