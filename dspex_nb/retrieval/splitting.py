"""`Splitter`: a document's text becomes passages of at most so many tokens, cut where the text itself pauses."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any

from dspex_nb.errors import DataError

Offsets = Callable[[str], list[tuple[int, int]]]

_WORD = re.compile(r"[^\W_]+|[^\w\s]|_", re.UNICODE)
_LONGEST_WORD = 12  # characters a token at most, where no tokenizer says: long words and unspaced scripts are several
_LONGEST_TOKEN = 100  # what is longer, e.g. an encoded picture, a tokenizer takes for one unknown word, of any length
_SENTENCE = re.compile(r"[.!?…][\"')\]»”’]*\s+|[。！？]+")  # noqa: RUF001 - the full stops of Chinese and Japanese
_LINE = re.compile(r"\n")
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)


class Splitter:
    """Splits texts.

    Args:
        chunk_tokens: Tokens in a passage, at most.
        overlap_tokens: Tokens that a passage repeats of the one before, at most; whole sentences where they fit.
        tokens: Returns where each token of a text begins and ends; by default the embedded model's tokenizer where it is
            installed, else words.

    Raises:
        DataError: Numbers that cannot be kept.
    """

    def __init__(self, chunk_tokens: int = 200, overlap_tokens: int = 40, tokens: Offsets | None = None) -> None:
        if chunk_tokens < 1 or not 0 <= overlap_tokens <= chunk_tokens // 2:
            raise DataError(
                f"cannot split with chunk_tokens={chunk_tokens!r} and overlap_tokens={overlap_tokens!r}",
                hint="overlap at most half of a chunk, e.g. chunk_tokens=200, overlap_tokens=40",
            )
        self.chunk_tokens, self.overlap_tokens, self._offsets = chunk_tokens, overlap_tokens, tokens or default_tokens()

    def spans(self, text: str, *, headings: bool = False) -> Iterator[tuple[int, int]]:
        """Yield where each passage begins and ends, in order; each holds at least one token.

        Args:
            text: The text.
            headings: Its lines `# like this` begin sections, which are kept apart.
        """
        offsets = _shortened(self._offsets(text))
        for low, high in self._sections(text, headings):
            first = bisect_left(offsets, (low, low))
            last = bisect_left(offsets, (high, high))
            yield from self._cut(text, offsets[first:last])

    def _sections(self, text: str, headings: bool) -> list[tuple[int, int]]:  # noqa: FBT001 - between two methods
        starts = [start for start, _ in section_starts(text)] if headings else []
        bounds = [0, *(start for start in starts if start), len(text)]
        return [(low, high) for low, high in itertools.pairwise(bounds) if text[low:high].strip()]

    def _cut(self, text: str, offsets: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        if not offsets:
            return
        pauses = _pauses(text, offsets)
        start = 0
        while True:
            end = min(start + self.chunk_tokens, len(offsets))
            if end < len(offsets):
                end = self._best_end(pauses, start, end)
            yield offsets[start][0], offsets[end - 1][1]
            if end >= len(offsets):
                return
            start = self._next_start(pauses, start, end)

    def _best_end(self, pauses: list[list[int]], start: int, end: int) -> int:
        """Return the last token's place: the strongest pause in the second half, the latest of its kind."""
        least = start + max(1, (self.chunk_tokens + 1) // 2)
        for places in pauses:
            at = bisect_right(places, end) - 1
            if at >= 0 and places[at] >= least:
                return places[at]
        return end

    def _next_start(self, pauses: list[list[int]], start: int, end: int) -> int:
        """Return where the next passage begins: at a sentence within the overlap, else exactly the overlap back."""
        earliest = max(start + 1, end - self.overlap_tokens)
        begins = [places[at] for places in pauses if (at := bisect_left(places, earliest)) < len(places)]
        within = [begin for begin in begins if begin <= end]
        return min(within) if within else earliest


def section_starts(text: str) -> list[tuple[int, str]]:
    """Return where each Markdown heading begins, and its words; those inside fenced code are code."""
    fenced = [found.span() for found in _FENCE.finditer(text)]
    return [
        (found.start(), found[1].strip())
        for found in _HEADING.finditer(text)
        if not any(low <= found.start() < high for low, high in fenced)
    ]


def default_tokens() -> Offsets:
    """Return the embedded model's tokenizer, or words where it is not installed."""
    from dspex_nb.retrieval import embedding_local

    return embedding_local.offsets if embedding_local.tokenizer_available() else word_tokens


def word_tokens(text: str) -> list[tuple[int, int]]:
    """Return where words and marks begin and end; a long word counts as several."""
    found: list[tuple[int, int]] = []
    for word in _WORD.finditer(text):
        low, high = word.span()
        step = 1 if high - low > 1 and ord(text[low]) >= 0x2E80 else _LONGEST_WORD  # noqa: PLR2004 - CJK begins there
        found.extend((at, min(at + step, high)) for at in range(low, high, step))
    return found


def _shortened(offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return tokens with those that no model has cut into pieces."""
    found: list[tuple[int, int]] = []
    for low, high in offsets:
        step = _LONGEST_WORD if high - low > _LONGEST_TOKEN else max(1, high - low)
        found.extend((at, min(at + step, high)) for at in range(low, high, step))
    return found


def tokens_of(given: Any) -> Offsets | None:
    """Return the function behind `tokens=`: a function, or an embedder whose model tells its tokens.

    Raises:
        DataError: It is neither.
    """
    backend = getattr(given, "backend", given)
    if hasattr(backend, "offsets"):
        found: Offsets = backend.offsets
        return found
    if given is None or callable(given):
        return given  # type: ignore[no-any-return]
    raise DataError(
        f"tokens= is a {type(given).__name__}",
        hint="give a function from a text to the (begin, end) of each token, or leave it out",
    )


def _pauses(text: str, offsets: list[tuple[int, int]]) -> list[list[int]]:
    """Return the tokens that follow a paragraph's end, a line's, a sentence's: strongest kind first, in order."""
    begins = [begin for begin, _ in offsets]
    low, high = offsets[0][0], offsets[-1][1]
    return [
        list(
            dict.fromkeys(
                at for found in pattern.finditer(text, low, high) if 0 < (at := bisect_left(begins, found.end())) < len(offsets)
            )
        )
        for pattern in (_PARAGRAPH, _SENTENCE, _LINE)
    ]
