"""The marks of citations in an answer: those that point nowhere go, and an answer without gets what supports its sentences."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from dspex_nb.retrieval.words import words

# Code is no place for citations: fenced blocks first, then those in lists, then spans with as many backticks at both ends.
# What Markdown would not take for code must not pass for it here, else a tag in it stays a tag: a fence with a backtick behind
# it opens nothing, nor does an escaped backtick, and a span ends with its paragraph: a line in it begins with a letter, for a
# blank line, a list or a heading would end it.
_ITEM = r"(?:[-*+]|\d{1,9}[.)])[ \t]+"
_CODE = re.compile(
    r"(^[ ]{0,3}(`{3,}(?=[^`\n]*$)|~{3,}(?!~)).*?(?:^[ ]{0,3}\2[`~]*[ \t]*$|\Z)"
    rf"|^[ \t]*(?:{_ITEM})?(`{{3,}}(?=[^`\n]*$)|~{{3,}}(?!~))(?:(?!\n[ \t]*(?:{_ITEM}[`~]{{3}}|[`~]{{3,}}[ \t]*[^\s`~])).)*?"
    r"^[ \t]*\3[`~]*[ \t]*$"  # up to the next opening at most: else many that nobody closes take time by their square
    r"|(?<![`\\])(`+)(?!`)(?:[^\n]|\n[ \t]*(?=[^\W\d_]))+?(?<!`)\4(?!`))",
    re.DOTALL | re.MULTILINE,
)
# `[1]`, `[1, 2]`, `[2-4]`; not `[1](a link)` and not `[1]: a definition`. `items[0]` is an index, for passages count from 1.
_MARK = re.compile(r"(?P<space>(?<![ \t])[ \t]*)\[\s*(?P<numbers>\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*)\s*\](?!\(|:\s)")  # noqa: RUF001 - the dash of ranges
_INDEX = re.compile(r"\w\[0\]$")
_SENTENCE = re.compile(r"[^\n]*?(?:[.!?]+[\"')\]]*(?=\s|$)|[。！？]|(?=\n|$))")  # noqa: RUF001 - the full stops of Chinese and Japanese
_NO_PROSE = re.compile(r"\s*(?:#|\||>\s*$|[-*_=]{3,}\s*$|$)")
_PASSES = 50  # taking a mark out may join what stood around it to another: `[[9]8]`
_SHARE, _SHORTEST = 0.6, 4  # of a sentence's weight that a passage must hold; letters of a word that says something


def spans(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of a Markdown text in order, each with whether it is code."""
    at = 0
    for match in _CODE.finditer(text):
        if match.start() > at:
            yield text[at : match.start()], False
        yield match.group(), True
        at = match.end()
    if at < len(text):
        yield text[at:], False


def checked(text: str, many: int) -> tuple[str, list[int], list[int]]:
    """Return the text without marks that point at none of `many` passages, the numbers cited, and the numbers taken out."""
    cited: list[int] = []
    removed: list[int] = []

    def mend(match: re.Match[str]) -> str:
        if _INDEX.search(match.string[max(0, match.start() - 1) : match.end()]):
            return match.group()
        numbers = _numbers(match["numbers"], many)
        good = [number for number in dict.fromkeys(numbers) if 1 <= number <= many]
        cited.extend(good)
        removed.extend(number for number in numbers if number not in good)
        return f"{match['space']}[{', '.join(map(str, good))}]" if good else ""

    for _ in range(_PASSES):
        cited.clear()
        before, text = text, _in_prose(text, lambda prose: _MARK.sub(mend, prose))
        if text == before:
            break
    return text, list(dict.fromkeys(cited)), list(dict.fromkeys(removed))


def supported(text: str, texts: Sequence[str]) -> tuple[str, list[int]]:
    """Return the text with a mark at each sentence that one of the texts supports by its words, and the numbers used."""
    held = [frozenset(words(one)) for one in texts]
    spread = Counter(word for one in held for word in one)
    cited: list[int] = []

    def mark(match: re.Match[str]) -> str:
        sentence = match.group()
        number = None if _NO_PROSE.match(sentence) else _support(sentence, held, spread)
        if number is None:
            return sentence
        cited.append(number)
        body = sentence.rstrip("\"')] ")
        end = len(body.rstrip(".!?。！？"))  # noqa: RUF001 - the full stops of Chinese and Japanese
        return f"{sentence[:end]} [{number}]{sentence[end:]}"

    marked = _in_prose(text, lambda prose: _SENTENCE.sub(mark, prose))
    return marked, list(dict.fromkeys(cited))


def _support(sentence: str, held: Sequence[frozenset[str]], spread: Counter[str]) -> int | None:
    """Return the number of the passage that holds most of the sentence's words, rare ones counting more; None if too few."""
    said = {word for word in words(sentence) if len(word) >= _SHORTEST or not word.isascii()}
    weights = {word: math.log(1 + (len(held) + 1) / (spread[word] + 0.5)) for word in said}
    whole = sum(weights.values())
    shares = [sum(weights[word] for word in said & one) / whole for one in held] if whole else []
    best = max(shares, default=0.0)
    return shares.index(best) + 1 if best >= _SHARE else None


def _numbers(text: str, many: int) -> list[int]:
    """Return the numbers of a mark; `2-4` means 2, 3, 4, but a range that ends beyond the passages only its ends."""
    found: list[int] = []
    for part in re.split(r"\s*[,;]\s*", text):
        first, *rest = (int(number) for number in re.split(r"\s*[–-]\s*", part))  # noqa: RUF001 - the dash of ranges
        last = rest[-1] if rest else first
        found.extend(range(first, last + 1) if first <= last <= many else dict.fromkeys((first, *rest)))
    return found


def _in_prose(text: str, change: Callable[[str], str]) -> str:
    return "".join(piece if code else change(piece) for piece, code in spans(text))
