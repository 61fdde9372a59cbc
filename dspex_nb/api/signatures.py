"""`dx.Signature`: the native signature with its way to DSPy and back."""

from __future__ import annotations

from typing import Any

from dspex_nb import signatures
from dspex_nb.signatures.signature import recast


def _dspy() -> Any:
    from dspex_nb.bridge.conversion import dspy_module

    return dspy_module()


signatures.register_module(
    "dspy",
    _dspy,
    bare=("Audio", "Citations", "Code", "Document", "File", "History", "Image", "Reasoning", "Tool", "ToolCalls"),
)


class Signature(signatures.Signature, as_class=True):
    """What goes in, what comes out, and the instructions between; a value, not a class.

    `Signature("question -> answer: str", "Be brief.")`, or `class QA(Signature): …` with annotations as in DSPy.
    """

    __slots__ = ()

    @property
    def dspy(self) -> Any:
        """The `dspy.Signature` subclass of the same fields, types, descriptions and instructions."""
        from dspex_nb.bridge import to_dspy

        return to_dspy(self)

    @classmethod
    def from_dspy(cls, signature: Any) -> Signature:
        """Return the native signature of a `dspy.Signature` class."""
        from dspex_nb.bridge import from_dspy

        return as_public(from_dspy(signature))


def as_public(signature: signatures.Signature) -> Signature:
    """Return `signature` with the public class's `.dspy`."""
    return signature if isinstance(signature, Signature) else recast(signature, Signature)


def as_signature(signature: Any) -> signatures.Signature:
    """Return a signature from one of ours, its string form, or a `dspy.Signature` class."""
    if isinstance(signature, signatures.Signature):
        return signature
    if isinstance(signature, type) and hasattr(signature, "input_fields"):
        return Signature.from_dspy(signature)
    return Signature(signature)
