"""Inputs become values of their fields' types; what each signature needs for it is looked up once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_nb.adapters.kept import once_per_signature
from dspex_nb.signatures import Signature
from dspex_nb.signatures.accepting import accepting, taken

_accepting = once_per_signature(accepting)


def accepted(signature: Signature, values: Mapping[str, Any], *, paths: bool = False) -> Mapping[str, Any]:
    """Return the inputs as values of their types: bytes, an array or an upload as the image its field wants.

    Args:
        signature: Whose inputs they are.
        values: What was given.
        paths: Whether a text may name a file: only for what the user gave, never for what a model may have written.

    Raises:
        DataError: A value that its field's type cannot be made of.
    """
    makers = _accepting(signature)
    return taken(makers, values, paths=paths) if makers else values
