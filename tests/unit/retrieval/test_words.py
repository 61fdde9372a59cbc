from __future__ import annotations

import pytest

from dspex_nb.retrieval.words import trigrams, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The `if` statement, twice: IF!", ["the", "if", "statement", "twice", "if"]),
        ("__init__ x1", ["__init__", "x1"]),
        ("Straße \uff21\uff22\uff23", ["strasse", "abc"]),
        ("Cafe\u0301 café", ["café", "café"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("東京都 は大きい", ["東京", "京都", "は大", "大き", "きい"]),
        ("GPT語x", ["gpt", "語", "x"]),
        ("ภาษาไทย", ["ภา", "าษ", "ษา", "าไ", "ไท", "ทย"]),
        ("… — ?!", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_trigrams_mark_the_ends_of_words():
    assert trigrams("If a") == ["  i", " if", "if ", "  a", " a "]
    assert len(set(trigrams("connecting")) & set(trigrams("connected"))) >= 7
