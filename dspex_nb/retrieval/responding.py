"""`respond`: an answer as Markdown, HTML or JSON, with numbered citations that point at its passages."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import RetrieverError, did_you_mean
from dspex_nb.passages import Passage
from dspex_nb.retrieval.citing import checked, spans, supported
from dspex_nb.retrieval.reranking import as_passages

FORMATS = ("markdown", "html", "json")
_EXCERPT = 160
_URL = re.compile(r"https?://[^\s<>\"'`()\[\]]+")
_MARKUP = re.compile(r"([\\`*_\[\]<>#|~&!])")
# A tag, or an image, which would be fetched from wherever the answer says; neither where a backslash makes it text already.
_LIVE = re.compile(r"(?<!\\)((?:\\\\)*)(<(?=[a-zA-Z/!?])|!(?=\[))")


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that an answer cites; `number` is its place among the passages, from 1.

    Where the passage's document tells them, `page` counts from 1, `page_end` is the last where it goes over several, and
    `span` is its begin and end among the document's characters.
    """

    number: int
    passage_id: str
    title: str
    source: str
    excerpt: str
    page: int | None = None
    span: tuple[int, int] | None = None
    page_end: int | None = None

    @property
    def pages(self) -> str:
        """Where it stands in words, empty if nothing is known: `page 3`, or `pages 3 to 4`."""
        return pages_text(self.page, self.page_end)

    @property
    def place(self) -> str:
        """The source with its page: `report.pdf, page 3`."""
        return f"{self.source}, {self.pages}" if self.pages else self.source


@dataclass(frozen=True, slots=True)
class Report:
    """A formatted answer; `str(report)` is its text.

    Attributes:
        text: The answer in its format, the list of sources included.
        answer: The answer with its marks, without format and sources.
        citations: What the marks point at, by number.
        removed: Numbers that the answer cited and that point at no passage.
        format: `"markdown"`, `"html"` or `"json"`.
    """

    text: str
    answer: str
    citations: tuple[Citation, ...]
    removed: tuple[int, ...]
    format: str

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str | None:
        return self.text if self.format == "markdown" else None

    def _repr_html_(self) -> str | None:
        return self.text if self.format == "html" else None


def respond(answer: Any, passages: Iterable[Any] | None = None, format: str = "markdown", *, citations: bool = True) -> Report:  # noqa: A002 - cells.md's word
    """Return the answer formatted, with citations.

    Marks such as `[2]` are kept where they point at a passage and taken out where not. An answer without any gets them: each
    sentence most of whose words one passage holds is marked with that passage, others stay without.

    Args:
        answer: A text, often written by a model: in HTML everything of it is escaped, in Markdown its tags and images are.
        passages: What it may cite, numbered from 1 in this order; plain texts will do.
        format: `"markdown"`, `"html"` or `"json"`.
        citations: False for the answer alone, without marks and sources.

    Raises:
        RetrieverError: An unknown format.
    """
    if format not in FORMATS:
        near = did_you_mean(str(format), FORMATS)
        raise RetrieverError(f"there is no format {format!r}", hint=f"{near}it is one of {', '.join(FORMATS)}")
    found = as_passages(passages)
    text, cited, removed = checked("" if answer is None else str(answer).strip(), len(found) if citations else 0)
    if citations and not cited:
        text, cited = supported(text, [one.text for one in found])
    notes = tuple(_citation(number, found[number - 1]) for number in sorted(cited))
    written = {"markdown": _markdown, "html": _html, "json": _json}[format](text, notes)
    return Report(written, text, notes, tuple(removed) if citations else (), format)


def pages_text(page: Any, page_end: Any = None) -> str:
    """Return where a passage stands in words: `page 3`, `pages 3 to 4`, or nothing where no page is known."""
    if not isinstance(page, int):
        return ""
    return f"pages {page} to {page_end}" if isinstance(page_end, int) else f"page {page}"


def _citation(number: int, passage: Passage) -> Citation:
    text = " ".join(passage.text.split())
    if len(text) > _EXCERPT:
        text = text[: _EXCERPT - 1].rsplit(" ", 1)[0] + "…"
    known = {name: value for name in ("page", "page_end", "start", "end") if isinstance(value := passage.metadata.get(name), int)}
    span = (known["start"], known["end"]) if "start" in known and "end" in known else None
    return Citation(number, passage.id, passage.title, passage.source, text, known.get("page"), span, known.get("page_end"))


def _markdown(answer: str, citations: tuple[Citation, ...]) -> str:
    body = "".join(piece if code else _LIVE.sub(r"\1\\\2", piece) for piece, code in spans(answer))  # a model's tags stay text
    if not citations:
        return body
    # The mark is escaped: `[1]: …` at the start of a line would be a link's definition and vanish.
    lines = [f"- \\[{one.number}\\] {_heading_markdown(one)}: {_plain(one.excerpt)}" for one in citations]
    return "\n".join([body, "", "**Sources**", "", *lines])


def _heading_markdown(one: Citation) -> str:
    source = f"<{one.source}>" if _URL.fullmatch(one.source) else _plain(one.source)
    parts = [f"**{_plain(one.title)}**" if one.title.strip() else "", source if one.source != one.title else "", one.pages]
    return ", ".join(part for part in parts if part) or f"`{one.passage_id.replace('`', '')}`"


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _html(answer: str, citations: tuple[Citation, ...]) -> str:
    paragraphs = [
        f'<p style="white-space: pre-wrap">{_escaped(part)}</p>' for part in re.split(r"\n\s*\n", answer) if part.strip()
    ]
    if citations:
        items = [f'<li value="{one.number}">{_heading_html(one)}: {_escaped(one.excerpt)}</li>' for one in citations]
        paragraphs += ["<p><strong>Sources</strong></p>", f"<ol>{''.join(items)}</ol>"]
    return f"<div>{''.join(paragraphs)}</div>"


def _heading_html(one: Citation) -> str:
    label = _escaped(one.title or one.source or one.passage_id)
    if _URL.fullmatch(one.source):
        page = f", {one.pages}" if one.pages else ""
        return f'<a href="{_escaped(one.source)}" rel="noopener noreferrer">{label}</a>{page}'
    place = one.place if one.source != one.title else one.place.removeprefix(one.source).removeprefix(", ")
    rest = f", {_escaped(place)}" if one.title and place else ""
    return f"<strong>{label}</strong>{rest}"


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)


def _json(answer: str, citations: tuple[Citation, ...]) -> str:
    notes = [
        {"number": one.number, "passage_id": one.passage_id, "source": one.source or one.title, "excerpt": one.excerpt}
        | ({"page": one.page} if one.page is not None else {})
        | ({"page_end": one.page_end} if one.page_end is not None else {})
        | ({"span": list(one.span)} if one.span is not None else {})
        for one in citations
    ]
    return json.dumps({"answer": answer, "citations": notes}, ensure_ascii=False, indent=2)
