"""What the conformance suite showed of each store, in `proofs.json`: written by a run of it, read by `dx.retrievers()`.

Labels: `live`: the suite passed on the real store. `wire`: it passed against a fake of the store's protocol, over real HTTP.
`import-only`: the client's class was imported and nothing else. An empty label: no run is recorded.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

LABELS = ("live", "wire", "import-only")


@lru_cache(maxsize=1)
def proofs() -> dict[str, dict[str, Any]]:
    """Return what is recorded, by the name of the row."""
    found: dict[str, dict[str, Any]] = json.loads((files("dspex_nb.retrieval") / "proofs.json").read_text(encoding="utf-8"))
    return found


def label_of(name: str) -> str:
    """Return the best label that any row of a kind has: one kind may have run embedded and on a server."""
    labels = {proof["label"] for proof in proofs().values() if proof["kind"] == name}
    return next((label for label in LABELS if label in labels), "")
