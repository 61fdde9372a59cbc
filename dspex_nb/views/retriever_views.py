"""A retriever's card, and what a search found: ranked passages with scores, sources, and what matched marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dspex_nb.views.formats import cut, one_line, plural, score_text, seconds_text
from dspex_nb.views.markup import (
    BLUE,
    FAINT,
    LINE,
    Html,
    bar,
    chip,
    details,
    error_notice,
    escape,
    frame,
    heading,
    join,
    mono,
    muted,
    tag,
)
from dspex_nb.views.tables import facts_html, facts_text, table_text

_SHOWN = 360  # characters of a passage around what matched
_BEFORE = 80


@dataclass(frozen=True, slots=True)
class HitInfo:
    """One passage that was found.

    Attributes:
        text: Its whole text.
        score: Its score; None for a sample, which was not searched for.
        title: What its document calls itself.
        place: Where it comes from: source, page, section.
        marks: Begin and end of what matched, in order.
        metadata: What else is known of it, as texts.
    """

    text: str
    score: float | None = None
    title: str = ""
    place: str = ""
    marks: Sequence[tuple[int, int]] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RetrieverInfo:
    """What a retriever's card shows; `passages` is None where the store does not say."""

    name: str
    passages: int | None = None
    facts: Sequence[tuple[str, str]] = ()
    features: Sequence[str] = ()
    sample: Sequence[HitInfo] = ()


@dataclass(frozen=True, slots=True)
class SearchInfo:
    """What a search box shows below its fields; `error` in place of hits."""

    query: str
    hits: Sequence[HitInfo] = ()
    filter: str = ""
    elapsed_s: float | None = None
    error: str = ""


def retriever_html(info: RetrieverInfo) -> str:
    """Draw the card."""
    count = (
        muted("its server does not say how many passages") if info.passages is None else muted(plural(info.passages, "passage"))
    )
    features = join(*(chip(one) for one in info.features))
    sample = join(*(_hit(one, 0.0) for one in info.sample))
    below = details(f"sample of {len(info.sample)}", sample) if info.sample else ""
    facts = facts_html(info.facts) if info.facts else ""
    search = tag("div", muted("search by hand: ", mono(".search_box()")), style="margin-top: 4px;")
    return frame(heading(info.name, count, kind="retriever"), tag("div", features), facts, below, search)


def retriever_text(info: RetrieverInfo) -> str:
    """Write the card."""
    count = "an unknown number of passages" if info.passages is None else plural(info.passages, "passage")
    lines = [f"retriever {info.name}: {count}", f"  can: {', '.join(info.features)}" if info.features else ""]
    facts = facts_text(info.facts) if info.facts else ""
    sample = [f"  e.g. {one_line(one.text)}" for one in info.sample[:1]]
    return "\n".join(part for part in (*lines, facts, *sample) if part)


def search_html(info: SearchInfo) -> str:
    """Draw what was found."""
    if info.error:
        return frame(error_notice(info.error))
    if not info.query.strip():
        return frame(muted("type what to look for"))
    took = f" in {seconds_text(info.elapsed_s)}" if info.elapsed_s is not None else ""
    narrowed = f", filter {one_line(info.filter, 60)}" if info.filter else ""
    if not info.hits:
        return frame(muted(f"nothing found for “{cut(info.query, 60)}”{narrowed}{took}"))
    top = max((one.score or 0.0) for one in info.hits)
    head = muted(f"{plural(len(info.hits), 'passage')} for “{cut(info.query, 60)}”{narrowed}{took}")
    found = join(*(_hit(one, (one.score or 0.0) / top if top > 0 else 0.0, rank) for rank, one in enumerate(info.hits, 1)))
    return frame(tag("div", head, style="margin-bottom: 4px;"), found)


def search_text(info: SearchInfo) -> str:
    """Write what was found as a table."""
    if info.error or not info.hits:
        return info.error or f"nothing found for {info.query!r}"
    rows = [
        [str(rank), score_text(one.score), one.title or one.place, one_line(one.text, 70)]
        for rank, one in enumerate(info.hits, 1)
    ]
    return table_text(["#", "Score", "From", "Passage"], rows, max_width=72)


def marked(text: str, marks: Sequence[tuple[int, int]]) -> tuple[Html, bool]:
    """Return the part of a text around its first mark with the marks drawn, and whether anything was left out."""
    first = marks[0][0] if marks else 0
    start = max(0, first - _BEFORE)
    start = text.rfind(" ", 0, start) + 1 if start else 0
    end = min(len(text), start + _SHOWN)
    parts: list[object] = ["…" if start else ""]
    at = start
    for low, high in marks:
        if low < at or high > end:
            continue
        parts += [text[at:low], tag("mark", text[low:high], style=f"background: {BLUE}33; color: inherit; border-radius: 2px;")]
        at = high
    parts += [text[at:end], "…" if end < len(text) else ""]
    return join(*(escape(part) for part in parts)), bool(start or end < len(text))


def _hit(one: HitInfo, share: float, rank: int = 0) -> Html:
    shown, is_cut = marked(one.text, one.marks)
    title = tag("strong", cut(one.title, 90), style="font-weight: 600;") if one.title else ""
    place = muted(cut(one.place, 110)) if one.place and one.place != one.title else ""
    number = tag("span", f"{rank}", style="display: inline-block; min-width: 20px; font-weight: 600;") if rank else ""
    score = ""
    if one.score is not None:
        score = tag("span", score_text(one.score), style="float: right; font-variant-numeric: tabular-nums; margin-left: 12px;")
    head = tag("div", score, number, join(title, " ") if title else "", place)
    body = tag("div", shown, style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 2px 0;")
    known = list(one.metadata.items())
    whole = tag("div", one.text, style=f"white-space: pre-wrap; overflow-wrap: anywhere; background: {FAINT}; padding: 6px 8px;")
    inside = join(whole if is_cut else "", facts_html(known) if known else "")
    more = details(muted("all of it" if is_cut else "metadata"), inside, tight=True) if is_cut or known else ""
    scale = bar(share, width="160px") if rank else ""
    return tag("div", head, body, scale, more, style=f"border-top: 1px solid {LINE}; padding: 6px 0 8px 0;")
