"""The examples of an evaluation as a table to search, filter, sort and page through, however many there are.

The kernel holds the examples and draws one page: the browser never has more than that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.views.formats import one_line, plural, score_text, seconds_text, value_text
from dspex_nb.views.markup import (
    FAINT,
    LINE,
    RED,
    Html,
    button,
    choice_box,
    details,
    join,
    mark,
    muted,
    press,
    search_box,
    tag,
)
from dspex_nb.views.media_views import media_html
from dspex_nb.views.tables import Column, cell_html, grid_html, long_text, number
from dspex_nb.views.trace_views import Brief, CallInfo, trace_html

PAGE = 20
"""Rows on a page."""


@dataclass(frozen=True, slots=True)
class ExampleInfo:
    """One example of an evaluation.

    Attributes:
        index: Its place in the data, counted from 0.
        inputs: What the program was given, by field.
        expected: What the data says, by field.
        got: What the program answered, by field; empty after an error.
        scores: Each metric's value.
        correct: Whether it counts as right; None if the metric is no yes or no.
        latency_s: Seconds it took, None if unknown.
        error: What went wrong, empty if nothing did.
        cached: Whether it was served from the cache.
        calls: Its model calls, for the trace.
        outputs: All fields that were answered, where `got` leaves some out.
    """

    index: int
    inputs: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, Any] = field(default_factory=dict)
    got: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    correct: bool | None = None
    latency_s: float | None = None
    error: str = ""
    cached: bool = False
    calls: Sequence[CallInfo] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it ended in an error or counts as wrong."""
        return bool(self.error) or self.correct is False


_SHOW: dict[str, Callable[[ExampleInfo], bool]] = {
    "all": lambda _: True,
    "failures": lambda example: example.failed,
    "errors": lambda example: bool(example.error),
    "right": lambda example: not example.failed,
}


class ExampleTable:
    """The examples so far, and what of them is looked at; safe from threads.

    Args:
        metrics: The metrics' names, the main one first.
        examples: Those that ended before.
    """

    def __init__(self, metrics: Sequence[str], examples: Sequence[ExampleInfo] = ()) -> None:
        self.metrics = tuple(metrics)
        self._lock = threading.Lock()
        self._examples: list[ExampleInfo] = []
        self._texts: dict[int, str] = {}
        self._find, self._show, self._order, self._page = "", "all", "#", 0
        self._opened: set[int] = set()
        self._found: list[ExampleInfo] = []
        self._looked = 0  # examples that `_found` knows of
        self._failed = self._errors = 0
        self._sum = 0.0
        for example in examples:
            self.add(example)

    def add(self, example: ExampleInfo) -> None:
        """Take an example that ended."""
        with self._lock:
            self._examples.append(example)
            self._failed += example.failed
            self._errors += bool(example.error)
            self._sum += example.scores.get(self.metrics[0], 0.0) if self.metrics else 0.0

    @property
    def done(self) -> tuple[int, int]:
        """How many examples there are, and how many of them ended in an error."""
        with self._lock:
            return len(self._examples), self._errors

    @property
    def mean(self) -> float | None:
        """The main metric's mean so far, None without an example."""
        with self._lock:
            return self._sum / len(self._examples) if self._examples else None

    def choose(self, action: str, value: str) -> None:
        """Do what one of its fields or rows says with its value."""
        acts = {"find": self.find, "show": self.show, "order": self.order, "page": self.turn, "open": self.open}
        if action in acts:
            acts[action](value)

    def find(self, text: str) -> None:
        """Keep the examples in which the text occurs, in whatever case: in inputs, answers, labels or the error."""
        self._change(_find=text.casefold().strip())

    def show(self, which: str) -> None:
        """Keep `"all"`, `"failures"`, `"errors"` or `"right"` ones."""
        self._change(_show=which if which in _SHOW else "all")

    def order(self, by: str) -> None:
        """Sort by `"#"`, a metric's name or `"time"`; the same again turns it round."""
        name = by.removeprefix("-")
        if name in ("#", "time", *self.metrics):
            self._change(_order=f"-{name}" if self._order == name else name)

    def turn(self, page: str) -> None:
        """Go to a page, counted from 0."""
        with self._lock:
            self._page = int(page) if page.isdigit() else 0

    def open(self, index: str) -> None:
        """Show an example's trace, or put it away."""
        with self._lock:
            if index.isdigit():
                self._opened ^= {int(index)}

    def _change(self, **what: str) -> None:
        with self._lock:
            for name, value in what.items():
                setattr(self, name, value)
            self._page, self._looked, self._found = 0, 0, []

    def matching(self) -> list[ExampleInfo]:
        """Return the examples that are looked at, sorted."""
        with self._lock:
            new = self._examples[self._looked :]
            shown = _SHOW[self._show]
            more = [one for one in new if shown(one) and (not self._find or self._find in self._text(one))]
            self._looked = len(self._examples)
            if more:
                backwards = self._order.startswith("-")
                more.sort(key=self._key, reverse=backwards)
                in_order = not self._found or (not backwards and self._key(self._found[-1]) <= self._key(more[0]))
                self._found = [*self._found, *more]
                if not in_order:
                    self._found.sort(key=self._key, reverse=backwards)
            return self._found

    def _key(self, example: ExampleInfo) -> Any:
        name = self._order.removeprefix("-")
        if name == "#":
            return example.index
        return (example.latency_s or 0.0) if name == "time" else example.scores.get(name, 0.0)

    def _text(self, example: ExampleInfo) -> str:
        text = self._texts.get(example.index)
        if text is None:
            values = (*example.inputs.values(), *example.expected.values(), *(example.outputs or example.got).values())
            text = self._texts[example.index] = "\n".join([*map(value_text, values), example.error]).casefold()
        return text

    def html(self) -> Html:
        """Draw the fields to search by and one page of what matches."""
        found = self.matching()
        with self._lock:
            pages = max(1, -(-len(found) // PAGE))
            self._page = min(self._page, pages - 1)
            page, opened, total = self._page, frozenset(self._opened), len(self._examples)
            failed, errors = self._failed, self._errors
        choices = [
            ("all", f"all {total:,}"), ("failures", f"failures ({failed:,})"), ("errors", f"errors ({errors:,})"),
            ("right", f"not failed ({total - failed:,})"),
        ]  # fmt: skip
        bar = tag(
            "div",
            search_box("find", "find in inputs, answers, errors"),
            choice_box("show", choices, self._show, "which examples"),
            muted(plural(len(found), "example")) if len(found) != total else "",
            style="margin: 10px 0 2px 0;",
        )
        shown = found[page * PAGE : (page + 1) * PAGE]
        return join(bar, self._table(shown, opened) if shown else muted("no example matches"), _pager(page, pages))

    def _table(self, shown: Sequence[ExampleInfo], opened: frozenset[int]) -> Html:
        columns = example_columns(self.metrics)
        sorts = ["#", "", "", "", "", *self.metrics, "time"]
        head = tag("tr", *(self._head(column, name) for column, name in zip(columns, sorts, strict=True)))
        rows = [row for example in shown for row in self._rows(example, columns, example.index in opened)]
        return grid_html(head, rows)

    def _head(self, column: Column, sort: str) -> Html:
        arrow = {sort: " ▴", f"-{sort}": " ▾"}.get(self._order, "") if sort else ""
        name = _linked("order", sort, join(column.name, arrow), f"sort by {column.name}") if sort else column.name
        return cell_html("th", column, name)

    def _rows(self, example: ExampleInfo, columns: Sequence[Column], is_open: bool) -> list[Html]:  # noqa: FBT001 - its state
        first, *others = example_cells(example, self.metrics)
        opener = _linked("open", str(example.index), join("▾ " if is_open else "▸ ", first), "show or hide its trace")
        cells = [_cell(column, value) for column, value in zip(columns, [opener, *others], strict=True)]
        look = f"background: {FAINT if is_open else 'none'}; border-bottom: 1px solid {LINE}; cursor: pointer;"
        row = tag("tr", *cells, style=look, data_dspex_action="open", data_dspex_value=str(example.index))
        return [row, _below(trace_html(example), columns)] if is_open else [row]


def traced_rows(examples: Sequence[ExampleInfo], metrics: Sequence[str], *, traces: int, limit: int) -> Html:
    """Draw examples without a kernel, the first `traces` of them with their trace folded below."""
    columns = example_columns(metrics)
    rows, brief = list[Html](), Brief(limit)
    for at, example in enumerate(examples):
        cells = [_cell(column, value) for column, value in zip(columns, example_cells(example, metrics), strict=True)]
        folds = at < traces and bool(example.calls)
        rows.append(tag("tr", *cells, style=f"background: none; border-bottom: {0 if folds else 1}px solid {LINE};"))
        if folds:
            rows.append(_below(details(muted("trace"), trace_html(example, brief), tight=True), columns))
    return grid_html(tag("tr", *(cell_html("th", column, column.name) for column in columns)), rows)


def _below(content: Html, columns: Sequence[Column]) -> Html:
    look = f"text-align: left; white-space: normal; padding: 0 10px 6px 10px; border-bottom: 1px solid {LINE};"
    return tag("tr", tag("td", content, colspan=len(columns), style=look), style="background: none;")


def example_columns(metrics: Sequence[str]) -> list[Column]:
    """Return the columns of a table of examples."""
    columns = [
        number("#"),
        Column("", wrap=False),
        Column("Inputs", width="36%; min-width: 170px"),
        Column("Expected"),
        Column("Got"),
    ]
    return [*columns, *(number(name) for name in metrics), number("Time")]


def example_cells(example: ExampleInfo, metrics: Sequence[str]) -> list[object]:
    """Return an example's cells."""
    took = join(mark("cached") if example.cached else "", " " if example.cached else "", seconds_text(example.latency_s))
    scores = [score_text(example.scores.get(name)) for name in metrics]
    verdict = correctness(example.correct, example.error)
    return [str(example.index), verdict, _folded(example.inputs), fields_html(example.expected), got_html(example), *scores, took]


def correctness(correct: bool | None, error: str = "") -> Html:  # noqa: FBT001 - it is the value shown
    """Return an example's verdict as symbol, colour and word."""
    if error:
        return tag("span", mark("failed"), " error", style="white-space: nowrap;")
    if correct is None:
        return Html("")
    word, state = ("right", "done") if correct else ("wrong", "failed")
    return tag("span", mark(state), " ", word, style="white-space: nowrap;")


def fields_html(values: Mapping[str, Any]) -> Html | str:
    """Return one field's value bare, several each under its name."""
    if len(values) == 1:
        value = next(iter(values.values()))
        return media_html(value) or value_text(value)
    return join(*(tag("div", muted(name, ": "), long_text(value)) for name, value in values.items()))


def got_html(example: ExampleInfo) -> Html | str:
    """Return what was answered, or the error."""
    if example.error:
        return tag("span", one_line(example.error, 300), style=f"color: {RED}; overflow-wrap: break-word;")
    return fields_html(example.got)


def _folded(values: Mapping[str, Any]) -> Html | str:
    if len(values) == 1:
        return fields_html(values)
    return details(one_line(" · ".join(map(value_text, values.values())), 100), fields_html(values), tight=True)


def _cell(column: Column, value: object) -> Html:
    return cell_html("td", column, long_text(value, wrap=column.wrap))


def _pager(page: int, pages: int) -> Html:
    if pages == 1:
        return Html("")
    last = pages - 1
    back = [("|◂", "first page", 0, page == 0), ("◂", "page before", page - 1, page == 0)]
    on = [("▸", "next page", page + 1, page == last), ("▸|", "last page", last, page == last)]
    before, after = (
        [button("page", sign, value=str(to), disabled=ends, title=name) for sign, name, to, ends in side] for side in (back, on)
    )
    here = tag("span", muted(f"page {page + 1:,} of {pages:,}"), style="margin: 0 8px 0 2px;")
    return tag("div", *before, here, *after, style="margin: 6px 0;")


def _linked(action: str, value: str, label: Html, title: str) -> Html:
    """Return a button in the colour of its cell, with what it does as its title."""
    return press(action, value, label, style="color: inherit;", title=title, aria_label=title)
