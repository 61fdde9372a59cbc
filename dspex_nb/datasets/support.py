"""Customer messages with the desk they belong to and how urgent they are; see this folder's README.md."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Literal

from dspex_nb.examples import Example

Split = Literal["train", "val", "test"]


def support_messages(split: Split | None = None) -> list[Example]:
    """Return the shipped messages as examples with `message` as input, `desk` and `urgency` as labels.

    Args:
        split: One of the fixed splits, or all rows.
    """
    text = files("dspex_nb.datasets").joinpath("support_messages.jsonl").read_text(encoding="utf-8")
    rows = (json.loads(line) for line in text.splitlines() if line.strip())
    return [
        Example({k: row[k] for k in ("message", "desk", "urgency")}, ["message"])
        for row in rows
        if split is None or row["split"] == split
    ]
