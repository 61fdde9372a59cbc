"""Signatures: what goes into a model call and what comes out, as immutable values with DSPy's grammar."""

from __future__ import annotations

from dspex_nb.signatures.codecs import Codec, register_codec, register_package
from dspex_nb.signatures.fields import MISSING, Field, InputField, OutputField
from dspex_nb.signatures.signature import Signature, parse_cell
from dspex_nb.signatures.types import read_type, register_module, type_text

__all__ = [
    "MISSING",
    "Codec",
    "Field",
    "InputField",
    "OutputField",
    "Signature",
    "parse_cell",
    "read_type",
    "register_codec",
    "register_module",
    "register_package",
    "type_text",
]
