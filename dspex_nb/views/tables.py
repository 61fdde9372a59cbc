"""Tables as HTML and as aligned text, from the same columns and rows."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from dspex_nb.views.formats import cut, one_line, value_text
from dspex_nb.views.markup import LINE, MUTED, Html, clean, details, escape, join, muted, tag
from dspex_nb.views.media_views import media_html

LIMIT = 50
"""Rows shown of a long table; the rest is in the frame."""
_LONG = 220
_HEAD = 150
_UNBROKEN = 30
_SHORT = 120
_ROW = f"background: none; border-bottom: 1px solid {LINE};"


@dataclass(frozen=True, slots=True)
class Column:
    """How a column looks.

    Attributes:
        name: Its heading, already in words.
        align: `"left"` or `"right"`; numbers go right.
        wrap: Whether its text may break over lines.
        width: A CSS width, empty for what the content needs.
    """

    name: str
    align: str = "left"
    wrap: bool = True
    width: str = ""


def number(name: str) -> Column:
    """Return a column of numbers: right-aligned, never broken."""
    return Column(name, align="right", wrap=False)


def long_text(value: object, *, wrap: bool = True) -> Html:
    """Return a value for a table cell: all of it when short, its beginning and the rest on a click when long."""
    if isinstance(value, Html):
        return value
    if (media := media_html(value)) is not None:
        return media
    text = value_text(value)
    if not wrap and len(text) <= _LONG:
        return escape(text)
    # `anywhere` lets a column shrink to one letter, so it is kept for what would not fit otherwise.
    breaks = "anywhere" if max(map(len, text.split()), default=0) > _UNBROKEN else "break-word"
    if breaks == "break-word" and len(text) <= _SHORT and text == one_line(text, _SHORT):
        return escape(text)  # a table of hundreds of cells is stored in the notebook: no markup that does nothing
    shown = tag("span", text, style=f"white-space: pre-wrap; overflow-wrap: {breaks};")
    return shown if len(text) <= _LONG else details(one_line(text, _HEAD), shown, tight=True)


def table_html(
    columns: Sequence[Column | str],
    rows: Sequence[Sequence[object]],
    *,
    limit: int | None = LIMIT,
    total: int | None = None,
    rest: str = ".frame",
    empty: str = "nothing yet",
) -> Html:
    """Draw rows under headings.

    Args:
        columns: Columns, or their names for plain left-aligned ones.
        rows: Cells; anything that is not our own markup is escaped and, when long, folded.
        limit: Rows shown at most; None for all.
        total: How many rows there are, if `rows` is already a part of them.
        rest: Where the rows not shown are to be had, for the note below.
        empty: The note shown in place of rows when there are none.
    """
    cols = [Column(c) if isinstance(c, str) else c for c in columns]
    if not rows:
        return tag("div", muted(empty), style="padding: 4px 0;")
    shown = rows if limit is None else rows[:limit]
    head = tag("tr", *(cell_html("th", column, column.name) for column in cols), style=_ROW)
    body = [
        tag(
            "tr",
            *(cell_html("td", column, long_text(value, wrap=column.wrap)) for column, value in zip(cols, row, strict=False)),
            style=_ROW,
        )
        for row in shown
    ]
    return join(grid_html(head, body), rest_note(len(shown), total or len(rows), rest))


def grid_html(head: Html, body: Sequence[Html]) -> Html:
    """Return rows that are drawn already as a table, which scrolls in its own box where it is wider than the page."""
    look = "border-collapse: collapse; border: none; width: 100%; margin: 2px 0; font-size: 13px; table-layout: auto;"
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body), style=look), style="overflow-x: auto;")


def rest_note(shown: int, total: int, rest: str = ".frame") -> Html:
    """Return a line that says where the rows not shown are; nothing where all are."""
    if shown >= total:
        return Html("")
    look = f"color: {MUTED}; font-size: 12px; padding: 3px 0;"
    return tag("div", f"first {shown} of {total:,}; all in {rest}", style=look)


def cell_html(name: str, column: Column, content: object) -> Html:
    """Return a cell (`"th"` or `"td"`) as its column looks."""
    wrap = "" if column.wrap else " white-space: nowrap;"
    width = f" width: {column.width};" if column.width else " max-width: 460px;" if column.wrap else ""
    digits = " font-variant-numeric: tabular-nums;" if column.align == "right" else ""
    head = f" font-weight: 500; font-size: 12px; color: {MUTED}; white-space: nowrap;" if name == "th" else ""
    look = f"text-align: {column.align}; vertical-align: top; padding: 3px 14px 3px 0;{wrap}{width}{digits}{head}"
    align = "right" if column.align == "right" else None
    return tag(name, content, style=look, align=align)


def facts_html(facts: Sequence[tuple[str, object]]) -> Html:
    """Draw names and values as a two-column table without headings."""
    rows = [
        tag(
            "tr",
            tag(
                "th",
                name,
                scope="row",
                align="left",
                style="text-align: left; vertical-align: top; white-space: nowrap; font-weight: 500;"
                f" color: {MUTED}; padding: 3px 18px 3px 0; border: none; border-bottom: 1px solid {LINE};",
            ),
            tag(
                "td",
                long_text(value),
                align="left",
                style="text-align: left; vertical-align: top; padding: 3px 0; border: none; width: 100%;"
                f" max-width: 760px; border-bottom: 1px solid {LINE};",
            ),
            style="background: none;",
        )
        for name, value in facts
    ]
    look = "border-collapse: collapse; border: none; width: 100%; margin: 2px 0 8px 0; font-size: 13px; table-layout: auto;"
    return tag("table", tag("tbody", *rows), style=look)


def table_text(
    columns: Sequence[Column | str], rows: Sequence[Sequence[object]], *, limit: int | None = LIMIT, max_width: int = 44
) -> str:
    """Write rows under headings as aligned text, each cell one line of at most `max_width` characters."""
    cols = [Column(c) if isinstance(c, str) else c for c in columns]
    shown = rows if limit is None else rows[:limit]
    cells = [[one_line(clean(value_text(value)), max_width) for value in row] for row in shown]
    widths = [max([_width(column.name), *(_width(row[i]) for row in cells if i < len(row))]) for i, column in enumerate(cols)]
    lines = [[column.name for column in cols], ["─" * width for width in widths], *cells]
    text = "\n".join(
        "  ".join(_pad(value, width, column.align) for value, width, column in zip(line, widths, cols, strict=False)).rstrip()
        for line in lines
    )
    left = len(rows) - len(shown)
    return f"{text}\n… {left:,} more" if left > 0 else text


def facts_text(facts: Sequence[tuple[str, object]], *, max_width: int = 100) -> str:
    """Write names and values as two aligned columns."""
    width = max((_width(name) for name, _ in facts), default=0)
    return "\n".join(f"{_pad(name, width, 'left')}  {cut(' '.join(value_text(v).split()), max_width)}" for name, v in facts)


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, align: str) -> str:
    space = " " * max(width - _width(text), 0)
    return space + text if align == "right" else text + space
