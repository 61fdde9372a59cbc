"""`Vectors`: rows of numbers as an index holds them, and how they come to the length 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from dspex_nb.errors import RetrieverError

if TYPE_CHECKING:
    import numpy as np

    Vectors: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

EXACT = 1e-6
"""As near to the length 1 as float32 comes."""


_SHORT = 128


def is_unit(row: Vectors) -> bool:
    """Say whether one vector has the length 1.

    A short one is looked at by Python: after a store's own work NumPy's product is not in the processor's cache, and takes twice
    as long.
    """
    length = math.hypot(*row.tolist()) if len(row) <= _SHORT else math.sqrt(row.dot(row))
    return abs(length - 1) < EXACT


def unit(rows: Vectors) -> Vectors:
    """Return rows brought to the length 1; a row of zeros stays."""
    import numpy as np

    if len(rows) == 1:  # a query: NumPy's passes over one row take longer than the search of a small index
        length = math.sqrt(rows[0].dot(rows[0]))
        finite, even = math.isfinite(length), abs(length - 1) < EXACT
        divisor: Any = length or 1.0
    else:
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        finite, even = np.isfinite(lengths).all(), np.abs(lengths - 1).max(initial=0) < EXACT
        divisor = np.where(lengths > 0, lengths, 1)[:, None]
    if not finite:
        raise RetrieverError("a vector holds a number that is not finite", hint="look at what the embedder returns")
    return np.ascontiguousarray(rows if even else rows / divisor)
