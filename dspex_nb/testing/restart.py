"""`found_elsewhere`: what another Python process finds in a store that this one wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TIMEOUT_S = 120
_SCRIPT = """
import json, sys
from dspex_nb.retrieval import retriever
from dspex_nb.testing.embedding import HashEmbedder

asked = json.load(sys.stdin)
made = {"embedder": HashEmbedder()} if asked["embeds"] else {}
found = retriever(asked["kind"], **asked["options"], **made)
first = [one.id for one in found.search(asked["query"], k=1)]
answer = {"count": found.count(), "version": found.version, "first": first}
found.close()
print("\\n" + json.dumps(answer))
"""


@dataclass(frozen=True, slots=True)
class Reopened:
    """What another process found: how many passages, in which version, and the ids that it found first."""

    count: int
    version: str
    first: list[str]


def found_elsewhere(kind: str, options: Mapping[str, Any], query: str, *, embeds: bool) -> Reopened:
    """Open `dx.retriever(kind, **options)` in another Python process and search it once.

    Args:
        kind: The retriever's name.
        options: Texts, numbers and paths; they go by the pipe, so that no password stands in the list of processes.
        query: What to search for.
        embeds: Whether it is made with a `HashEmbedder`.

    Raises:
        AssertionError: The process failed; its last words are the message.
    """
    asked = json.dumps({"kind": kind, "options": dict(options), "query": query, "embeds": embeds}, default=str)
    ended = subprocess.run(  # noqa: S603 - this Python, and a script of ours
        [sys.executable, "-c", _SCRIPT], input=asked, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    if ended.returncode:
        raise AssertionError(f"another process cannot open the {kind} retriever: {ended.stderr[-2000:]}")
    return Reopened(**json.loads(ended.stdout.splitlines()[-1]))
