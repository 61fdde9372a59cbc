"""`Ladybug`: the fork in which Kuzu goes on."""

from __future__ import annotations

from dspex_nb.retrieval.stores.kuzu import Kuzu


class Ladybug(Kuzu):
    """Passages in a Ladybug database; vectors are compared one by one.

    Args:
        path: The database's file; in memory if None.
        label: The label of the nodes.
    """

    name = "ladybug"
    package = "ladybug"
