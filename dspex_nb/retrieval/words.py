"""Text to terms: words of any script, and the three-letter pieces of words."""

from __future__ import annotations

import re
import unicodedata

# Vowel signs and accents are no `\w` in Python, yet belong to the word; scripts without spaces are cut into pairs below.
_MARKS = "\u0300-\u036f\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u200c\u200d"
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[\w{_MARKS}])+")
_PLAIN = re.compile(r"\w+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")


def words(text: str) -> list[str]:
    """Return the words of a text in order, without case; scripts without spaces give overlapping pairs of characters."""
    if text.isascii():  # it has no marks and nothing to normalise, and a plain pattern is many times quicker
        return _PLAIN.findall(text.lower())
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        if _IS_UNSPACED.match(word):
            found.extend(word[at : at + 2] for at in range(max(1, len(word) - 1)))
        else:
            found.append(word)
    return found


def trigrams(text: str) -> list[str]:
    """Return the three-letter pieces of each word, its begin and end marked, so that inflected and misspelt words still meet."""
    found: list[str] = []
    for word in words(text):
        padded = f"  {word} "
        found.extend(padded[at : at + 3] for at in range(len(padded) - 2))
    return found
