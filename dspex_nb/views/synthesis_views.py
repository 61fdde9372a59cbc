"""Examples that a model wrote: how many were asked for, kept and dropped, why, and what they look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.views.formats import cost_text, plural, seconds_text, value_text
from dspex_nb.views.markup import (
    AMBER,
    GREEN,
    RED,
    Html,
    bar,
    button,
    chip,
    details,
    frame,
    heading,
    mark,
    muted,
    notice,
    state_chip,
    tag,
)
from dspex_nb.views.tables import Column, number, rest_note, table_html, table_text

_SHOWN = 25


@dataclass(frozen=True, slots=True)
class SynthesisInfo:
    """A synthesis at one moment.

    Attributes:
        name: The signature's name.
        wanted: Examples asked of it.
        status: `"running"`, `"done"`, `"stopped"` (before there were enough) or `"cancelled"`.
        asked: Answers taken.
        invalid: Those that do not fit the signature.
        duplicates: Those equal to another example or a seed.
        near: Those too much like one.
        failed: Calls that brought no answer.
        reasons: (why, how often) of the dropped ones, the most frequent first.
        fields: The signature's fields, in order.
        examples: Values of the kept ones.
        note: Why it ended early, empty if it did not.
    """

    name: str = ""
    wanted: int = 0
    status: str = "running"
    asked: int = 0
    invalid: int = 0
    duplicates: int = 0
    near: int = 0
    failed: int = 0
    rounds: int = 0
    reasons: Sequence[tuple[str, int]] = ()
    fields: Sequence[str] = ()
    examples: Sequence[Mapping[str, Any]] = ()
    calls: int = 0
    cache_hits: int = 0
    cost: float | None = 0.0
    elapsed_s: float = 0.0
    note: str = ""

    @property
    def kept(self) -> int:
        """How many examples there are."""
        return len(self.examples)


def synthesis_html(info: SynthesisInfo) -> str:
    """Draw a synthesis; Stop is the action `cancel`."""
    stopper = button("cancel", "Stop", danger=True) if info.status == "running" else ""
    share = info.kept / info.wanted if info.wanted else 0.0
    parts = [
        heading(info.name, state_chip(info.status) if info.status != "done" else "", stopper, kind="synthesis"),
        bar(share, color=GREEN if info.kept >= info.wanted else AMBER if info.status != "running" else "#3b82f6"),
        tag("div", *_chips(info)),
    ]
    if info.note:
        parts.append(notice(info.note, color=AMBER))
    if info.reasons:
        rows = [(reason, f"{count:,}") for reason, count in info.reasons[:_SHOWN]]
        dropped = info.asked - info.kept
        parts.append(details(f"Why {plural(dropped, 'answer')} {'was' if dropped == 1 else 'were'} dropped",
                             table_html([Column("Reason"), number("Answers")], rows, limit=None)))  # fmt: skip
    return frame(*parts, _examples(info))


def _chips(info: SynthesisInfo) -> list[Html]:
    chips = [chip(tag("strong", f"{info.kept:,} / {info.wanted:,}"), muted(" kept")), chip(f"{info.asked:,} asked")]
    dropped = (
        ("invalid", info.invalid, RED),
        ("duplicates", info.duplicates, ""),
        ("near duplicates", info.near, ""),
        ("failed calls", info.failed, RED),
    )
    chips += [chip(mark("failed") if color else "", f" {count:,} {name}", color=color) for name, count, color in dropped if count]
    chips += [chip(plural(info.rounds, "round")), chip(seconds_text(info.elapsed_s))]
    if info.calls or info.cache_hits:
        chips.append(chip(plural(info.calls, "LM call"), f" · {info.cache_hits:,} from cache" if info.cache_hits else ""))
        chips.append(chip(muted("cost "), cost_text(info.cost)))
    return chips


def _examples(info: SynthesisInfo) -> Html:
    if not info.examples:
        return Html("")
    shown = info.examples[-_SHOWN:] if info.status == "running" else info.examples[:_SHOWN]
    rows = [tuple(value_text(one.get(name)) for name in info.fields) for one in shown]
    table = table_html([Column(name) for name in info.fields], rows, limit=None)
    return details("Examples", table, rest_note(len(shown), info.kept, ".to_frame()"), opened=True)


def synthesis_text(info: SynthesisInfo) -> str:
    """Write a synthesis as text."""
    dropped = [(info.invalid, "invalid"), (info.duplicates, "duplicate"), (info.near, "near duplicate"), (info.failed, "failed")]
    told = ", ".join(f"{count:,} {name}" for count, name in dropped if count)
    ends = "" if info.status == "done" else f" ({info.status})"
    counts = f"{info.kept:,} of {info.wanted:,} kept, {plural(info.asked, 'answer')} asked for{f', {told}' if told else ''}"
    lines = [f"synthesis of {info.name}{ends}: {counts}, {plural(info.rounds, 'round')}, {seconds_text(info.elapsed_s)}"]
    lines += [info.note] if info.note else []
    if info.examples:
        lines.append(
            table_text(list(info.fields), [tuple(one.get(name) for name in info.fields) for one in info.examples], limit=10)
        )
    return "\n".join(lines)
