"""What a display stores: HTML, text, and what else a front end may prefer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_nb.views.markup import static


def bundle(html: str, text: str, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a mime bundle for `_repr_mimebundle_`.

    Args:
        html: A view; its buttons are left out, as nothing answers them in a saved notebook.
        text: The same for terminals and diffs.
        extra: More mime types, e.g. `{"text/vnd.mermaid": …}`; they may not replace the two above.
    """
    return {**(extra or {}), "text/html": static(html), "text/plain": text}
