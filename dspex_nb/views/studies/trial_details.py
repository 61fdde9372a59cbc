"""One trial opened: what it changed, where it failed, and what it asked the model."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.store.rows import CallRow, ExampleRow, TrialRow
from dspex_nb.views.formats import cost_text, count_text, one_line, plural, score_text, seconds_text, value_text
from dspex_nb.views.markup import (
    GREEN,
    LINE,
    MUTED,
    RED,
    TEXT,
    Html,
    details,
    escape,
    join,
    mark,
    muted,
    pre,
    press,
    section,
    tag,
)
from dspex_nb.views.studies.snapshots import demos_of, instructions_of
from dspex_nb.views.tables import Column, facts_html, number, table_html

MOST_CALLS, MOST_FAILURES = 20, 20
KEPT_ROWS = 5  # of each in a saved notebook, which holds several trials and must stay small
_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_MOST_WORDS = 1500


@dataclass(frozen=True, slots=True)
class CallText:
    """What was asked and answered in one LM call, as far as the cache still holds it."""

    messages: Sequence[Mapping[str, Any]] | None = None
    answers: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class TrialDetail:
    """A trial and what it is compared with.

    Attributes:
        against: The trial it is compared with, None where there is none; `relation` `"parent"` or `"start"`.
        examples: Its scored examples; `rows` the examples themselves by index, where they are at hand.
        calls: Its first LM calls; `total_calls` how many there were.
        opened: The call whose text is shown, by its sequence number.
        text: That text.
    """

    trial: TrialRow
    against: TrialRow | None = None
    relation: str = ""
    examples: Sequence[ExampleRow] = ()
    rows: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    calls: Sequence[CallRow] = ()
    total_calls: int = 0
    opened: int | None = None
    text: CallText | None = None


def trial_detail_html(detail: TrialDetail, *, live: bool = True) -> Html:
    """Draw a trial; `live` for one whose calls open on a click."""
    return join(_changes(detail), _failures(detail, MOST_FAILURES if live else KEPT_ROWS), _calls(detail, live=live))


def _changes(detail: TrialDetail) -> Html:
    told, demos = instructions_of(detail.trial.info), demos_of(detail.trial.info)
    other = detail.against.info if detail.against is not None else {}
    before, had = instructions_of(other), demos_of(other)
    if detail.against is None:
        note = "" if detail.trial.kind != "start" else "the program as it was"
    else:
        note = f"against the {detail.relation}, trial {detail.against.trial}"
    parts: list[Html] = []
    for name, text in told.items():
        shown = diff_html(before.get(name, ""), text) if detail.against is not None else pre(text, max_height_px=260)
        parts += [section("Instructions", " ".join(filter(None, (name, note)))), shown]
    for name, list_ in demos.items():
        if list_ or had.get(name):
            parts += [
                section("Demos", " ".join(filter(None, (name, note)))),
                demos_diff_html(list_, had.get(name, []) if detail.against else list_),
            ]
    return join(*parts) if parts else tag("div", muted("this trial's instructions and demos were not recorded"))


def diff_html(before: str, after: str) -> Html:
    """Draw a text with what was added to it and what was taken away, word by word; long ones line by line."""
    if before == after:
        return join(pre(after, max_height_px=200), tag("div", muted("unchanged"), style="margin: -4px 0 6px 0;"))
    old, new = _WORD.findall(before), _WORD.findall(after)
    if max(len(old), len(new)) > _MOST_WORDS:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    parts: list[Html] = []
    for act, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if act == "equal":
            parts.append(escape("".join(new[c:d])))
            continue
        if b > a:
            parts.append(
                tag("del", "".join(old[a:b]), style=f"background: {RED}2e; color: {TEXT}; text-decoration: line-through;")
            )
        if d > c:
            parts.append(tag("ins", "".join(new[c:d]), style=f"background: {GREEN}38; color: {TEXT}; text-decoration: none;"))
    return pre(join(*parts), max_height_px=300)


def demos_diff_html(demos: Sequence[Any], had: Sequence[Any]) -> Html:
    """List demos: those added first, then those that went, then those kept, folded."""
    keys, old = [_key(demo) for demo in demos], [_key(demo) for demo in had]
    added = [demo for demo, key in zip(demos, keys, strict=True) if key not in old]
    gone = [demo for demo, key in zip(had, old, strict=True) if key not in keys]
    kept = [demo for demo, key in zip(demos, keys, strict=True) if key in old]
    parts = [_demo("+ added", demo, GREEN) for demo in added] + [_demo("\u2212 taken away", demo, RED) for demo in gone]
    if kept:
        listed = [_demo("", demo, LINE) for demo in kept]
        parts.append(details(f"{plural(len(kept), 'demo')} {'as before' if added or gone else ''}".strip(), *listed))
    return join(*parts)


def _demo(word: str, demo: Any, color: str) -> Html:
    values = demo.get("demos", demo) if isinstance(demo, Mapping) else demo
    body = (
        facts_html([(str(name), value) for name, value in values.items() if name != "augmented"])
        if isinstance(values, Mapping)
        else pre(value_text(values), max_height_px=160)
    )
    head = tag("div", word, style=f"color: {color}; font-size: 12px; font-weight: 600;") if word else Html("")
    return tag("div", head, body, style=f"border-left: 3px solid {color}; padding: 0 0 0 10px; margin: 4px 0;")


def _key(demo: Any) -> str:
    return json.dumps(demo, sort_keys=True, default=str)


def _failures(detail: TrialDetail, most: int) -> Html:
    if not detail.examples:
        return Html("")
    broken = [row for row in detail.examples if row.error is not None]
    wrong = [row for row in detail.examples if row.error is None and row.score is not None and row.score <= 0]
    note = f"of {plural(len(detail.examples), 'example')} {len(broken)} ended in an error, {len(wrong)} scored 0"
    if not broken and not wrong:
        return join(
            section("Failures"), tag("div", mark("done"), " ", muted(f"none: all {len(detail.examples)} examples scored above 0"))
        )
    known = any(row.index in detail.rows for row in broken + wrong)
    rows = [
        (
            f"#{row.index}",
            *((_example(detail.rows.get(row.index)),) if known else ()),
            join(mark("failed"), " ", one_line(row.error, 300)) if row.error is not None else score_text(row.score),
            seconds_text(row.elapsed_s),
        )
        for row in (broken + wrong)[:most]
    ]
    inside = [Column("", width="45%")] if known else []
    columns = [Column("Example", wrap=False), *inside, Column("Score or error", width="" if known else "80%"), number("Time")]
    return join(section("Failures", note), table_html(columns, rows, total=len(broken) + len(wrong), rest="the study's examples"))


def _example(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else " · ".join(f"{name}: {one_line(value_text(value), 120)}" for name, value in row.items())


def _calls(detail: TrialDetail, *, live: bool) -> Html:
    if not detail.calls:
        return join(section("LM calls"), tag("div", muted("none recorded")))
    stepped, failed = any(call.step for call in detail.calls), any(call.error for call in detail.calls)
    rows: list[Sequence[object]] = []
    for call in detail.calls if live else detail.calls[:KEPT_ROWS]:
        opened = call.seq == detail.opened
        name = "" if call.index is None else f"#{call.index}"
        shown = (
            press("call", "" if opened else call.seq, "▾ " if opened else "▸ ", name or "call", aria_expanded=str(opened).lower())
            if live
            else name
        )
        rows.append(
            (
                shown,
                *((call.step,) if stepped else ()),
                count_text(call.prompt_tokens),
                count_text(call.completion_tokens),
                seconds_text(call.elapsed_s),
                _paid(call),
                *((join(mark("failed"), " ", one_line(call.error, 200)) if call.error else "",) if failed else ()),
            )
        )
    columns = [
        Column("Example", wrap=False),
        *([Column("Step", wrap=False)] if stepped else []),
        *(number("Tokens in"), number("out"), number("Time")),
        Column("Paid", wrap=False, width="" if failed else "60%"),
        *([Column("Error", width="60%")] if failed else []),
    ]
    table = table_html(columns, rows, total=detail.total_calls, rest="store.calls")
    opened_text = _call_text(detail) if detail.opened is not None else Html("")
    return join(
        section("LM calls", plural(detail.total_calls, "call") + (": click one to read it" if live else "")), table, opened_text
    )


def _paid(call: CallRow) -> Html | str:
    if call.error:
        return ""
    if call.cached is not None:
        saved = f", saved {cost_text(call.saved_cost)}" if call.saved_cost else ""
        return join(mark("cached"), f" cached ({call.cached}){saved}")
    return cost_text(call.cost)


def _call_text(detail: TrialDetail) -> Html:
    call = next((one for one in detail.calls if one.seq == detail.opened), None)
    if call is None:
        return Html("")
    text = detail.text or CallText()
    parts: list[Html] = []
    for message in text.messages or ():
        parts += [
            tag("div", str(message.get("role", "")), style=f"color: {MUTED}; font-size: 12px;"),
            pre(_content(message), max_height_px=260),
        ]
    if not text.messages:
        parts.append(
            tag(
                "div",
                muted("The prompt is not in the cache any more.")
                if text.answers is None
                else muted("The prompt was not kept with the answer."),
            )
        )
    parts.append(tag("div", "answer", style=f"color: {MUTED}; font-size: 12px; margin-top: 4px;"))
    gone = "it failed: there is no answer" if call.error else "gone from the cache, or never kept there"
    parts += [pre(answer, max_height_px=260) for answer in text.answers or ()] or [tag("div", muted(gone))]
    where = f"example {call.index}, " if call.index is not None else ""
    return tag(
        "div",
        section("Call", f"{where}{call.model}"),
        *parts,
        style=f"border-left: 3px solid {LINE}; padding-left: 10px; margin: 6px 0;",
    )


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str) or content is None:
        return content or ""
    parts = [part.get("text") if isinstance(part, Mapping) and "text" in part else value_text(part) for part in content]
    return "\n".join(str(part) for part in parts)
