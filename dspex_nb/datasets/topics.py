"""Python's own reference texts, as `help("if")` shows them, cut into passages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dspex_nb.passages import Passage

_RULE = re.compile(r"([*=\-^~\"'+#])\1{2,}")
_SHORT = 80


def python_topics() -> list[Passage]:
    """Return the topics of `pydoc_data.topics` by paragraph: ids `if#0`, `if#1`, …; metadata `title`, `section`, `source`.

    Code and grammar stay with the paragraph before them; a paragraph that several topics hold is there once.
    The texts are those of the running Python, so they and their number differ a little between versions.
    """
    from pydoc_data.topics import topics

    found: dict[str, Passage] = {}  # by text: topics repeat each other, and a search should not find a paragraph thrice
    for topic, whole in sorted(topics.items()):
        for number, (section, text) in enumerate(_paragraphs(whole)):
            metadata = {"title": topic, "section": section, "source": "pydoc_data.topics"}
            found.setdefault(text, Passage(text, f"{topic}#{number}", metadata=metadata))
    return list(found.values())


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """Yield each passage with its section's heading."""
    section, held = "", ""
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        heading, _, rule = block.strip().partition("\n")
        if _RULE.fullmatch(rule.strip()):
            if held:
                yield section, held
            section, held = heading.strip(), ""
        elif held and (block.startswith(" ") or held.endswith(":") or len(held) < _SHORT):
            held = f"{held}\n\n{block.rstrip()}"
        elif block.strip():
            if held:
                yield section, held
            held = block.rstrip()
    if held:
        yield section, held
