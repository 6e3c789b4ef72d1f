"""HTML and SVG that is escaped by construction: only what `tag` made goes into a page as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from optimize.page_style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_EMPTY = {"meta", "circle", "line", "rect", "path"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Part = str | Html  # a plain str is escaped


def tag(name: str, /, *parts: Part, **attributes: str | float | None) -> Html:
    """An element. `class_` and `for_row` become "class" and "for-row"; None is left out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY:
        return Html(f"<{name}{told}/>")
    return Html(f"<{name}{told}>{join(*parts)}</{name}>")


def join(*parts: Part, by: str = "") -> Html:
    return Html(by.join(part if isinstance(part, Html) else escape(part) for part in parts))


def whole_page(title: str, *parts: Part) -> str:
    """A complete page in our style, which loads nothing and runs no script."""
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    body = tag("main", *parts)
    return f"<!doctype html>\n{tag('html', tag('head', *head), tag('body', body), lang='en')}\n"


def table(caption: Part, head: Sequence[str], rows: Sequence[Sequence[Part]], class_: str = "") -> Html:
    """A table whose first column names the row. Cells carry their column's name, so that a narrow
    screen can show each row as a list; roles keep it a table for screen readers there."""
    titles = [tag("th", title, scope="col", role="columnheader") for title in head]
    body = [tag("tr", *_cells(head, row), role="row") for row in rows]
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *titles, role="row"), role="rowgroup"),
        "\n",
        tag("tbody", join(*body, by="\n"), role="rowgroup"),
        role="table",
        class_=class_ or None,
    )


def pairs(named: Iterable[tuple[str, str]]) -> Html:
    """Names and what they stand for."""
    return tag("dl", *(join(tag("dt", name), tag("dd", text)) for name, text in named), class_="pairs")


def _cells(head: Sequence[str], row: Sequence[Part]) -> list[Html]:
    first, *rest = row
    cells = [tag("th", first, scope="row", role="rowheader")]
    for title, part in zip(head[1:], rest, strict=True):
        cells.append(tag("td", part, role="cell", data_label=title or None))
    return cells


def _value(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else escape(str(value))
