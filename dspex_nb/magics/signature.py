"""`%%signature Name`: declare a signature in a cell, bind it, and show its card."""

from __future__ import annotations

from typing import Any

from dspex_nb import api
from dspex_nb.magics.arguments import Option, Usage
from dspex_nb.signatures import parse_cell

USAGE = Usage(
    "%%signature",
    "Declare a signature: instructions, inputs, '->', outputs. Binds the name and shows the card.",
    ("Name",),
    (
        Option("quiet", "bind it without showing the card"),
        Option("adapter", "whose prompt the card shows", "NAME", choices=("chat", "json", "compact")),
    ),
    "%%signature Triage\nRoute a customer message to the right desk.\n\nmessage: str   # what the customer wrote\n"
    "->\ndesk: Literal['billing', 'tech', 'sales']",
)


def run(shell: Any, line: str, cell: str | None) -> Any:
    """Read the cell, bind the signature, show its card."""
    given = USAGE.parse(line)
    if given.get("help") or cell is None:
        print(USAGE.help_text())  # noqa: T201 - help is asked for
        return
    name = USAGE.name_of(given)
    signature = api.as_public(parse_cell(name, cell, shell.user_ns))
    shell.user_ns[name] = signature
    if not given.get("quiet"):
        api.show_signature(signature, adapter=given.get("adapter"))
